"""A program that uses LiteLLM: `python -m tests.harness.litellm_client`, told what to ask by its standard input.

LiteLLM takes seconds to import, and leaves event loops and sockets behind, so it has a process of its own. A line of
input is a call, `{"how", "facts", "texts"}`; a line of output is a piece of its answer, and the last has `ended` and
the error, if any. Between the pieces of a stream it waits for a line: "next", or anything else to leave.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # the prices of models are else fetched from the network

import litellm

litellm.suppress_debug_info = True
_out, sys.stdout = sys.stdout, sys.stderr


def _tell(**facts: Any) -> None:
    print(json.dumps(facts), file=_out, flush=True)


def _piece(piece: Any, headers: dict[str, str] | None = None) -> None:
    _tell(piece=piece.model_dump(mode="json"), headers=headers)


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _ask(facts: dict[str, Any], texts: Sequence[str]) -> None:
    [text] = texts
    found = litellm.completion(**facts, messages=_messages(text))
    _piece(found, found._hidden_params["additional_headers"])


def _stream(facts: dict[str, Any], texts: Sequence[str]) -> None:
    [text] = texts
    pieces = litellm.completion(**facts, messages=_messages(text), stream=True, stream_options={"include_usage": True})
    for piece in pieces:
        _piece(piece, pieces._hidden_params["additional_headers"])
        if sys.stdin.readline() != "next\n":
            pieces.close()
            return


def _ask_async(facts: dict[str, Any], texts: Sequence[str]) -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(litellm.acompletion(**facts, messages=_messages(text)) for text in texts))

    for found in asyncio.run(ask()):
        _piece(found)


def _stream_async(facts: dict[str, Any], texts: Sequence[str]) -> None:
    async def ask() -> list[Any]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        return [piece async for piece in await litellm.acompletion(**facts, messages=_messages(texts[0]), **options)]

    for piece in asyncio.run(ask()):
        _piece(piece)


_CALLS: dict[str, Callable[[dict[str, Any], Sequence[str]], None]] = {
    "ask": _ask, "stream": _stream, "ask_async": _ask_async, "stream_async": _stream_async,
}  # fmt: skip


def main() -> None:
    """Calls until the input ends."""
    while line := sys.stdin.readline():
        call = json.loads(line)
        error = None
        try:
            _CALLS[call["how"]](call["facts"], call["texts"])
        except Exception as exc:
            error = f"{type(exc).__name__}: {exc}"
        _tell(ended=True, error=error)


if __name__ == "__main__":
    main()
