"""A frame of an exchange as a record: decoded, put together, understood, scored. Pure work on the CPU.

A frame whose facts do not make sense still becomes a record, with its bytes as they are and kind `other`: what was
seen is never dropped for not being understood.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

import orjson

from policies.records import Arm, Outcome, StickySource
from policies.scoring import ResponseFacts, ScoringConfig, score
from proxy.config.serving import CaptureConfig
from proxy.spool.frames import Frame
from proxy.store.values import FLAGS, BodyPayload, NewRecord, RecordFlag
from proxy.wire.decode import UnknownEncodingError, decode
from proxy.wire.extract import CapturedExchange, Extraction, Pointers, extract
from proxy.wire.extract.values import compact

__all__ = ["Interpreter", "raw_record"]

UserHash = Callable[[bytes], int]

_DECODED_LIMIT: Final = 8 << 20
_MIN_ALIAS: Final = 8
_MAX_ALIAS: Final = 256
_ALIAS_HEADERS: Final = (
    ("rh", "x-ratchet-request-id"),
    ("rh", "x-request-id"),
    ("sh", "x-request-id"),
    ("sh", "request-id"),
)
_NO_TRAIN, _STREAMED, _FALLBACK, _TRUNCATED_REQUEST, _TRUNCATED_RESPONSE, _REDACTED = (
    flag.value for flag in (
        RecordFlag.NO_TRAIN, RecordFlag.STREAMED, RecordFlag.FALLBACK, RecordFlag.TRUNCATED_REQUEST,
        RecordFlag.TRUNCATED_RESPONSE, RecordFlag.REDACTED,
    )
)  # fmt: skip
_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}
_ARMS: Final = {arm.value: arm for arm in Arm}
_SOURCES: Final = {source.value: source for source in StickySource}
# a look into a dictionary takes a fifth of what calling the enumeration does
_UNFINISHED: Final = (None, "in_progress", "queued")
_BROKEN_OFF: Final = (Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.TRUNCATED)


class Interpreter:
    """Turns frames into records. Stateless between calls, safe to use from any thread."""

    def __init__(self, capture: CaptureConfig, scoring: ScoringConfig, user_hash: UserHash | None = None) -> None:
        """`user_hash` names users that only a pointer finds. Raises ValueError for a pointer that is none."""
        self._scoring = scoring
        self._user_hash = user_hash
        self._pointers = Pointers.parse(
            query=capture.query_pointers,
            response=capture.response_pointers,
            user=capture.user_pointers,
            quality=capture.quality_pointers,
        )

    def record(self, frame: Frame) -> NewRecord:
        """The record in `frame`. Raises KeyError, TypeError or ValueError where its facts do not make sense."""
        meta = frame.meta
        request_headers, response_headers = dict(meta["rh"]), dict(meta["sh"])
        request = _decoded(frame.request, request_headers)
        response = _decoded(frame.response, response_headers)
        found = extract(
            CapturedExchange(
                target=meta["p"],
                status=meta["st"],
                request=request,
                response=response,
                request_type=request_headers.get("content-type", ""),
                response_type=response_headers.get("content-type", ""),
            ),
            self._pointers,
        )
        outcome = _outcome(meta, found)
        quality, source, scores = self._quality(meta, outcome, found)
        return NewRecord(
            id=_record_id(meta["id"]),
            user_hash=self._user(meta, found),
            key_source=_SOURCES[meta["src"]],
            arm=_ARMS[meta["arm"]],
            served_by=_ARMS[meta["srv"]],
            model_id=meta["mid"],
            experiment_id=meta.get("exp"),
            epoch=meta["ep"],
            config_id=meta["cfg"],
            kind=found.kind.value,
            method=meta["m"],
            status=meta["st"],
            outcome=outcome,
            duration_us=meta["dur"],
            upstream_us=meta["up"],
            ttfb_us=meta.get("ttfb"),
            own_us=meta["own"],
            request_bytes=meta["rb"],
            response_bytes=meta["sb"],
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            quality=quality,
            quality_source=source,
            flags=_flags(meta, found),
            scores=scores,
            aliases=_aliases(meta, found),
            body=BodyPayload(
                method=meta["m"],
                target=meta["p"],
                request_headers=request_headers,
                response_headers=response_headers,
                request=request,
                response=_put_together(found) or response,
                query=found.query,
                response_text=found.response,
                messages=found.messages,
                request_sha256=meta.get("rsha"),
                response_sha256=meta.get("ssha"),
                error=found.error,
            ),
        )

    def _user(self, meta: dict[str, Any], found: Extraction) -> int | None:
        """The sticky key's hash; outside of an experiment else the user that the body names.

        Inside one, a request without a sticky key was assigned by itself, and has to be counted by itself.
        """
        key: int | None = meta.get("key")
        if key is None and meta.get("exp") is None and found.user is not None and self._user_hash is not None:
            return self._user_hash(found.user.encode())
        return key

    def _quality(
        self, meta: dict[str, Any], outcome: Outcome, found: Extraction
    ) -> tuple[float | None, str | None, dict[str, float]]:
        """The score that counts, its scorer, and all scores. The response's own score wins over the heuristics."""
        scores = {}
        if self._scoring.enabled and _is_answer(meta, outcome, found):
            facts = ResponseFacts(
                text=found.response or "",
                finish_reason=found.finish_reason,
                refused=found.refused,
                json_requested=found.json_requested,
                broken_off=outcome in _BROKEN_OFF or found.error is not None,
                partial_text="ssha" in meta,
            )
            scores["heuristic"] = score(facts, self._scoring).value
        if found.quality is not None:
            scores["pointer"] = found.quality
        source = "pointer" if "pointer" in scores else "heuristic" if scores else None
        return (scores[source] if source else None), source, scores


def _outcome(meta: dict[str, Any], found: Extraction) -> Outcome:
    """How it ended for the user. OpenAI's SDK hangs up at a stream's `[DONE]`, before HTTP's own end has come: whoever
    leaves after the model has said that it is done has had a whole answer."""
    outcome = _OUTCOMES[meta["out"]]
    if outcome is Outcome.CLIENT_DISCONNECT and found.streamed and found.error is None:
        return outcome if found.finish_reason in _UNFINISHED else Outcome.OK
    return outcome


def _is_answer(meta: dict[str, Any], outcome: Outcome, found: Extraction) -> bool:
    """Whether there is an answer to a question, and it is the model's doing how it ended."""
    asked = found.query is not None or "rsha" in meta
    answered = found.response is not None and 200 <= meta["st"] < 300
    return asked and answered and outcome != Outcome.CLIENT_DISCONNECT


def _decoded(body: bytes, headers: dict[str, str]) -> bytes:
    """`body` without its content encoding, whose header goes with it; one that is not known stays, with its header."""
    encoding = headers.get("content-encoding")
    if not encoding or not body:
        return body
    try:
        plain = decode(body, encoding, _DECODED_LIMIT)
    except UnknownEncodingError:
        return body
    del headers["content-encoding"]
    return plain


def _put_together(found: Extraction) -> bytes | None:
    """A streamed response as the log keeps it; None where it was none, or is nested too deeply to be written."""
    try:
        return orjson.dumps(found.reassembled) if found.reassembled is not None else None
    except orjson.JSONEncodeError:
        return None


def _flags(meta: dict[str, Any], found: Extraction) -> RecordFlag:
    flags = _NO_TRAIN if meta.get("nt") or not found.store else 0
    if found.streamed:
        flags |= _STREAMED
    if meta.get("fb") is not None:
        flags |= _FALLBACK
    if "rsha" in meta:
        flags |= _TRUNCATED_REQUEST
    if "ssha" in meta:
        flags |= _TRUNCATED_RESPONSE
    if meta.get("red"):
        flags |= _REDACTED
    return FLAGS[flags]


def _aliases(meta: dict[str, Any], found: Extraction) -> tuple[str, ...]:
    """Other names under which feedback may find the record; short ones (`id: 1`) name something else."""
    names = [found.provider_id, *(meta[side].get(name) for side, name in _ALIAS_HEADERS)]
    return tuple(dict.fromkeys(name for name in names if name and _MIN_ALIAS <= len(name) <= _MAX_ALIAS))


def _record_id(value: str) -> str:
    if len(bytes.fromhex(value)) != 16:
        raise ValueError(f"{value!r} is no record id: 32 hex digits")
    return value


def raw_record(frame: Frame, *, place: str, now_us: int, error: str) -> NewRecord:
    """A record of whatever `frame` is, with nothing interpreted.

    It keeps its own id where that is one; else it gets one from when it was written (or is read, `now_us`) and
    `place`, which names its position in the spool: the same frame gets the same id whenever it is read.
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
        user_hash=None,
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
