"""The official Google GenAI SDK, unchanged but for `base_url`: it sees what it would without us, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.harness.late import Late, late
from tests.harness.sdk import Way, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow

genai = late("google.genai")


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("gemini")) as way:
        yield way


class Gemini(Caller):
    """A user has a client of their own, whose header names them: the API knows no users."""

    kind = "gemini"
    errors = Late(lambda: (genai.errors.APIError,))

    def __init__(self, url: str, user: str | None = None) -> None:
        headers = {"x-ratchet-user": user} if user else {}
        self._facts: dict[str, Any] = {"api_key": "key", "http_options": {"base_url": url, "headers": headers}}
        self._client = genai.Client(**self._facts)

    def ask(self, text: str) -> Any:
        return self._client.models.generate_content(model="small", contents=text)

    def stream(self, text: str) -> Iterator[Any]:
        return self._client.models.generate_content_stream(model="small", contents=text)

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with genai.Client(**self._facts).aio as client:
            return await asyncio.gather(
                *(client.models.generate_content(model="small", contents=text) for text in texts)
            )

    async def stream_async(self, text: str) -> list[Any]:
        async with genai.Client(**self._facts).aio as client:
            return [piece async for piece in await client.models.generate_content_stream(model="small", contents=text)]

    def close(self) -> None:
        self._client.close()

    def said(self, piece: Any) -> str:
        return "".join(part.text or "" for part in _parts(piece) if not part.thought)

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls = [part.function_call for piece in pieces for part in _parts(piece) if part.function_call]
        return [(call.name, call.args) for call in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        usage = pieces[-1].usage_metadata
        return usage.prompt_token_count, usage.candidates_token_count + (usage.thoughts_token_count or 0)

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return pieces[0].sdk_http_response.headers["x-ratchet-record-id"]

    def plain(self, piece: Any) -> Any:
        return piece.model_dump(exclude={"sdk_http_response"})


def _parts(piece: Any) -> Sequence[Any]:
    return [part for candidate in piece.candidates or () for part in candidate.content.parts or ()]


class TestGemini(Contract):
    caller = Gemini
