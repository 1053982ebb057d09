"""LiteLLM as a library, with the proxy as its `api_base`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow


class LiteLLMError(Exception):
    """What it raised, by name."""


class Program:
    """The process that it runs in; `litellm_client` tells what they say to each other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.litellm_client"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def call(self, how: str, facts: dict[str, Any], *texts: str) -> Iterator[dict[str, Any]]:
        """Each piece of the answer with its headers; closing it leaves a stream."""
        self._say(json.dumps({"how": how, "facts": facts, "texts": texts}))
        answer = "next"
        while not (told := self._hear()).get("ended"):
            try:
                yield told
            except GeneratorExit:
                answer = "leave"
            if how == "stream":
                self._say(answer)
        if told["error"] and answer == "next":
            raise LiteLLMError(told["error"])

    def close(self) -> None:
        """End it: left to itself, it takes its time."""
        self._process.terminate()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    LiteLLM.program = Program()
    with two_ways(tmp_path_factory.mktemp("litellm")) as way:
        yield way
    LiteLLM.program.close()


class LiteLLM(Caller):
    """A user is dropped unless the model is said to take one."""

    kind = "chat"
    errors = (LiteLLMError,)
    key_source = "body"
    program: ClassVar[Program]

    def __init__(self, url: str, user: str | None = None) -> None:
        self.facts: dict[str, Any] = {"model": "openai/small", "api_base": f"{url}/v1", "api_key": "key",
                                      "max_retries": 0}  # fmt: skip
        if user:
            self.facts |= {"user": user, "allowed_openai_params": ["user"]}
        self._headers: dict[str, str] = {}

    def ask(self, text: str) -> Any:
        [found] = self._pieces("ask", text)
        return found

    def stream(self, text: str) -> Iterator[Any]:
        return self._pieces("stream", text)

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        return await asyncio.to_thread(lambda: [*self._pieces("ask_async", *texts)])

    async def stream_async(self, text: str) -> list[Any]:
        return await asyncio.to_thread(lambda: [*self._pieces("stream_async", text)])

    def _pieces(self, how: str, *texts: str) -> Iterator[Any]:
        for told in self.program.call(how, self.facts, *texts):
            self._headers = told["headers"]
            yield told["piece"]

    def said(self, piece: Any) -> str:
        return "".join(message["content"] or "" for message in _messages(piece))

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls: list[list[str]] = []
        for message in (message for piece in pieces for message in _messages(piece)):
            for call in message["tool_calls"] or ():
                if call["id"]:
                    calls.append([call["function"]["name"], ""])
                calls[-1][1] += call["function"]["arguments"]
        return [(name, json.loads(arguments)) for name, arguments in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        return pieces[-1]["usage"]["prompt_tokens"], pieces[-1]["usage"]["completion_tokens"]

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return self._headers["llm_provider-x-ratchet-record-id"]

    def plain(self, piece: Any) -> Any:
        """The pieces of a stream bear the time of LiteLLM's own clock."""
        return piece | {"created": None}


def _messages(piece: Any) -> list[Any]:
    """Of an answer, or of a piece of a stream."""
    return [choice.get("delta") or choice["message"] for choice in piece["choices"]]


class TestLiteLLM(Contract):
    caller = LiteLLM


def test_the_user_that_it_drops_may_come_in_a_header(way: Way) -> None:
    def ask(text: str, **more: Any) -> Any:
        caller = LiteLLM(way.proxied)
        caller.facts |= {"user": "someone", "drop_params": True, **more}
        assert caller.said(caller.ask(text)) == answer_to(text)
        [row] = way.records(text=text)
        asked(row, text, "chat")
        return row

    assert ask("a user dropped")["key_source"] == "first-message"
    named = ask("a user in a header", extra_headers={"x-ratchet-user": "someone of litellm"})
    assert named["key_source"] == "x-ratchet-user"
    assert [row["record_id"] for row in way.records(user="someone of litellm")] == [named["record_id"]]
