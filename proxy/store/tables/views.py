"""What comes out of the store: records and votes as they are shown, sums, and what a deletion found. Values, no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.ballots import FULL_TRUST, BallotTrust
from policies.records import Arm, Outcome, StickySource
from proxy.store.tables.incoming import BodyPayload, RecordFlag
from proxy.store.tables.keys import id_time_us

__all__ = [
    "Deleted",
    "Page",
    "Pruned",
    "RecordFilter",
    "RecordRow",
    "RecordView",
    "StoreSize",
    "TrafficPoint",
    "TrafficTotals",
    "VoteCounts",
    "VoteView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteView:
    """One stored vote."""

    fid: str
    source: str
    feedback: int | None
    retracted: bool
    comment: str | None
    correction: str | None
    quality_score: float | None
    tags: Mapping[str, str]
    created_us: int
    effective: bool
    """This is the one that counts for its source."""
    trust: BallotTrust = FULL_TRUST
    whole: bool = False
    """It is about the whole conversation, and counts for none of its records."""
    copied: bool = False
    """It says that the user has copied the answer."""
    external: int | None = None
    """Hash of its id in the system that it comes from."""
    amends: bool = False
    """It changes the vote under that id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """A record as lists show it."""

    id: str
    created_us: int
    user_hash: int | None
    conversation: int | None
    cluster: int | None
    key_source: StickySource
    arm: Arm
    served_by: Arm
    model_id: int
    model_name: str | None
    experiment_id: int | None
    epoch: int
    config_id: int
    kind: str
    method: str
    status: int
    outcome: Outcome
    duration_us: int
    upstream_us: int
    ttfb_us: int | None
    ttft_us: int | None
    own_us: int
    request_bytes: int
    response_bytes: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    quality: float | None
    quality_source: str | None
    judged: float | None
    """The judge's score."""
    answer_chars: int | None
    behaviour: int | None
    """Bits of `policies.behaviour.Behaviour`."""
    signals: int | None
    """Bits of `policies.signals.Signal`."""
    prompt_key: int | None
    answers_key: int | None
    thread_key: int | None
    tags: Mapping[str, str] | None
    feedback: float | None
    """Mean of the effective votes in [-1, 1]."""
    flags: RecordFlag
    query: str | None = None
    """Whole text; None where unknown, or when the body has been dropped by retention."""
    response_text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordView:
    """Everything about one record."""

    row: RecordRow
    body: BodyPayload | None
    """None after retention has dropped it."""
    votes: tuple[VoteView, ...]
    """Oldest first."""
    scores: Mapping[str, float]
    """All scores by scorer, the one that counts included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFilter:
    """Which records to list; fields are joined by AND, None leaves one out."""

    since_us: int | None = None
    until_us: int | None = None
    """Exclusive."""
    user_hash: int | None = None
    conversation: int | None = None
    arm: Arm | None = None
    model_id: int | None = None
    experiment_id: int | None = None
    status: int | None = None
    """Exact (404), or a class by its first digit (5 for 5xx)."""
    outcome: Outcome | None = None
    kind: str | None = None
    other_than: str | None = None
    """A kind to leave out."""
    min_quality: float | None = None
    max_quality: float | None = None
    voted: bool | None = None
    min_feedback: float | None = None
    max_feedback: float | None = None
    text: str | None = None
    """Case-insensitive part of the query or response text."""
    tag: tuple[str, str] | None = None
    """Name and value of a tag that the record has, or that a vote gave it."""
    equal: Mapping[str, str | int] = field(default_factory=dict)
    """Values by column, of those that `tables.columns` lets be filtered by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list, newest first."""

    rows: tuple[RecordRow, ...]
    cursor: str | None
    """Hand back to go on; None at the end. A page may be short, even empty, and still have one: each call looks at a
    bounded number of rows."""

    @property
    def searched_to_us(self) -> int | None:
        """How far back this page has looked, Unix µs; None where it came to the end of the records."""
        return id_time_us(self.cursor) if self.cursor is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteCounts:
    """Effective votes."""

    positive: int = 0
    negative: int = 0
    neutral: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPoint:
    """One step of time, for one arm and model."""

    at_us: int
    """Start of the step."""
    arm: Arm
    model_id: int
    requests: int
    errors: int
    """No answer, and that was the model's fault: see `Outcome.failed`."""
    refused: int
    """No answer, as the server declined the request (4xx): see `Outcome.refused`."""
    fallbacks: int
    """The champion answered for another arm; whether that was an answer is counted above."""
    duration_s: float
    """Mean; 0 without requests."""
    p50_s: float | None
    """Of whole answers that were no errors, as are all quantiles; None without any."""
    p95_s: float | None
    prompt_tokens: int
    completion_tokens: int
    votes: VoteCounts
    scored: int
    quality: float | None
    """Mean score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficTotals:
    """Sums over a stretch of time."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    fallbacks: int = 0
    voted: int = 0
    """Records with at least one effective vote."""
    votes: VoteCounts = field(default_factory=VoteCounts)
    scored: int = 0
    quality: float | None = None
    """Mean score."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    tasks: int = 0
    """How many of the requests were chat UIs' own: nothing of those is in `voted`, `votes`, `scored` and `quality`."""

    @property
    def of_users(self) -> int:
        """Requests of people, which is what decisions count."""
        return self.requests - self.tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What deleting a user removed from the database, and which models had been trained on them."""

    at_us: int
    """Everything from before then is deleted, or refused when it comes in."""
    records: int
    bodies: int
    votes: int
    scores: int
    aliases: int
    users: int
    """Rows of the user in the statistics of experiments."""
    words: int
    """Rows of the loop's books that quoted what a training on the user's data had said."""
    models: tuple[str, ...]
    """Names of models whose training data held this user."""
    runs: tuple[str, ...]
    """Training runs whose data held this user."""

    @property
    def rows(self) -> int:
        """All of them."""
        return self.records + self.bodies + self.votes + self.scores + self.aliases + self.users


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a retention pass removed."""

    bodies: int = 0
    records: int = 0
    votes: int = 0
    reason: Literal["age", "size", "nothing"] = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSize:
    """How large the store is."""

    records: int
    """An estimate from the hourly sums."""
    bytes: int
    """On disk, indices and write-ahead log included."""
