"""The official Ollama client, unchanged but for `host`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pydantic
import pytest

from tests.harness.late import Late, late
from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow

ollama = late("ollama")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("ollama")) as way:
        yield way


class OllamaChat(Caller):
    """A user has a client of their own, whose header names them: Ollama knows no users."""

    kind = "ollama"
    errors = Late(lambda: (ollama.ResponseError, pydantic.ValidationError))
    """The latter for a 200 that is nothing but an error."""
    shows_headers = False

    def __init__(self, url: str, user: str | None = None) -> None:
        self._facts: dict[str, Any] = {"host": url, "headers": {"x-ratchet-user": user} if user else None}
        self._client = ollama.Client(**self._facts)

    def ask(self, text: str) -> Any:
        return self._client.chat(**chat(text))

    def stream(self, text: str) -> Iterator[Any]:
        return self._client.chat(**chat(text), stream=True)

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with ollama.AsyncClient(**self._facts) as client:
            return await asyncio.gather(*(client.chat(**chat(text)) for text in texts))

    async def stream_async(self, text: str) -> list[Any]:
        async with ollama.AsyncClient(**self._facts) as client:
            return [piece async for piece in await client.chat(**chat(text), stream=True)]

    def close(self) -> None:
        self._client.close()

    def said(self, piece: Any) -> str:
        return piece.message.content or ""

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls = [call.function for piece in pieces for call in piece.message.tool_calls or ()]
        return [(call.name, call.arguments) for call in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        return pieces[-1].prompt_eval_count, pieces[-1].eval_count


def chat(text: str) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


class TestChat(Contract):
    caller = OllamaChat


@pytest.mark.parametrize("text", ["generate", "generate and ponder"])
@pytest.mark.parametrize("stream", [False, True])
def test_generate(way: Way, text: str, stream: bool) -> None:
    text = f"{text} streamed" if stream else f"{text} whole"

    def generate(url: str) -> list[Any]:
        with ollama.Client(url) as client:
            found = client.generate("small", text, stream=stream)
            return [*found] if stream else [found]

    direct, proxied = map(generate, way.urls)
    assert proxied == direct
    assert "".join(piece.response for piece in proxied) == answer_to(text)
    [row] = way.records(text=text)
    asked(row, text, "ollama")
    assert (row["prompt_tokens"], row["completion_tokens"]) == (proxied[-1].prompt_eval_count, proxied[-1].eval_count)


def test_without_a_header_the_first_message_tells_users_apart(way: Way) -> None:
    with ollama.Client(way.proxied) as client:
        client.chat(**chat("nobody in particular"))
        first = [{"role": "user", "content": "nobody in particular"}, {"role": "assistant", "content": "Well."}]
        client.chat("small", [*first, {"role": "user", "content": "the same nobody"}])
    [row] = way.records(text="the same nobody")
    [before] = way.records(text="nobody in particular")
    assert (row["user"], row["key_source"]) == (before["user"], "first-message")
