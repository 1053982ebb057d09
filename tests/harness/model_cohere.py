"""Cohere's API for the model server: `/v2/chat`, as one JSON object or as named events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.model_words import COMPLAINT, Script, events, http_error, id_of, json_answer, streamed, text_of

__all__ = ["PLAN", "ROUTES"]

PLAN: Final = "I will look it up."
"""What the model says about the tools that it is about to call."""


async def _chat(request: Request) -> Response:
    asked = await request.json()
    script = Script(text_of(asked["messages"][-1]["content"]))
    name = f"coh-{id_of(script.text)}"
    if (failed := http_error(request, script, {"id": name, "message": f"no: {script.text}"})) is not None:
        return failed
    broken = {"finish_reason": "ERROR", "error": COMPLAINT}
    ended = {"finish_reason": "TOOL_CALL" if script.calls else "COMPLETE", "usage": _usage(script)}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": []} if script.broken else _message(script)
        return json_answer(request, {"id": name, "message": message, **(broken if script.broken else ended)})
    started = {"type": "message-start", "id": name, "delta": {"message": {"role": "assistant"}}}
    pieces = script.played(
        opening=events(started, named=True),
        body=events(*_deltas(script), named=True),
        closing=events({"type": "message-end", "delta": ended}, named=True),
        error=events({"type": "message-end", "delta": broken}, named=True),
    )
    return streamed(request, pieces)


def _message(script: Script) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    if script.calls:
        return message | {"tool_plan": PLAN, "tool_calls": [call.as_function(call.json) for call in script.calls]}
    thoughts = [{"type": "thinking", "thinking": script.thought}] if script.thought else []
    return message | {"content": [*thoughts, {"type": "text", "text": script.said}]}


def _deltas(script: Script) -> Iterator[dict[str, Any]]:
    if script.calls:
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": PLAN}}}
    for index, call in enumerate(script.calls):
        yield _event("tool-call-start", index, {"tool_calls": call.as_function("")})
        for half in call.halves:
            yield _event("tool-call-delta", index, {"tool_calls": {"function": {"arguments": half}}})
        yield {"type": "tool-call-end", "index": index}
    blocks = [("thinking", [script.thought])] if script.thought else []
    blocks += [("text", script.words)] if script.said else []
    for index, (kind, pieces) in enumerate(blocks):
        yield _event("content-start", index, {"content": {"type": kind, kind: ""}})
        for piece in pieces:
            yield _event("content-delta", index, {"content": {kind: piece}})
        yield {"type": "content-end", "index": index}


def _event(kind: str, index: int, message: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": index, "delta": {"message": message}}


def _usage(script: Script) -> dict[str, Any]:
    """What is billed is not what was read: Cohere's own preamble is free."""
    return {
        "billed_units": {"input_tokens": 1, "output_tokens": 2},
        "tokens": {"input_tokens": script.prompt_tokens, "output_tokens": script.completion_tokens},
        "cached_tokens": 0,
    }


ROUTES: Final = [Route("/v2/chat", _chat, methods=["POST"])]
