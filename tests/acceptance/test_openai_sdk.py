"""The official OpenAI SDK, unchanged but for `base_url`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.harness.model_openai import vector_of
from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, two_ways

pytestmark = pytest.mark.slow

FILE = Random(1).randbytes(1_200_000)  # no codec makes it smaller


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("openai")) as way:
        yield way


Same = Callable[[Callable[[OpenAI], Any]], Any]


@pytest.fixture
def same(way: Way) -> Iterator[Same]:
    """Asks directly and through the proxy, asserts that the SDK sees no difference, and gives what it saw."""
    clients = [OpenAI(base_url=f"{url}/v1", api_key="sk-test") for url in way.urls]

    def ask(call: Callable[[OpenAI], Any]) -> Any:
        direct, proxied = map(call, clients)
        assert proxied == direct
        return proxied

    yield ask
    for client in clients:
        client.close()


@pytest.fixture
async def client(way: Way) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{way.proxied}/v1", api_key="sk-test") as client:
        yield client


def chat(text: str) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}]}


def test_chat(way: Way, same: Same) -> None:
    completion = same(lambda client: client.chat.completions.create(**chat("a chat")))
    assert completion.choices[0].message.content == answer_to("a chat")
    asked(*way.records(text="a chat"), "a chat", "chat")


def test_chat_streamed(way: Way, same: Same) -> None:
    def stream(client: OpenAI) -> list[Any]:
        with client.chat.completions.create(
            **chat("streamed chat"), stream=True, stream_options={"include_usage": True}
        ) as events:
            return list(events)

    chunks = same(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == answer_to("streamed chat")
    [row] = way.records(text="streamed chat")
    asked(row, "streamed chat", "chat")
    assert "streamed" in row["flags"]


def test_chat_with_the_stream_helper(way: Way, same: Same) -> None:
    def stream(client: OpenAI) -> Any:
        with client.chat.completions.stream(**chat("helped chat"), stream_options={"include_usage": True}) as events:
            kinds = [event.type for event in events]
            return kinds, events.get_final_completion().model_dump()

    kinds, completion = same(stream)
    assert kinds[-2:] == ["content.done", "chunk"]
    assert completion["choices"][0]["message"]["content"] == answer_to("helped chat")
    asked(*way.records(text="helped chat"), "helped chat", "chat")


def test_completions(way: Way, same: Same) -> None:
    completion = same(lambda client: client.completions.create(model="small", prompt="an old prompt"))
    assert completion.choices[0].text == answer_to("an old prompt")
    asked(*way.records(text="an old prompt"), "an old prompt", "completions")


def test_responses(way: Way, same: Same) -> None:
    response = same(lambda client: client.responses.create(model="small", input="a response"))
    assert response.output_text == answer_to("a response")
    asked(*way.records(text="a response"), "a response", "responses")


def test_responses_streamed(way: Way, same: Same) -> None:
    def stream(client: OpenAI) -> list[Any]:
        with client.responses.create(model="small", input="streamed response", stream=True) as events:
            return list(events)

    events = same(stream)
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == answer_to("streamed response")
    asked(*way.records(text="streamed response"), "streamed response", "responses")


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
    with OpenAI(base_url=f"{way.proxied}/v1", api_key="sk-test") as client:
        raw = client.chat.completions.with_raw_response.create(**chat("raw chat"))
    assert raw.parse().choices[0].message.content == answer_to("raw chat")
    assert raw.headers["content-encoding"] == "gzip"
    assert raw.request_id == raw.headers["x-request-id"]
    [row] = way.records(text="raw chat")
    assert raw.headers["x-ratchet-record-id"] == row["record_id"]


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("overflow", openai.BadRequestError, 400),
        ("intruder", openai.AuthenticationError, 401),
        ("crowd", openai.RateLimitError, 429),
        ("crash", openai.InternalServerError, 500),
    ],
)
def test_errors_are_the_servers_own_and_retries_are_calls(
    way: Way, same: Same, word: str, kind: type[openai.APIStatusError], status: int
) -> None:
    def fail(client: OpenAI) -> Any:
        with pytest.raises(kind) as failed:
            client.with_options(max_retries=1).chat.completions.create(**chat(word))
        return failed.value.status_code, failed.value.body, failed.value.request_id

    assert same(fail)[0] == status
    tries = 2 if status in (429, 500) else 1
    for row in way.records(tries, text=word):
        assert (row["status"], row["response"], row["outcome"], row["quality"]) == (status, None, "ok", None)


async def test_everything_asynchronously(way: Way, client: AsyncOpenAI) -> None:
    """All at once, each with its own answer."""
    texts = [f"concurrent {number}." for number in range(20)]
    completions = await asyncio.gather(*(client.chat.completions.create(**chat(text)) for text in texts))
    assert [completion.choices[0].message.content for completion in completions] == [*map(answer_to, texts)]
    rows = await way.records_async(20, text="concurrent")
    for text, row in zip(texts, sorted(rows, key=lambda row: texts.index(row["query"])), strict=True):
        asked(row, text, "chat")


async def test_streams_asynchronously(way: Way, client: AsyncOpenAI) -> None:
    said = ""
    async with await client.chat.completions.create(
        **chat("async stream"), stream=True, stream_options={"include_usage": True}
    ) as chunks:
        async for chunk in chunks:
            said += chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert said == answer_to("async stream")
    async with client.responses.stream(model="small", input="async response") as events:
        assert (await events.get_final_response()).output_text == answer_to("async response")
    asked(*await way.records_async(text="async stream"), "async stream", "chat")
    asked(*await way.records_async(text="async response"), "async response", "responses")


async def test_a_stream_left_early_is_recorded_as_such(way: Way, client: AsyncOpenAI) -> None:
    async with await client.chat.completions.create(**chat("left early endless"), stream=True) as chunks:
        await anext(aiter(chunks))
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
