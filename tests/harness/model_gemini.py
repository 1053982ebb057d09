"""Gemini's API for the model server: `generateContent`, and its stream as events (`?alt=sse`) or as one JSON array."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.model_words import COMPLAINT, Script, events, http_error, id_of, json_answer, streamed, text_of

__all__ = ["ROUTES"]


async def _call(request: Request) -> Response:
    asked = await request.json()
    script = Script(text_of(asked["contents"][-1]["parts"]))
    model, _, method = request.path_params["called"].partition(":")
    refusal = {"error": {"code": script.status, "message": f"no: {script.text}", "status": "TEST"}}
    if (failed := http_error(request, script, refusal)) is not None:
        return failed
    facts = {"modelVersion": model, "responseId": f"gem-{id_of(script.text)}"}
    error = {"error": {"code": 503, "message": COMPLAINT, "status": "UNAVAILABLE"}}
    if method == "generateContent":
        whole = facts | _candidate(_parts(script), "STOP") | _usage(script, script.completion_tokens)
        return json_answer(request, error if script.broken else whole)
    pieces = [facts | _candidate([part]) | _usage(script, 1) for part in _stream_parts(script)]
    last = facts | _candidate([{"text": ""}], "STOP") | _usage(script, script.completion_tokens)
    if request.query_params.get("alt") != "sse":
        return streamed(request, _array([*pieces, last]), "application/json")
    played = script.played(opening=(), body=events(*pieces), closing=events(last), error=events(error))
    return streamed(request, played)


def _candidate(parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate]}


def _parts(script: Script) -> list[dict[str, Any]]:
    thoughts = [{"text": script.thought, "thought": True}] if script.thought else []
    said = [{"text": script.said}] if script.said else []
    calls = [{"functionCall": {"name": call.name, "args": call.arguments}} for call in script.calls]
    return thoughts + said + calls


def _stream_parts(script: Script) -> Iterator[dict[str, Any]]:
    for part in _parts(script):
        if "text" in part and "thought" not in part:
            yield from ({"text": word} for word in script.words)
        else:
            yield part


def _usage(script: Script, completion_tokens: int) -> dict[str, Any]:
    """As far as it is known: the events of a stream count up, and the last one holds."""
    thoughts = min(script.thought_tokens, completion_tokens)
    usage = {"promptTokenCount": script.prompt_tokens, "candidatesTokenCount": completion_tokens - thoughts,
             "totalTokenCount": script.prompt_tokens + completion_tokens}  # fmt: skip
    return {"usageMetadata": usage | ({"thoughtsTokenCount": thoughts} if thoughts else {})}


async def _array(values: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    yield b"["
    for number, value in enumerate(values):
        yield (b",\r\n" if number else b"") + orjson.dumps(value)
    yield b"]"


ROUTES: Final = [Route("/{version}/models/{called}", _call, methods=["POST"])]
