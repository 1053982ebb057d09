"""What goes into the store: records, votes, answers to copies, and how far a spool is stored. Values, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Final

from policies.ballots import FULL_TRUST, BallotTrust
from policies.kinds import OTHER
from policies.records import Arm, Outcome, StickySource
from proxy.store.tables.keys import alias_hash, names_hash

__all__ = [
    "FLAGS",
    "NO_POSITION",
    "Applied",
    "BodyPayload",
    "IngestBatch",
    "JoinedVote",
    "NewAnswer",
    "NewRecord",
    "NewVote",
    "OutsideVote",
    "RecordFlag",
    "SpoolPosition",
]


class RecordFlag(IntFlag):
    """Facts about a record that are true or false. The integer is what the store keeps."""

    NONE = 0
    NO_TRAIN = 1
    """The request asked not to be trained on (`store: false` or the no-train header)."""
    STREAMED = 2
    FALLBACK = 4
    """The champion answered for another arm; counts against that one, where it is evidence."""
    TRUNCATED_REQUEST = 8
    """The captured copy of the request is cut; `request_bytes` is the true size."""
    TRUNCATED_RESPONSE = 16
    REDACTED = 32
    SAMPLE = 64
    """May become training data: set by the store for an OK 2xx exchange of a trainable kind, read whole, with query and
    response text, not NO_TRAIN."""
    UNREAD = 128
    """A part of the answer, or of the request, could not be read: what is recorded is not all that was said."""
    RESENT = 256
    """The request was sent a second time, on a fresh connection, as a kept one had been closed."""
    CLAIMED = 512
    """Nobody vouched for the user that it names: what it says of a model counts for its cluster."""
    REWRITTEN = 1024
    """The model that answered was asked otherwise than the client asked, as its rewrite says."""


FLAGS: Final = tuple(RecordFlag(number) for number in range(2 * max(RecordFlag)))
"""Every combination, at its number: looking it up takes a fiftieth of what combining flags does."""
_FALLBACK: Final = int(RecordFlag.FALLBACK)


@dataclass(slots=True, kw_only=True)
class BodyPayload:
    """What was said. Bodies are content-decoded copies, a streamed response reassembled. Nobody changes one.

    Not frozen, as NewRecord: every record makes one, and a frozen one takes four times as long to make.
    """

    method: str
    target: str
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)
    request: bytes = b""
    response: bytes = b""
    query: str | None = None
    """Text of the last user turn, or the prompt; None where the shape was not understood."""
    response_text: str | None = None
    messages: tuple[Mapping[str, str], ...] = ()
    request_sha256: str | None = None
    """Of the whole body, where the copy is cut."""
    response_sha256: str | None = None
    error: str | None = None
    """What the upstream's answer said went wrong."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class NewRecord:
    """One exchange, as ingest hands it over. Nobody changes one; see BodyPayload."""

    id: str
    user_hash: int | None
    """Signed 64 bits; None when the key was random per request."""
    conversation: int | None = None
    """Hash of the conversation's id, where the client sent one; signed 64 bits."""
    cluster: int | None = None
    """Hash of the credential, else of the network, that the request came with; signed 64 bits, 0 where it cannot be
    told. None: it came by no connection."""
    key_source: StickySource
    arm: Arm
    """Assigned. Statistics count here, whoever answered."""
    served_by: Arm
    model_id: int
    """Model that answered."""
    experiment_id: int | None = None
    epoch: int = 0
    config_id: int = 0
    kind: str = OTHER.name
    """Shape of the exchange: the name of a kind, see `policies.kinds`."""
    method: str = "POST"
    status: int = 0
    """HTTP status sent to the client; 0 when none was."""
    outcome: Outcome = Outcome.OK
    duration_us: int = 0
    upstream_us: int = 0
    ttfb_us: int | None = None
    """From arrival to the head of the answer."""
    ttft_us: int | None = None
    """From arrival to the first event that carries content: text, reasoning or a call."""
    own_us: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    prompt_tokens: int | None = None
    """With those that came from or went into a cache."""
    completion_tokens: int | None = None
    """With those of the reasoning."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    quality: float | None = None
    """The score that counts, in [0, 1]."""
    quality_source: str | None = None
    """Scorer of `quality`: "heuristic" (the format check), "pointer", …"""
    answer_chars: int | None = None
    """Characters of the answer's text."""
    behaviour: int | None = None
    """Bits of `policies.behaviour.Behaviour`; None where nobody looked."""
    signals: int | None = None
    """Bits of `policies.signals.Signal` that it shows by itself; None outside of tests, where nobody looks."""
    prompt_key: int | None = None
    """Hash of all that was asked, with the settings: of the same request again it is the same."""
    answers_key: int | None = None
    """The same of the earlier request whose answer its last turn complains about."""
    thread_key: int | None = None
    """Hash of what stands for the conversation, where it has no id: the answer that it goes on from, or its first
    message."""
    tags: Mapping[str, str] | None = None
    """Of its request, by name (`capture.tag_headers`, `capture.tag_fields`); None without any."""
    flags: RecordFlag = RecordFlag.NONE
    body: BodyPayload | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Further scores by scorer, kept beside the one that counts."""
    aliases: tuple[str, ...] = ()
    """Other names of this record: provider's id (`chatcmpl-…`), client-chosen request id."""

    @property
    def fallback(self) -> bool:
        """The champion answered for another arm."""
        bits: int = self.flags._value_  # `value` takes a function's call
        return bits & _FALLBACK != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVote:
    """One vote as received. Of one source on one record the newest `fid` with a feedback counts."""

    fid: str
    """UUIDv7 hex of the vote: what makes it count once."""
    record_id: str | None
    alias: str | None = None
    """Provider or client id, where no record id was given."""
    source: str = "anonymous"
    feedback: int | None = None
    """1, 0 or -1; None: this message says nothing about it."""
    retracted: bool = False
    """Withdraws all that this source said before: thumb, score, correction and comment."""
    comment: str | None = None
    """Empty: takes the one before it back. See `proxy.store.ingest.words`."""
    correction: str | None = None
    quality_score: float | None = None
    """In [0, 1]; wins over the format check."""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_us: int = 0
    trust: BallotTrust = FULL_TRUST
    """What of it counts; of a caller in this process all does."""
    whole: bool = False
    """It is about the whole conversation: of the record that it names, else of `user_hash` and `conversation`."""
    conversation: int | None = None
    """Hash of the conversation's id, where it names one."""
    user_hash: int | None = None
    """Of whom the conversation is, where it names no record."""
    copied: bool = False
    """It says that the user has copied the answer."""
    external: int | None = None
    """Hash of its id in the system that it comes from: of those with the same one only the newest counts, and one that
    is `retracted` takes back no others."""
    amends: bool = False
    """It changes the vote under that id: what it does not say stays."""
    hashed_alias: int | None = None
    """Instead of `alias`, where only its hash is known."""
    other_names: tuple[int, ...] = ()
    """Hashes of further names of the same record: the first of all that is known tells which one is meant."""
    own_id: str | None = None
    """One of its names as it is, where that may be the record's own id: exported traces are called by it."""

    @property
    def names(self) -> tuple[int, ...]:
        """Hashes of the names by which it knows its record, in the order in which they are tried; none where it has the
        record's id, or names none."""
        if self.record_id is not None:
            return ()
        first = self.hashed_alias if not self.alias else alias_hash(self.alias)
        return tuple(dict.fromkeys(name for name in (first, *self.other_names) if name is not None))

    @property
    def alias_hash(self) -> int | None:
        """The hash under which it waits: that of its name, or of all of them."""
        names = self.names
        return names_hash(names) if len(names) > 1 else next(iter(names), None)

    @property
    def follows(self) -> bool:
        """It names nothing itself: it is on what the vote under its external id is on."""
        return self.external is not None and not self.whole and self.record_id is None and self.alias_hash is None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAnswer:
    """What a challenger without users answered to the copy of a request."""

    check_id: int
    """For which check."""
    record_id: str
    """Of the request."""
    user_hash: int | None
    facts: Mapping[str, Any]
    """JSON: how it went, under `shadow`."""
    data: bytes
    """What it said, packed (`proxy.store.ingest.answers`)."""
    created_us: int
    """When the copy was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedVote:
    """A vote that has found its record: what metrics count."""

    feedback: int | None
    retracted: bool
    counts: bool
    """False where it is only kept: there was no answer to vote on, or whoever sent it may not say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideVote:
    """One vote of another system, as far as it is known here."""

    id: str
    """As that system calls it."""
    changed_s: int
    """When it was changed there, by its clock: Unix seconds."""
    fid: str
    """The vote that was made of it."""
    alias: str | None
    """The name by which that one knows its answer; None where it was no vote on an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestBatch:
    """Everything between two positions of one spool."""

    writer: str
    segment: int
    """Position behind the batch: where reading goes on."""
    offset: int
    after: tuple[int, int] | None = None
    """The position that the batch was read from, `NO_POSITION` where there was none: where the store has another one,
    nothing is stored. None: any position before the batch's own end will do."""
    frames: int = 0
    """Of how many frames of the spool it was made."""
    records: tuple[NewRecord, ...] = ()
    votes: tuple[NewVote, ...] = ()
    answers: tuple[NewAnswer, ...] = ()
    fetched_from: str = ""
    """The installation of another system whose votes are in `fetched`; empty: of none."""
    fetched: tuple[OutsideVote, ...] = ()
    """Which of its votes are known from now on: in the same transaction as what was made of them."""


NO_POSITION: Final = (-1, 0)
"""Where a spool stands of which nothing is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPosition:
    """How far a spool is stored."""

    segment: int = NO_POSITION[0]
    offset: int = NO_POSITION[1]
    frames: int = 0
    """Frames that were stored since they are counted."""
    at_us: int = 0
    """When the last of them were; 0: before they were counted."""

    @property
    def place(self) -> tuple[int, int]:
        """Segment and offset."""
        return self.segment, self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a batch changed: count these, after the commit."""

    records: tuple[NewRecord, ...] = ()
    """Records that were new."""
    votes: tuple[NewVote, ...] = ()
    """Votes that were new, joined or parked."""
    joined: tuple[JoinedVote, ...] = ()
    """Votes that found their record, those that had been parked included."""
    parked: int = 0
    """New votes whose record is not known yet."""
    ambiguous: int = 0
    """Votes by a name that several people's records have; they are kept, for none of them."""
    duplicates: int = 0
    """Records and votes that had been applied before."""
    deleted: int = 0
    """Records, and answers to copies of them, left out because their user was deleted after making them."""
