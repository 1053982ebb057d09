"""LangChain's chat models, unchanged but for `base_url`: they see what they would without us, and are recorded.

LangChain is imported late: it takes a second, which every run of other tests would pay, too.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import count
from operator import add
from typing import Any, ClassVar

import pytest

from tests.harness.late import Late, late
from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow

anthropic, openai = late("anthropic"), late("openai")

_TOOLS = [
    {"title": name, "description": "Looks it up.", "type": "object", "properties": {field: {"type": "string"}}}
    for name, field in (("weather", "city"), ("news", "topic"))
]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("langchain")) as way:
        yield way


class _LangChain(Caller):
    """Models that are alike share connections; a timeout of its own makes each of ours another, for it closes them."""

    model: Any
    _timeouts = count(60)

    def _bound(self, text: str) -> Any:
        return self.model.bind_tools(_TOOLS) if "forecast" in text else self.model

    def ask(self, text: str) -> Any:
        return self._bound(text).invoke(text)

    def stream(self, text: str) -> Iterator[Any]:
        return self._bound(text).stream(text)

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        try:
            return await asyncio.gather(*map(self.model.ainvoke, texts))
        finally:
            await self.close_async()

    async def stream_async(self, text: str) -> list[Any]:
        try:
            return [piece async for piece in self.model.astream(text)]
        finally:
            await self.close_async()

    @abstractmethod
    async def close_async(self) -> None: ...

    def said(self, piece: Any) -> str:
        return piece.text

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        return [(call["name"], call["args"]) for call in reduce(add, pieces).tool_calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        usage = reduce(add, pieces).usage_metadata
        return usage["input_tokens"], usage["output_tokens"]

    def plain(self, piece: Any) -> Any:
        """A run has an id of its own."""
        found = piece.model_dump(exclude={"id"})
        found["response_metadata"].pop("headers", None)
        return found


class ChatOpenAI(_LangChain):
    kind = "chat"
    errors = Late(lambda: (openai.OpenAIError, ValueError))  # the latter for a 200 that is nothing but an error
    key_source = "body"

    def __init__(self, url: str, user: str | None = None) -> None:
        from langchain_openai import ChatOpenAI

        self.model = ChatOpenAI(
            model="small",
            base_url=f"{url}/v1",
            api_key="key",
            max_retries=0,
            timeout=next(self._timeouts),
            stream_usage=True,
            include_response_headers=True,
            model_kwargs={"user": user} if user else {},
        )

    def close(self) -> None:
        self.model.root_client.close()

    async def close_async(self) -> None:
        await self.model.root_async_client.close()

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return pieces[0].response_metadata["headers"]["x-ratchet-record-id"]


class ChatAnthropic(_LangChain):
    """A header names the user: what LangChain calls metadata is its own."""

    kind = "messages"
    errors = Late(lambda: (anthropic.AnthropicError, TypeError))  # the latter for a 200 that is nothing but an error
    shows_headers: ClassVar[bool] = False

    def __init__(self, url: str, user: str | None = None) -> None:
        from langchain_anthropic import ChatAnthropic

        self.model = ChatAnthropic(
            model="small",
            base_url=url,
            api_key="key",
            max_retries=0,
            timeout=next(self._timeouts),
            default_headers={"x-ratchet-user": user} if user else None,
        )

    def close(self) -> None:
        self.model._client.close()

    async def close_async(self) -> None:
        await self.model._async_client.close()


class TestOpenAI(Contract):
    caller = ChatOpenAI


class TestAnthropic(Contract):
    caller = ChatAnthropic


def test_a_run_whose_user_stays_at_home_is_known_by_its_first_message(way: Way) -> None:
    caller = ChatOpenAI(way.proxied)
    found = caller.model.invoke("told to the run alone", config={"metadata": {"user_id": "someone"}})
    assert found.text == answer_to("told to the run alone")
    [row] = way.records(text="told to the run alone")
    asked(row, "told to the run alone", "chat")
    assert row["key_source"] == "first-message"
    caller.close()
