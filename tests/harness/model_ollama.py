"""Ollama's own API for the model server: `/api/chat` and `/api/generate`, which stream NDJSON unless told not to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.model_words import COMPLAINT, Script, http_error, json_answer, lines, streamed

__all__ = ["ROUTES"]


async def _chat(request: Request) -> Response:
    asked = await request.json()

    def part(**said: Any) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": "", **said}}

    return _answer(request, asked, asked["messages"][-1]["content"], part, "content")


async def _generate(request: Request) -> Response:
    asked = await request.json()

    def part(**said: Any) -> dict[str, Any]:
        return {"response": "", **said}

    return _answer(request, asked, asked["prompt"], part, "response")


def _answer(
    request: Request, asked: dict[str, Any], text: str, part: Callable[..., dict[str, Any]], key: str
) -> Response:
    """`part` wraps a piece of the answer; `key` is where that has its text."""
    script = Script(text)
    if (failed := http_error(request, script, {"error": f"no: {text}"})) is not None:
        return failed
    facts = {"model": asked["model"], "created_at": "2026-01-01T00:00:00.5Z"}
    ended = {"done": True, "done_reason": "stop", "total_duration": 9, "load_duration": 1,
             "prompt_eval_count": script.prompt_tokens, "prompt_eval_duration": 3,
             "eval_count": script.completion_tokens, "eval_duration": 5}  # fmt: skip
    error = {"error": COMPLAINT}
    if asked.get("stream") is False:
        whole = part(**_thinking(script), **{key: script.said}, **_calls(script))
        return json_answer(request, error if script.broken else facts | whole | ended)
    pieces = script.played(
        opening=(),
        body=lines(*(facts | part(**said) | {"done": False} for said in _pieces(script, key))),
        closing=lines(facts | part() | ended),
        error=lines(error),
    )
    return streamed(request, pieces, "application/x-ndjson")


def _pieces(script: Script, key: str) -> Iterator[dict[str, Any]]:
    if script.thought:
        yield _thinking(script)
    for word in script.words:
        yield {key: word}
    if script.calls:
        yield _calls(script)


def _thinking(script: Script) -> dict[str, Any]:
    return {"thinking": script.thought} if script.thought else {}


def _calls(script: Script) -> dict[str, Any]:
    calls = [{"function": {"name": call.name, "arguments": call.arguments}} for call in script.calls]
    return {"tool_calls": calls} if calls else {}


ROUTES: Final = [
    Route("/api/chat", _chat, methods=["POST"]),
    Route("/api/generate", _generate, methods=["POST"]),
]
