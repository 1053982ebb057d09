"""The official Cohere SDK, unchanged but for `base_url`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from tests.harness.sdk import Way, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("cohere")) as way:
        yield way


class Cohere(Caller):
    """The second version of the API, the one with users in no field: a header names them."""

    kind = "cohere"
    errors = (ApiError,)

    def __init__(self, url: str, user: str | None = None) -> None:
        self._url = url
        self._http = httpx.Client(timeout=60)
        self._client = cohere.ClientV2("key", base_url=url, httpx_client=self._http)
        headers = {"x-ratchet-user": user} if user else {}
        self._options: Any = {"max_retries": 0, "additional_headers": headers}
        self._record_id: str | None = None

    def ask(self, text: str) -> Any:
        raw = self._client.with_raw_response.chat(**self._chat(text))
        self._record_id = raw.headers.get("x-ratchet-record-id")
        return raw.data

    def stream(self, text: str) -> Iterator[Any]:
        with self._client.with_raw_response.chat_stream(**self._chat(text)) as raw:
            self._record_id = raw.headers.get("x-ratchet-record-id")
            yield from raw.data

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with httpx.AsyncClient(timeout=60) as http:
            client = cohere.AsyncClientV2("key", base_url=self._url, httpx_client=http)
            return await asyncio.gather(*(client.chat(**self._chat(text)) for text in texts))

    async def stream_async(self, text: str) -> list[Any]:
        async with httpx.AsyncClient(timeout=60) as http:
            client = cohere.AsyncClientV2("key", base_url=self._url, httpx_client=http)
            return [event async for event in client.chat_stream(**self._chat(text))]

    def _chat(self, text: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        return {"model": "small", "messages": messages, "request_options": self._options}

    def close(self) -> None:
        self._http.close()

    def said(self, piece: Any) -> str:
        if not hasattr(piece, "type"):
            return "".join(part.text for part in piece.message.content or () if part.type == "text")
        return (piece.delta.message.content.text or "") if piece.type == "content-delta" else ""

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls: list[list[str]] = []
        for piece in pieces:
            if not hasattr(piece, "type"):
                functions = [call.function for call in piece.message.tool_calls or ()]
                calls += [[function.name, function.arguments] for function in functions]
            elif piece.type == "tool-call-start":
                calls.append([piece.delta.message.tool_calls.function.name, ""])
            elif piece.type == "tool-call-delta":
                calls[-1][1] += piece.delta.message.tool_calls.function.arguments
        return [(name, json.loads(arguments)) for name, arguments in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        usage = pieces[-1].delta.usage if hasattr(pieces[-1], "type") else pieces[-1].usage
        return usage.tokens.input_tokens, usage.tokens.output_tokens

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return self._record_id

    def complaint(self, error: Exception) -> str:
        assert isinstance(error, ApiError)
        return f"{error.status_code} {error.body}"


class TestCohere(Contract):
    caller = Cohere
