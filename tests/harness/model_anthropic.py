"""Anthropic's API for the model server: messages, with thinking and tools, and the counting of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.model_openai import error_of
from tests.harness.model_words import COMPLAINT, Script, events, http_error, id_of, json_answer, streamed, text_of

__all__ = ["ROUTES"]


async def _messages(request: Request) -> Response:
    asked = await request.json()
    script = Script(text_of(asked["messages"][-1]["content"]))
    if (failed := http_error(request, script, _wrong(error_of(f"no: {script.text}")))) is not None:
        return failed
    overloaded = _wrong({"type": "overloaded_error", "message": COMPLAINT})
    facts = {"id": f"msg_{id_of(script.text)}", "type": "message", "role": "assistant", "model": asked["model"],
             "stop_sequence": None}  # fmt: skip
    tokens = {"input_tokens": script.prompt_tokens, "output_tokens": script.completion_tokens}
    ended = {"stop_reason": "tool_use" if script.calls else "end_turn"}
    if not asked.get("stream"):
        whole = facts | ended | {"content": _blocks(script), "usage": tokens}
        return json_answer(request, overloaded if script.broken else whole)
    started = facts | {"content": [], "stop_reason": None, "usage": tokens | {"output_tokens": 1}}
    last = {"type": "message_delta", "delta": ended | {"stop_sequence": None}, "usage": tokens}
    pieces = script.played(
        opening=events({"type": "message_start", "message": started}, {"type": "ping"}, named=True),
        body=events(*_deltas(script), named=True),
        closing=events(last, {"type": "message_stop"}, named=True),
        error=events(overloaded, named=True),
    )
    return streamed(request, pieces)


def _wrong(error: dict[str, Any]) -> dict[str, Any]:
    return {"type": "error", "error": error}


def _blocks(script: Script) -> list[dict[str, Any]]:
    thoughts = [{"type": "thinking", "thinking": script.thought, "signature": "signed"}] if script.thought else []
    said = [{"type": "text", "text": script.said}] if script.said else []
    calls = [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in script.calls]
    return thoughts + said + calls


def _deltas(script: Script) -> Iterator[dict[str, Any]]:
    halves = {call.id: call.halves for call in script.calls}
    for index, block in enumerate(_blocks(script)):
        match block["type"]:
            case "thinking":
                empty = {"thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": script.thought},
                          {"type": "signature_delta", "signature": "signed"}]  # fmt: skip
            case "text":
                empty = {"text": ""}
                deltas = [{"type": "text_delta", "text": word} for word in script.words]
            case _:
                empty = {"input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves[block["id"]]]
        yield {"type": "content_block_start", "index": index, "content_block": block | empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}


async def _count_tokens(request: Request) -> Response:
    asked = await request.json()
    return json_answer(request, {"input_tokens": len(text_of(asked["messages"][-1]["content"]).split())})


ROUTES: Final = [
    Route("/v1/messages", _messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
]
