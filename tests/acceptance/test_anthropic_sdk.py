"""The official Anthropic SDK, unchanged but for `base_url`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from random import Random
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, two_ways

pytestmark = pytest.mark.slow

FILE = Random(2).randbytes(1_200_000)  # no codec makes it smaller


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("anthropic")) as way:
        yield way


Same = Callable[[Callable[[Anthropic], Any]], Any]


@pytest.fixture
def same(way: Way) -> Iterator[Same]:
    """Asks directly and through the proxy, asserts that the SDK sees no difference, and gives what it saw."""
    clients = [Anthropic(base_url=url, api_key="sk-ant-test") for url in way.urls]

    def ask(call: Callable[[Anthropic], Any]) -> Any:
        direct, proxied = map(call, clients)
        assert proxied == direct
        return proxied

    yield ask
    for client in clients:
        client.close()


@pytest.fixture
async def client(way: Way) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=way.proxied, api_key="sk-ant-test") as client:
        yield client


def message(text: str) -> dict[str, Any]:
    return {"model": "small", "max_tokens": 500, "messages": [{"role": "user", "content": text}]}


def test_messages(way: Way, same: Same) -> None:
    found = same(lambda client: client.messages.create(**message("a message")))
    assert found.content[0].text == answer_to("a message")
    asked(*way.records(text="a message"), "a message", "messages")


def test_messages_streamed(way: Way, same: Same) -> None:
    def stream(client: Anthropic) -> list[Any]:
        with client.messages.create(**message("streamed message"), stream=True) as events:
            return list(events)

    events = same(stream)
    assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
    [row] = way.records(text="streamed message")
    asked(row, "streamed message", "messages")
    assert "streamed" in row["flags"]


def test_messages_with_the_stream_helper(way: Way, same: Same) -> None:
    def stream(client: Anthropic) -> Any:
        with client.messages.stream(**message("helped message")) as helper:
            return "".join(helper.text_stream), helper.get_final_message().model_dump()

    said, whole = same(stream)
    assert said == whole["content"][0]["text"] == answer_to("helped message")
    asked(*way.records(text="helped message"), "helped message", "messages")


def test_tokens_are_counted_and_models_listed(way: Way, same: Same) -> None:
    count = {"model": "small", "messages": [{"role": "user", "content": "count these four words"}]}
    assert same(lambda client: client.messages.count_tokens(**count)).input_tokens == 4
    assert [model.id for model in same(lambda client: list(client.models.list()))] == ["small", "large"]
    [row] = way.records(text="count these")
    assert (row["kind"], row["response"], row["status"]) == ("json", None, 200)


def test_files_up_and_down(way: Way, same: Same) -> None:
    def round_trip(client: Anthropic) -> tuple[Any, bytes, Any]:
        filer = client.with_options(default_headers={"x-user-id": "filer"})
        uploaded = filer.files.upload(file=("data.bin", FILE, "application/octet-stream"))
        return uploaded, filer.files.download(uploaded.id).read(), filer.files.delete(uploaded.id)

    uploaded, content, deleted = same(round_trip)
    assert (uploaded.size_bytes, content == FILE, deleted.id) == (len(FILE), True, uploaded.id)
    gone, loaded, sent = way.records(3, user="filer")
    assert [(row["method"], row["status"]) for row in (sent, loaded, gone)] == [
        ("POST", 200),
        ("GET", 200),
        ("DELETE", 200),
    ]
    assert sent["request_bytes"] > len(FILE)
    assert loaded["response_bytes"] >= len(FILE)


def test_raw_responses_carry_the_servers_headers_and_the_record_id(way: Way) -> None:
    with Anthropic(base_url=way.proxied, api_key="sk-ant-test") as client:
        raw = client.messages.with_raw_response.create(**message("raw message"))
    assert raw.parse().content[0].text == answer_to("raw message")
    assert raw.headers["content-encoding"] == "gzip"
    assert raw.request_id == raw.headers["request-id"]
    [row] = way.records(text="raw message")
    assert raw.headers["x-ratchet-record-id"] == row["record_id"]


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("overflow", anthropic.BadRequestError, 400),
        ("intruder", anthropic.AuthenticationError, 401),
        ("crowd", anthropic.RateLimitError, 429),
        ("crash", anthropic.InternalServerError, 500),
    ],
)
def test_errors_are_the_servers_own_and_retries_are_calls(
    way: Way, same: Same, word: str, kind: type[anthropic.APIStatusError], status: int
) -> None:
    def fail(client: Anthropic) -> Any:
        with pytest.raises(kind) as failed:
            client.with_options(max_retries=1).messages.create(**message(word))
        return failed.value.status_code, failed.value.body, failed.value.request_id

    assert same(fail)[0] == status
    tries = 2 if status in (429, 500) else 1
    for row in way.records(tries, text=word):
        assert (row["status"], row["response"], row["outcome"], row["quality"]) == (status, None, "ok", None)


async def test_messages_asynchronously(way: Way, client: AsyncAnthropic) -> None:
    """All at once, each with its own answer."""
    texts = [f"concurrent {number}." for number in range(20)]
    found = await asyncio.gather(*(client.messages.create(**message(text)) for text in texts))
    assert [one.content[0].text for one in found] == [*map(answer_to, texts)]
    rows = await way.records_async(20, text="concurrent")
    for text, row in zip(texts, sorted(rows, key=lambda row: texts.index(row["query"])), strict=True):
        asked(row, text, "messages")


async def test_streams_asynchronously(way: Way, client: AsyncAnthropic) -> None:
    async with client.messages.stream(**message("async stream")) as helper:
        assert "".join([text async for text in helper.text_stream]) == answer_to("async stream")
    asked(*await way.records_async(text="async stream"), "async stream", "messages")


async def test_a_stream_left_early_is_recorded_as_such(way: Way, client: AsyncAnthropic) -> None:
    async with await client.messages.create(**message("left early endless"), stream=True) as events:
        await anext(aiter(events))
    [row] = await way.records_async(text="left early")
    assert row["outcome"] == "client_disconnect"
    assert answer_to("left early endless").startswith(row["response"])


async def test_files_and_raw_responses_asynchronously(way: Way, client: AsyncAnthropic) -> None:
    filer = client.with_options(default_headers={"x-user-id": "async filer"})
    uploaded = await filer.files.upload(file=("data.bin", FILE, "application/octet-stream"))
    assert await (await filer.files.download(uploaded.id)).read() == FILE
    raw = await filer.messages.with_raw_response.create(**message("async raw"))
    assert (await raw.parse()).content[0].text == answer_to("async raw")
    rows = await way.records_async(3, user="async filer")
    assert [row["method"] for row in rows] == ["POST", "GET", "POST"]
    assert raw.headers["x-ratchet-record-id"] == rows[0]["record_id"]
