"""Langfuse's scores: `LANGFUSE_BASE_URL=https://…/-/langfuse`, any public key, the feedback token as secret key.

    POST   /api/public/scores           one score, or a list of them (the Python SDK)
    POST   /api/public/ingestion        events (the JavaScript SDK); those that are no scores are taken and dropped
    DELETE /api/public/scores/{id}
    POST   /api/public/otel/v1/traces   taken and dropped: the process that scores sends its traces to the same host
    GET    /api/public/projects, /health   asked by `auth_check()` and by LibreChat

The SDKs drop a whole batch of scores, with a line in their log, at any answer that they do not know; hence 202 where
all were taken, 207 where some were not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from proxy.version import __version__
from proxy.web.ballot_box import BallotBox
from proxy.web.others.scores import SentScore, as_object, first_text, removal
from proxy.web.others.taking import Draft, Taker
from proxy.web.responses import ApiError, JsonResponse
from proxy.web.votes import Vote, VoteError

__all__ = ["routes"]

_SYSTEM: Final = "langfuse"
_BASE: Final = "/-/langfuse/api/public"
_PROJECT: Final = {
    "id": "ratchet",
    "name": "Ratchet",
    "metadata": {},
    "organization": {"id": "ratchet", "name": "Ratchet"},
}
_PROGRAMS: Final = frozenset({"eval", "llm", "code"})
_KEPT: Final = ("tag", "rating")
"""Of a score's metadata, as LibreChat has it."""
_LONGEST_TRACES: Final = 20 << 20


def routes(box: BallotBox) -> Sequence[BaseRoute]:
    """The URLs."""
    api = _Langfuse(Taker(box, lambda status, message: {"message": message, "error": message}))
    route = api.taker.route
    return [
        route("POST", f"{_BASE}/scores", api.scores),
        route("DELETE", f"{_BASE}/scores/{{id:path}}", api.delete),
        route("POST", f"{_BASE}/ingestion", api.ingestion),
        route("POST", f"{_BASE}/otel/v1/traces", api.traces),
        route("GET", f"{_BASE}/projects", api.projects),
        route("GET", f"{_BASE}/health", api.health),
    ]


class _Langfuse:
    def __init__(self, taker: Taker) -> None:
        self.taker = taker

    async def scores(self, request: Request) -> Response:
        document = await self.taker.document(request)
        if not isinstance(document, list):
            score = self._named(document)
            await self.taker.take_all([self._draft(score)])
            return JsonResponse({"id": score["id"]})
        scores = [self._named(item) for item in self.taker.batch(document, "body")]
        taken = await self.taker.take([self._draft(score) for score in scores])
        refused = [_error(score, one) for score, one in zip(scores, taken, strict=True) if isinstance(one, ApiError)]
        if not refused:
            return JsonResponse({"message": "Accepted"}, 202)
        counts = {"accepted": len(taken) - len(refused), "rejected": len(refused)}
        return JsonResponse({**counts, "errors": refused}, 207)

    async def ingestion(self, request: Request) -> Response:
        document = await self.taker.document(request)
        batch = document.get("batch") if isinstance(document, Mapping) else None
        events = [item if isinstance(item, Mapping) else {} for item in self.taker.batch(batch, "batch")]
        scores = [event for event in events if event.get("type") == "score-create"]
        taken = await self.taker.take([self._draft(self._named(event.get("body"))) for event in scores])
        refused = [(event, one) for event, one in zip(scores, taken, strict=True) if isinstance(one, ApiError)]
        errors = [{"status": one.status, **_error(event, one)} for event, one in refused]
        failed = {id(event) for event, _ in refused}
        successes = [
            {"id": first_text(event.get("id")) or "", "status": 201} for event in events if id(event) not in failed
        ]
        ignored = len(events) - len(scores)
        note = {"ignored": ignored, "message": "only scores are kept; other events were dropped"} if ignored else {}
        return JsonResponse({"successes": successes, "errors": errors, **note}, 207)

    async def delete(self, request: Request) -> Response:
        self.taker.admit(request)
        await self.taker.take_all([partial(removal, _SYSTEM, request.path_params["id"])])
        return JsonResponse({"message": "SentScore deletion accepted"}, 202)

    async def traces(self, request: Request) -> Response:
        self.taker.admit(request)
        length = 0
        try:
            async for chunk in request.stream():
                length += len(chunk)
                if length > _LONGEST_TRACES:
                    raise ApiError(413, f"more than {_LONGEST_TRACES} bytes of traces at once")
        except ClientDisconnect as exc:
            raise ApiError(400, "the connection was closed before the end of the body") from exc
        if "json" in request.headers.get("content-type", ""):
            return JsonResponse({})
        return Response(b"", media_type="application/x-protobuf")  # an empty message: all were taken

    async def projects(self, request: Request) -> Response:
        self.taker.admit(request)
        return JsonResponse({"data": [_PROJECT]})

    async def health(self, request: Request) -> Response:
        self.taker.admit(request)
        return JsonResponse({"status": "OK", "version": __version__})

    def _named(self, item: Any) -> Mapping[str, Any]:
        """The score with an id; whatever is no object has none."""
        score = item if isinstance(item, Mapping) else {}
        return {**score, "id": first_text(score.get("id")) or self.taker.new_id(), "valid": score is item}

    def _draft(self, score: Mapping[str, Any]) -> Draft:
        return lambda: _vote(score, self.taker)


def _vote(score: Mapping[str, Any], taker: Taker) -> Vote:
    if not score["valid"]:
        raise VoteError("body", "not an object; send a score with traceId, name and value")
    answer = first_text(score.get("observationId")), first_text(score.get("traceId"))
    session = first_text(score.get("sessionId"))
    if answer == (None, None) and session is None:
        raise VoteError("traceId", "missing; a score is kept for a trace (traceId) or a session (sessionId)")
    name = first_text(score.get("name"))
    if name is None:
        raise VoteError("name", "missing; the name says what the score means")
    metadata = as_object(score.get("metadata") or {}, "metadata")
    origin = first_text(score.get("source"))
    return SentScore(
        system=_SYSTEM,
        name=name,
        value=_value(score),
        other_names=answer,
        session=session,
        user=first_text(metadata.get("userId"), metadata.get("user_id"), metadata.get("user")),
        comment=score.get("comment"),
        correction=score.get("value") if score.get("dataType") == "CORRECTION" else None,
        by=origin if origin is not None and origin.casefold() in _PROGRAMS else None,
        id=score["id"],
        tags={key: metadata.get(key) for key in _KEPT},
    ).vote(taker.names)


def _value(score: Mapping[str, Any]) -> Any:
    """Its value; that of a boolean comes as a number."""
    value = score.get("value")
    if score.get("dataType") == "CORRECTION":
        return None
    return bool(value) if score.get("dataType") == "BOOLEAN" and value in (0, 1) else value


def _error(item: Mapping[str, Any], refusal: ApiError) -> dict[str, Any]:
    return {"id": first_text(item.get("id")) or "", "message": str(refusal), "error": str(refusal)}
