"""The official OpenAI SDK, unchanged but for `base_url`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.late import Late, late
from tests.harness.model_openai import vector_of
from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, refused, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

openai = late("openai")

FILE = Random(1).randbytes(1_200_000)  # no codec makes it smaller


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("openai")) as way:
        yield way


class _OpenAI(Caller):
    """What both of its APIs share: a user in the body, and headers that raw responses show."""

    errors = Late(lambda: (openai.OpenAIError,))
    key_source = "body"

    def __init__(self, url: str, user: str | None = None) -> None:
        self._facts: dict[str, Any] = {"base_url": f"{url}/v1", "api_key": "sk-test", "max_retries": 0}
        self._client = openai.OpenAI(**self._facts)
        self._user: dict[str, Any] = {"user": user} if user else {}
        self._record_id: str | None = None

    def close(self) -> None:
        self._client.close()

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return self._record_id

    def _whole(self, raw: Any) -> Any:
        self._record_id = raw.headers.get("x-ratchet-record-id")
        return raw.parse()

    def _events(self, events: Any) -> Iterator[Any]:
        self._record_id = events.response.headers.get("x-ratchet-record-id")
        with events:
            yield from events


class OpenAIChat(_OpenAI):
    kind = "chat"

    def ask(self, text: str) -> Any:
        return self._whole(self._client.chat.completions.with_raw_response.create(**chat(text), **self._user))

    def stream(self, text: str) -> Iterator[Any]:
        return self._events(self._client.chat.completions.create(**chat_stream(text), **self._user))

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with openai.AsyncOpenAI(**self._facts) as client:
            return await asyncio.gather(*(client.chat.completions.create(**chat(text)) for text in texts))

    async def stream_async(self, text: str) -> list[Any]:
        async with openai.AsyncOpenAI(**self._facts) as client:
            return [chunk async for chunk in await client.chat.completions.create(**chat_stream(text))]

    def said(self, piece: Any) -> str:
        return "".join(message.content or "" for message in _messages(piece))

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls: list[list[str]] = []
        for message in (message for piece in pieces for message in _messages(piece)):
            for call in message.tool_calls or ():
                if call.id:
                    calls.append([call.function.name, ""])
                calls[-1][1] += call.function.arguments
        return [(name, json.loads(arguments)) for name, arguments in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        return pieces[-1].usage.prompt_tokens, pieces[-1].usage.completion_tokens


def _messages(piece: Any) -> list[Any]:
    """Of an answer, or of a piece of a stream."""
    return [choice.delta if hasattr(choice, "delta") else choice.message for choice in piece.choices or ()]


class OpenAIResponses(_OpenAI):
    kind = "responses"

    def ask(self, text: str) -> Any:
        return self._whole(self._client.responses.with_raw_response.create(**response(text), **self._user))

    def stream(self, text: str) -> Iterator[Any]:
        return self._events(self._client.responses.create(**response(text), **self._user, stream=True))

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with openai.AsyncOpenAI(**self._facts) as client:
            return await asyncio.gather(*(client.responses.create(**response(text)) for text in texts))

    async def stream_async(self, text: str) -> list[Any]:
        async with openai.AsyncOpenAI(**self._facts) as client:
            return [event async for event in await client.responses.create(**response(text), stream=True)]

    def said(self, piece: Any) -> str:
        if not hasattr(piece, "type"):
            return piece.output_text
        return piece.delta if piece.type == "response.output_text.delta" else ""

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        calls = [item for item in _ended(pieces).output if item.type == "function_call"]
        return [(call.name, json.loads(call.arguments)) for call in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        return _ended(pieces).usage.input_tokens, _ended(pieces).usage.output_tokens


def _ended(pieces: Sequence[Any]) -> Any:
    """The response that is the answer, or that the last event holds."""
    return getattr(pieces[-1], "response", pieces[-1])


class TestChat(Contract):
    caller = OpenAIChat


class TestResponses(Contract):
    caller = OpenAIResponses


Same = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture
def same(way: Way) -> Iterator[Same]:
    """Asks directly and through the proxy, asserts that the SDK sees no difference, and gives what it saw."""
    clients = [openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test") for url in way.urls]

    def ask(call: Callable[[OpenAI], Any]) -> Any:
        direct, proxied = map(call, clients)
        assert proxied == direct
        return proxied

    yield ask
    for client in clients:
        client.close()


@pytest.fixture
async def client(way: Way) -> AsyncIterator[AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{way.proxied}/v1", api_key="sk-test") as client:
        yield client


def chat(text: str) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


def chat_stream(text: str) -> dict[str, Any]:
    return chat(text) | {"stream": True, "stream_options": {"include_usage": True}}


def response(text: str) -> dict[str, Any]:
    return {"model": "small", "input": text}


def test_chat_with_the_stream_helper(way: Way, same: Same) -> None:
    def stream(client: OpenAI) -> Any:
        with client.chat.completions.stream(**chat("helped chat"), stream_options={"include_usage": True}) as events:
            kinds = [event.type for event in events]
            return kinds, events.get_final_completion().model_dump()

    kinds, completion = same(stream)
    assert kinds[-2:] == ["content.done", "chunk"]
    assert completion["choices"][0]["message"]["content"] == answer_to("helped chat")
    asked(*way.records(text="helped chat"), "helped chat", "chat")


def test_who_is_behind_the_user_comes_first(way: Way, same: Same) -> None:
    known = {"user": "an account", "safety_identifier": "a person"}
    same(lambda client: client.chat.completions.create(**chat("by safety identifier"), **known))
    [row] = way.records(text="by safety identifier")
    assert row["user"] in {one["user"] for one in way.records(user="a person")}
    assert row["key_source"] == "body"


def test_completions(way: Way, same: Same) -> None:
    completion = same(lambda client: client.completions.create(model="small", prompt="an old prompt"))
    assert completion.choices[0].text == answer_to("an old prompt")
    asked(*way.records(text="an old prompt"), "an old prompt", "completions")


def test_embeddings(way: Way, same: Same) -> None:
    found = same(lambda client: client.embeddings.create(model="small", input=["embed me", "and me"]))
    assert [item.embedding for item in found.data] == [vector_of("embed me"), vector_of("and me")]
    [row] = way.records(kind="embeddings")
    assert (row["query"], row["response"], row["prompt_tokens"]) == ("embed me\nand me", None, 4)


def test_files_up_and_down(way: Way, same: Same) -> None:
    def round_trip(client: OpenAI) -> tuple[Any, bytes, Any]:
        filer = client.with_options(default_headers={"x-user-id": "filer"})
        uploaded = filer.files.create(file=("data.bin", FILE), purpose="user_data")
        return uploaded, filer.files.content(uploaded.id).read(), filer.files.delete(uploaded.id)

    uploaded, content, deleted = same(round_trip)
    assert (uploaded.bytes, content == FILE, deleted.deleted) == (len(FILE), True, True)
    gone, loaded, sent = way.records(3, user="filer")
    assert [row["method"] for row in (sent, loaded, gone)] == ["POST", "GET", "DELETE"]
    assert {row["status"] for row in (sent, loaded, gone)} == {200}
    assert sent["request_bytes"] > len(FILE)
    assert loaded["response_bytes"] >= len(FILE)
    assert (sent["flags"], loaded["flags"]) == (["truncated_request"], ["truncated_response"])


def test_a_file_streamed_to_the_disk(way: Way, same: Same, tmp_path: Any) -> None:
    def load(client: OpenAI) -> bytes:
        uploaded = client.files.create(file=("data.bin", FILE), purpose="user_data")
        with client.files.with_streaming_response.content(uploaded.id) as response:
            response.stream_to_file(tmp_path / "loaded")
        return bytes((tmp_path / "loaded").read_bytes())

    assert same(load) == FILE


def test_models_are_listed(same: Same) -> None:
    assert [model.id for model in same(lambda client: list(client.models.list()))] == ["small", "large"]


def test_raw_responses_carry_the_servers_headers_and_the_record_id(way: Way) -> None:
    with openai.OpenAI(base_url=f"{way.proxied}/v1", api_key="sk-test") as client:
        raw = client.chat.completions.with_raw_response.create(**chat("raw chat"))
    assert raw.parse().choices[0].message.content == answer_to("raw chat")
    assert raw.headers["content-encoding"] == "gzip"
    assert raw.request_id == raw.headers["x-request-id"]
    [row] = way.records(text="raw chat")
    assert raw.headers["x-ratchet-record-id"] == row["record_id"]


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("overflow", "BadRequestError", 400),
        ("intruder", "AuthenticationError", 401),
        ("crowd", "RateLimitError", 429),
        ("crash", "InternalServerError", 500),
    ],
)
def test_errors_are_the_servers_own_and_retries_are_calls(
    way: Way, same: Same, word: str, kind: str, status: int
) -> None:
    def fail(client: OpenAI) -> Any:
        with pytest.raises(getattr(openai, kind)) as failed:
            client.with_options(max_retries=1).chat.completions.create(**chat(f"{word} again"))
        return failed.value.status_code, failed.value.body, failed.value.request_id

    assert same(fail)[0] == status
    tries = 2 if status in (429, 500) else 1
    for row in way.records(tries, text=f"{word} again"):
        refused(row, f"{word} again", status)


async def test_a_stream_left_early_is_recorded_as_such(way: Way, client: AsyncOpenAI) -> None:
    async with await client.chat.completions.create(**chat("left early endless"), stream=True) as chunks:
        async for chunk in chunks:
            if chunk.choices[0].delta.content:  # the first chunk only says who speaks
                break
    [row] = await way.records_async(text="left early")
    assert row["outcome"] == "client_disconnect"
    assert answer_to("left early endless").startswith(row["response"])


async def test_embeddings_and_files_asynchronously(way: Way, client: AsyncOpenAI) -> None:
    filer = client.with_options(default_headers={"x-user-id": "async filer"})
    found = await filer.embeddings.create(model="small", input="embed", encoding_format="float")
    assert found.data[0].embedding == vector_of("embed")
    uploaded = await filer.files.create(file=("data.bin", FILE), purpose="user_data")
    assert (await filer.files.content(uploaded.id)).content == FILE
    raw = await filer.models.with_raw_response.list()
    assert [model.id for model in raw.parse().data] == ["small", "large"]
    rows = await way.records_async(4, user="async filer")
    assert [row["method"] for row in rows] == ["GET", "GET", "POST", "POST"]
    assert raw.headers["x-ratchet-record-id"] == rows[0]["record_id"]
