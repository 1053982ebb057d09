"""A frame of an exchange as a record: decoded, put together, understood, judged, scored. Pure work on the CPU.

Only an answer has a score: what failed, was refused, was never finished or is still to come has none, whatever of it
can be read. A frame whose facts do not make sense still becomes a record, with its bytes as they are and kind `other`:
what was seen is never dropped for not being understood.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, TypeGuard

import orjson

from policies.kinds import OTHER, TASK
from policies.records import Arm, Outcome, StickySource
from policies.scoring import FORMAT_CHECK, Score, ScoringConfig, score
from proxy.config.serving import CaptureConfig, StickyConfig
from proxy.ingest.aliases import AliasReader
from proxy.ingest.behaviour import behaviour_of, compares_languages
from proxy.ingest.outcome import outcome_of
from proxy.ingest.signals import Shown, shown_by, thread_of
from proxy.ingest.tags import TagReader
from proxy.ingest.tasks import Tasks
from proxy.spool.frames import Frame
from proxy.store.tables.columns import FRAMED, MAYBE_FRAMED
from proxy.store.tables.values import FLAGS, BodyPayload, NewRecord, RecordFlag
from proxy.users.naming_body import NamingBody
from proxy.users.sticky import StickySources
from proxy.wire.arrival import arrival_us
from proxy.wire.decode import NotEncodedError, UnknownEncodingError, unpacked
from proxy.wire.extract import CapturedExchange, Extraction, Pointers, extract
from proxy.wire.extract.shapes import KINDS
from proxy.wire.extract.values import REDACTED, compact
from proxy.wire.person import person_key

__all__ = ["Interpreter", "raw_record"]

UserHash = Callable[[bytes], int]

(_NO_TRAIN, _STREAMED, _FALLBACK, _TRUNCATED_REQUEST, _TRUNCATED_RESPONSE, _REDACTED, _UNREAD, _RESENT, _CLAIMED,
 _REWRITTEN) = (
    flag.value for flag in (
        RecordFlag.NO_TRAIN, RecordFlag.STREAMED, RecordFlag.FALLBACK, RecordFlag.TRUNCATED_REQUEST,
        RecordFlag.TRUNCATED_RESPONSE, RecordFlag.REDACTED, RecordFlag.UNREAD, RecordFlag.RESENT,
        RecordFlag.CLAIMED, RecordFlag.REWRITTEN,
    )
)  # fmt: skip
_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}
_ARMS: Final = {arm.value: arm for arm in Arm}
_SOURCES: Final = {source.value: source for source in StickySource}
# a look into a dictionary takes a fifth of what calling the enumeration does
_OK: Final = Outcome.OK
_TO_COME: Final = ("in_progress", "queued")
"""What an answer says of itself that is only announced."""
_NOT_LOOKED_AT: Final = Shown(None, None, None)
_ANSWERS: Final = frozenset(kind.name for kind in KINDS.values() if kind.trainable)
"""Kinds of which users show what they think."""
_BODILESS: Final = (204, 205, 304)
_IN_HEAD: Final = b"\0the conversation that the head names, of which the hash is known"


class Interpreter:
    """Turns frames into records. Stateless between calls, safe to use from any thread."""

    def __init__(
        self,
        capture: CaptureConfig,
        scoring: ScoringConfig,
        user_hash: UserHash | None = None,
        sticky: StickyConfig | None = None,
    ) -> None:
        """`user_hash` names users that only the body does. Raises ValueError for a bad pointer or pattern."""
        self._scoring = scoring
        self._budget = capture.max_decoded_bytes
        self._tasks = Tasks(capture)
        self._tags = TagReader(capture)
        self._aliases = AliasReader(capture)
        self._user_hash = user_hash
        self._sticky = StickySources(sticky or StickyConfig(), capture.max_request_bytes)
        self._limit = capture.max_request_bytes
        self._pointers = Pointers.parse(
            query=capture.query_pointers,
            response=capture.response_pointers,
            user=capture.user_pointers,
            quality=capture.quality_pointers,
        )

    def record(self, frame: Frame) -> NewRecord:
        """The record in `frame`. Raises KeyError, TypeError or ValueError where its facts do not make sense."""
        meta = frame.meta
        asked_with, answered_with = dict(meta["rh"]), dict(meta["sh"])
        request, request_cut, request_packed = _copied(frame.request, asked_with, self._budget, cut="rsha" in meta)
        response, response_cut, response_packed = _copied(
            frame.response, answered_with, self._budget, cut="ssha" in meta
        )
        lost = meta.get("nr", ())
        """What redaction left nothing of: its words stand in the record, and are nobody's."""
        partial = response_cut or "response" in lost or (not frame.response and meta["sb"] > 0)
        broken_off = meta["out"] != _OK
        key, key_source, parsed = self._key(frame)
        exchange = CapturedExchange.__new__(CapturedExchange)  # as `extract` makes what it gives
        exchange.target, exchange.status = meta["p"], meta["st"]
        exchange.request = b"" if "request" in lost else request
        exchange.response = b"" if "response" in lost else response
        exchange.request_type = asked_with.get("content-type", "")
        exchange.response_type = answered_with.get("content-type", "")
        exchange.request_cut = request_cut or "request" in lost or broken_off
        exchange.response_cut = partial or broken_off
        exchange.parsed = None if "request" in lost else parsed
        found = extract(exchange, self._pointers)
        _recall(meta, found)
        found.unread |= request_packed or response_packed
        text = None if found.finish_reason in _TO_COME and not found.streamed else found.response
        record = NewRecord.__new__(NewRecord)  # field by field: its constructor takes eight times as long
        record.outcome = _outcome(meta, found, partial=partial)
        self._judge(record, meta, found, text, request_cut=request_cut, partial=partial)
        record.user_hash, record.conversation = self._user(meta, key, found), self._conversation(meta, found)
        record.key_source = key_source
        record.kind = self._kind(asked_with, found)
        whole = not request_cut and "request" not in lost
        self._note_signals(record, meta, found, asked_with, whole=whole)
        record.id = _record_id(meta["id"])
        record.arm = _ARMS[meta["arm"]]
        record.served_by = _ARMS[meta["srv"]]
        record.ttft_us = _first_token_us(frame, found, text, decoded="content-encoding" not in answered_with)
        record.prompt_tokens = found.prompt_tokens
        record.completion_tokens = found.completion_tokens
        record.cache_read_tokens = found.cache_read_tokens
        record.cache_write_tokens = found.cache_write_tokens
        record.reasoning_tokens = found.reasoning_tokens
        record.tags = self._tags.of(asked_with, found.request_fields)
        record.flags = _flags(meta, found, request_cut=request_cut, response_cut=response_cut, partial=partial)
        record.aliases = self._aliases.of(found.provider_id, meta["rh"], meta["sh"])
        _copy_facts(record, meta)
        record.body = _payload(meta, asked_with, answered_with, request, response, found, text)
        return record

    def _judge(
        self,
        record: NewRecord,
        meta: dict[str, Any],
        found: Extraction,
        text: str | None,
        *,
        request_cut: bool,
        partial: bool,
    ) -> None:
        """How good the answer is, and how it behaves, as far as there is one and its text is known."""
        answered_well = record.outcome is _OK and 200 <= meta["st"] < 300
        said = found.query is not None or request_cut
        checked = self._check(found, text, partial=partial) if answered_well and said and text is not None else None
        record.quality, record.quality_source, record.scores = (
            self._quality(found, checked) if answered_well else (None, None, {})
        )
        record.behaviour = record.answer_chars = None
        if checked is not None and text is not None:
            languages = meta.get("exp") is not None and compares_languages(meta["id"])
            record.behaviour = behaviour_of(found, text, checked.reasons, languages=languages)
            record.answer_chars = None if partial else len(text)

    def _note_signals(
        self, record: NewRecord, meta: dict[str, Any], found: Extraction, headers: dict[str, str], *, whole: bool
    ) -> None:
        """What the user of a test has shown without voting."""
        shown, record.thread_key = _NOT_LOOKED_AT, None
        if meta.get("exp") is not None and record.kind in _ANSWERS:
            known = record.user_hash is not None
            shown = shown_by(found, headers, record.outcome, meta["st"], whole=whole, user_known=known)
            record.thread_key = thread_of(found, self._user_hash) if record.conversation is None else None
        record.signals = shown.signals
        record.prompt_key = shown.prompt_key
        record.answers_key = shown.answers_key

    def _kind(self, headers: dict[str, str], found: Extraction) -> str:
        """The shape of the exchange, or that a UI asked for itself."""
        is_task = self._tasks.includes(
            headers,
            found.request_fields,
            found.messages,
            query=found.query,
            model=found.model,
            streamed=found.streamed,
        )
        return TASK.name if is_task else found.kind

    def user_of(self, frame: Frame, *, looks: bool = True) -> int | None:
        """The hash of the user that any frame names, whatever sense its facts make; without `looks` only of one whose
        facts say it."""
        try:
            user: int | None = frame.meta["key"] if "key" in frame.meta or not looks else self._key(frame)[0]
        except Exception:  # noqa: BLE001 - it is asked of frames that cannot be read: the queue goes on
            return None
        return user

    def with_user(self, frame: Frame) -> Frame:
        """`frame`, whose facts now say whose it is; as it was where that cannot be told."""
        try:
            key, source, _ = self._key(frame)
        except Exception:  # noqa: BLE001 - as in `user_of`
            return frame
        return replace(frame, meta={**frame.meta, "key": key, "src": source.value})

    def _key(self, frame: Frame) -> tuple[int | None, StickySource, Any]:
        """The sticky key's hash, None where there is no key, and who says so. Where the gateway did not have to know
        it, it is looked for here, as it would have been there; what its body was parsed to is the third."""
        meta = frame.meta
        if "key" in meta:
            return meta["key"], _SOURCES[meta["src"]], None
        headers, in_head = meta["rh"], _IN_HEAD if "conv" in meta else None
        body = NamingBody(frame.request, headers.get("content-type", ""), headers.get("content-encoding"), self._limit)
        key = body.user(self._sticky, in_head)
        if key is None or self._user_hash is None:
            return None, StickySource.RANDOM, body.document
        name, source = key
        return (meta["conv"] if name is in_head else self._user_hash(name)), source, body.document

    def _user(self, meta: dict[str, Any], key: int | None, found: Extraction) -> int | None:
        """The sticky key's hash; outside of an experiment else the user that a pointer finds in the body.

        Inside one, a request without a sticky key was assigned by itself, and has to be counted by itself.
        """
        if key is None and meta.get("exp") is None and _is_name(found.user) and self._user_hash is not None:
            return self._user_hash(person_key(found.user))
        return key

    def _conversation(self, meta: dict[str, Any], found: Extraction) -> int | None:
        """The conversation that the headers name, else the one that the body does; hashed as users are."""
        key: int | None = meta.get("conv")
        if key is None and _is_name(found.conversation) and self._user_hash is not None:
            return self._user_hash(found.conversation.encode())
        return key

    def _check(self, found: Extraction, text: str, *, partial: bool) -> Score | None:
        """What the format check says of an answer; None where all that is known of it is that its copy is empty."""
        partial = partial or found.unread
        checked = score(
            text,
            self._scoring,
            finish_reason=found.finish_reason,
            refused=found.refused,
            json_requested=found.json_requested,
            malformed=found.malformed,
            partial_text=partial,
        )
        return None if partial and "empty" in checked.reasons else checked

    def _quality(self, found: Extraction, checked: Score | None) -> tuple[float | None, str | None, dict[str, float]]:
        """The score that counts, its scorer, and all scores. The response's own score wins over the format check."""
        scores: dict[str, float] = {}
        if self._scoring.enabled and checked is not None:
            scores[FORMAT_CHECK] = checked.value
        if found.quality is not None:
            scores["pointer"] = found.quality
        source = "pointer" if "pointer" in scores else FORMAT_CHECK if scores else None
        return (scores[source] if source else None), source, scores


def _copy_facts(record: NewRecord, meta: dict[str, Any]) -> None:
    """Set what stands in the frame as it is. Raises KeyError where a fact is missing that must be there."""
    for name, key in FRAMED:
        setattr(record, name, meta[key])
    for name, key in MAYBE_FRAMED:
        setattr(record, name, meta.get(key))


def _payload(
    meta: dict[str, Any],
    request_headers: dict[str, str],
    response_headers: dict[str, str],
    request: bytes,
    response: bytes,
    found: Extraction,
    text: str | None,
) -> BodyPayload:
    """What was said, with the bodies decoded and the answer put together."""
    body = BodyPayload.__new__(BodyPayload)
    body.method = meta["m"]
    body.target = meta["p"]
    body.request_headers = request_headers
    body.response_headers = response_headers
    body.request = request
    body.response = _put_together(found) or response
    body.query = found.query
    body.response_text = text
    body.messages = found.messages
    body.request_sha256 = meta.get("rsha")
    body.response_sha256 = meta.get("ssha")
    body.error = found.error
    body.tags = {}
    return body


def _is_name(text: str | None) -> TypeGuard[str]:
    """Whether it names one thing: what redaction has cut into is no name."""
    return text is not None and REDACTED not in text


def _recall(meta: dict[str, Any], found: Extraction) -> None:
    """Add what was known of a stream (`sf`) before redaction made one text of its events."""
    if (said := meta.get("sf")) is not None:
        found.streamed = True
        found.failed |= said.get("failed", False)  # a finish reason stands in the document
        found.whole = said.get("whole", found.whole)
        found.unread = said.get("unread", found.unread) or found.request_unread


def _outcome(meta: dict[str, Any], found: Extraction, *, partial: bool) -> Outcome:
    """How it ended for the user."""
    done = found.whole is True or (found.finish_reason is not None and found.finish_reason not in _TO_COME)
    bodiless = meta["m"] == "HEAD" or meta["st"] in _BODILESS
    silent = found.whole is False and found.kind == OTHER.name and not meta["rb"]  # nobody asked, and nothing happened
    return outcome_of(
        _OUTCOMES[meta["out"]],
        meta["st"],
        headed=meta.get("ttfb") is not None,
        failed=found.failed,
        whole=None if bodiless or silent else found.whole,
        finished=found.streamed and done,
        cut=partial,
    )


def _first_token_us(frame: Frame, found: Extraction, text: str | None, *, decoded: bool) -> int | None:
    """From arrival to the first content: of a stream its first event that has any, of a whole answer its first byte.

    None where nothing was answered, and where nobody knows: a stream of unknown shape, or one that redaction has
    changed and whose first content the gateway did not see.
    """
    meta = frame.meta
    if (seen := meta.get("ttft")) is not None:
        return int(seen)
    marks, head_us = meta.get("mk", ()), meta.get("ttfb")
    if not found.streamed:
        answered = text is not None and not found.failed
        return arrival_us(1, marks, head_us, b"", None) if answered else None
    if found.first_content is None or meta.get("red"):
        return None
    encoding = meta["sh"].get("content-encoding") if decoded else None
    return arrival_us(found.first_content, marks, head_us, frame.response, encoding)


def _copied(body: bytes, headers: dict[str, str], budget: int, *, cut: bool) -> tuple[bytes, bool, bool]:
    """A body as it is kept and read: without its content encoding, whose header goes with it; one that is not undone
    stays, with its header.

    Also whether there was more (beyond what is captured, or beyond what may be decoded), and whether it is still in an
    encoding, so that nobody can read it.
    """
    encoding = headers.get("content-encoding")
    if not encoding or not body:
        return body, cut, False
    try:
        plain = unpacked(body, encoding, budget)
    except NotEncodedError:
        return body, cut, False
    except UnknownEncodingError:
        return body, cut, True
    del headers["content-encoding"]
    return plain.body, cut or plain.cut, False


def _put_together(found: Extraction) -> bytes | None:
    """A streamed response as the log keeps it; None where it was none, or is nested too deeply to be written."""
    try:
        return orjson.dumps(found.reassembled) if found.reassembled is not None else None
    except orjson.JSONEncodeError:
        return None


def _flags(
    meta: dict[str, Any], found: Extraction, *, request_cut: bool, response_cut: bool, partial: bool
) -> RecordFlag:
    flags = _NO_TRAIN if meta.get("nt") or meta.get("nr") or not found.store else 0
    if found.streamed:
        flags |= _STREAMED
    if meta.get("fb") is not None:
        flags |= _FALLBACK
    if request_cut:
        flags |= _TRUNCATED_REQUEST
    if response_cut:
        flags |= _TRUNCATED_RESPONSE
    if meta.get("red"):
        flags |= _REDACTED
    if found.unread or (partial and found.streamed and found.response is not None):
        flags |= _UNREAD  # a document that is cut reads as nothing; of a stream there is a beginning, and no more
    if meta.get("rs"):
        flags |= _RESENT
    if meta.get("cm"):
        flags |= _CLAIMED
    if meta.get("rw"):
        flags |= _REWRITTEN
    return FLAGS[flags]


def _record_id(value: str) -> str:
    if len(bytes.fromhex(value)) != 16:
        raise ValueError(f"{value!r} is not a record id: write 32 hex digits")
    return value


def raw_record(frame: Frame, *, user: int | None, place: str, now_us: int, error: str) -> NewRecord:
    """A record of whatever `frame` is, with nothing interpreted but its `user` (`Interpreter.user_of`).

    It keeps its own id where that is one; else it gets one from when it was written (or is read, `now_us`) and
    `place`, which names its position in the spool: the same frame gets the same id whenever it is read. It belongs to
    that user, so that it is deleted with them.
    """
    facts: Any = frame.meta  # any JSON, in a frame that somebody else wrote
    meta = facts if isinstance(facts, dict) else {}
    at_us = meta.get("t")
    if type(at_us) is not int or not 0 <= at_us < 1 << 55:
        at_us = now_us
    try:
        record_id = _record_id(meta["id"])
    except (KeyError, TypeError, ValueError):
        digest = blake2b(place.encode(), digest_size=10).hexdigest()
        record_id = f"{at_us // 1000:012x}7{digest[:3]}8{digest[3:18]}"
    return NewRecord(
        id=record_id,
        user_hash=user if type(user) is int and -(1 << 63) <= user < 1 << 63 else None,
        key_source=StickySource.RANDOM,
        arm=Arm.CHAMPION,
        served_by=Arm.CHAMPION,
        model_id=0,
        method="",
        flags=RecordFlag.NO_TRAIN,
        body=BodyPayload(
            method="",
            target="",
            request=frame.request,
            response=frame.response,
            error=error[:500],
            tags={"frame": str(frame.kind), "facts": compact(facts)},
        ),
    )
