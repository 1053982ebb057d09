"""POST /-/otlp/v1/logs and /-/otlp/v1/traces: votes as OpenTelemetry's GenAI conventions have them.

An event `gen_ai.evaluation.result` names the answer by `gen_ai.response.id`, by its span and by its trace: the first of
them that is known tells which one is meant. What it says is a vote where its name is one of `feedback.thumb_names` or
`feedback.score_names`, else it is kept as a comment; what a model or a program says is never anybody's thumb. All else
that arrives is accepted and ignored, so that a collector may send everything here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from proxy.web.ballot_box import BallotBox
from proxy.web.feedback import read_body
from proxy.web.others.names import Names
from proxy.web.others.otlp_events import Evaluation, Signal, from_json, protobuf_reader
from proxy.web.others.scores import SentScore, first_text
from proxy.web.others.taking import Taker
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError
from proxy.wire.decode import NotEncodedError, UnknownEncodingError, unpacked

__all__ = ["OWN_SCOPE", "routes"]

OWN_SCOPE: Final = "ratchet"
"""The library's name in what Ratchet itself sends out: a collector may send it back here, and it is no second vote."""
_MOST_BYTES: Final = 20 << 20
"""Of a message, packed or not."""
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_SYSTEM: Final = "otlp"
_MOST_NAME: Final = 200
_ANSWERS: Final = ("ratchet.record_id", "gen_ai.response.id")
"""The first is in what Ratchet itself sends out, so that whoever evaluates that may name it."""
_VOTERS: Final = ("user.id", "enduser.id", "gen_ai.evaluation.user.id")
_KINDS: Final = ("gen_ai.evaluation.source.type", "gen_ai.evaluation.evaluator.type", "evaluator.type",
                 "evaluator.kind", "annotator_kind", "annotator.kind", "source_type")  # fmt: skip
"""Attributes in which tools say who evaluates; the conventions have none yet."""
_MACHINES: Final = frozenset(("llm", "llm_judge", "llmjudge", "model", "ai", "code", "program", "api", "heuristic"))
_CODES: Final = {400: 3, 401: 16, 403: 7, 409: 9, 410: 9, 413: 8, 415: 12, 429: 8, 503: 14}
"""gRPC's numbers, as OTLP's errors have them."""


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    endpoint = _OtlpEndpoint(box)

    async def logs(request: Request) -> Response:
        return await endpoint.post(request, "logs")

    async def traces(request: Request) -> Response:
        return await endpoint.post(request, "traces")

    return [Route("/-/otlp/v1/logs", logs, methods=["POST"]), Route("/-/otlp/v1/traces", traces, methods=["POST"])]


class _OtlpEndpoint:
    def __init__(self, box: BallotBox) -> None:
        self._box = box
        self._taker = Taker(box, _status)

    async def post(self, request: Request, signal: Signal) -> Response:
        """Answer one export in its own encoding."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            self._taker.admit(request)
            read = await _reader(kind)
            body = await read_body(request, _MOST_BYTES)
            packing = request.headers.get("content-encoding", "")
            evaluations = await asyncio.to_thread(_understood, body, packing, signal, read)
            rejected, why = await self._take([one for one in evaluations if one.scope != OWN_SCOPE])
        except ApiError as exc:
            self._box.refused(exc)
            return self._failed(exc, kind)
        return _accepted(rejected, why, signal, kind)

    async def _take(self, evaluations: Sequence[Evaluation]) -> tuple[int, str]:
        """Keep what can be kept; how many cannot, and why the first of them.

        A collector puts thousands into one request and sends none of them again after a partial success: they are kept
        in frames of `feedback.max_batch`. Should one not be kept (503), all come again, and the same person's vote on
        the same answer counts once.
        """
        most = self._box.config.max_batch
        refused = []
        for begin in range(0, len(evaluations), most):
            drafts = [partial(_vote, one, self._taker.names) for one in evaluations[begin : begin + most]]
            taken = enumerate(await self._taker.take(drafts), begin + 1)
            refused += [f"evaluation {n} of {len(evaluations)}: {one}" for n, one in taken if isinstance(one, ApiError)]
        return len(refused), refused[0] if refused else ""

    def _failed(self, refusal: ApiError, kind: str) -> Response:
        """The error as a `Status` message."""
        if kind != _PROTOBUF:
            return self._taker.refuse(refusal)
        body = b"".join(_field(n, value) for n, value in enumerate(_status(refusal.status, str(refusal)).values(), 1))
        return Response(body, refusal.status, headers=dict(refusal.headers or {}), media_type=_PROTOBUF)


def _status(status: int, message: str) -> Mapping[str, Any]:
    """The members of a `Status`, in the order of their fields."""
    return {"code": _CODES.get(status, 2), "message": message}


def _vote(one: Evaluation, names: Names) -> Vote:
    """Raises VoteError where it names no answer, or says nothing."""
    said = {name.removeprefix("gen_ai.evaluation."): value for name, value in one.attributes.items()}
    name = (first_text(said.get("name")) or "evaluation")[:_MOST_NAME]
    given = [first_text(one.attributes.get(place)) for place in _ANSWERS]
    answer = [id for id in (*given, one.span_id, one.trace_id) if id]
    if not answer:
        raise VoteError("gen_ai.response.id", f"missing, and so is the trace: {name!r} is about no answer")
    values = [said[place] for place in ("score.value", "score.label") if said.get(place) is not None]
    meant = [value for value in values if names.meaning(name, value)]
    voter = first_text(*(one.attributes.get(place) for place in _VOTERS))
    if voter is None and meant and "quality_score" in names.meaning(name, meant[0]):
        voter = name  # several grades of one answer are not one after the other
    kind = _machine(one.attributes)
    teller = (kind or "", one.service)  # what one tool says replaces neither another's nor a person's
    return SentScore(
        system=_SYSTEM,
        name=name,
        value=(meant[:1] or values[-1:] or [None])[0],
        record_id=answer[0],
        other_names=tuple(answer[1:]),
        user=voter or _SYSTEM,
        id="\0".join((*answer, name, voter or "", *teller)),
        comment=said.get("explanation"),
        by=kind,
        tags={"service": one.service},
    ).vote(names)


def _machine(attributes: Mapping[str, Any]) -> str | None:
    """What has evaluated, where it says that it was no person."""
    for place in _KINDS:
        kind = attributes.get(place)
        if isinstance(kind, str) and kind.casefold() in _MACHINES:
            return kind.casefold()
    return None


async def _reader(kind: str) -> Callable[[bytes, Signal], list[Evaluation]]:
    """What reads a body of this type; imported beside the event loop. Raises ApiError (415)."""
    if kind == _JSON:
        return from_json
    if kind != _PROTOBUF:
        raise ApiError(415, f"content-type {kind[:60] or '(none)'}: send {_PROTOBUF} or {_JSON}")
    try:
        return await asyncio.to_thread(protobuf_reader)
    except ImportError as exc:
        message = "protobuf needs `pip install ratchet-proxy[otel]` on this machine; or send application/json "\
                  "(OTEL_EXPORTER_OTLP_PROTOCOL=http/json)"  # fmt: skip
        raise ApiError(415, message) from exc


def _understood(
    body: bytes, packing: str, signal: Signal, read: Callable[[bytes, Signal], list[Evaluation]]
) -> list[Evaluation]:
    """Raises ApiError (400, 413, 415)."""
    try:
        if packing:
            plain = unpacked(body, packing, _MOST_BYTES)
            if plain.cut:
                raise ApiError(413, f"the message is longer than {_MOST_BYTES} bytes when it is unpacked")
            body = plain.body
        return read(body, signal)
    except NotEncodedError as exc:
        raise ApiError(400, f"content-encoding {packing[:60]}: the body is something else", field="body") from exc
    except UnknownEncodingError as exc:
        raise ApiError(415, f"content-encoding {packing[:60]}: send gzip, or none") from exc
    except (ValueError, RecursionError) as exc:
        raise ApiError(400, f"the body is not an export request ({str(exc)[:200]})", field="body") from exc


def _accepted(rejected: int, why: str, signal: Signal, kind: str) -> Response:
    if kind == _JSON:
        counted = "rejectedLogRecords" if signal == "logs" else "rejectedSpans"
        return JsonResponse({"partialSuccess": {counted: str(rejected), "errorMessage": why}} if rejected else {})
    partial = _field(1, rejected) + _field(2, why)
    return Response(_field(1, partial) if rejected else b"", media_type=_PROTOBUF)


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: answers have two at most, and need no package for that."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))
