"""The official Anthropic SDK, unchanged but for `base_url`: it sees what it would see without us, and is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.late import Late, late
from tests.harness.model_words import answer_to
from tests.harness.sdk import Way, asked, refused, two_ways
from tests.harness.sdk_contract import Caller, Contract

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic

anthropic = late("anthropic")

FILE = Random(2).randbytes(1_200_000)  # no codec makes it smaller


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    with two_ways(tmp_path_factory.mktemp("anthropic")) as way:
        yield way


class Messages(Caller):
    kind = "messages"
    errors = Late(lambda: (anthropic.AnthropicError,))
    key_source = "body"

    def __init__(self, url: str, user: str | None = None) -> None:
        self._facts: dict[str, Any] = {"base_url": url, "api_key": "sk-ant-test", "max_retries": 0}
        self._client = anthropic.Anthropic(**self._facts)
        self._user: dict[str, Any] = {"metadata": {"user_id": user}} if user else {}
        self._record_id: str | None = None

    def ask(self, text: str) -> Any:
        raw = self._client.messages.with_raw_response.create(**message(text), **self._user)
        self._record_id = raw.headers.get("x-ratchet-record-id")
        return raw.parse()

    def stream(self, text: str) -> Iterator[Any]:
        with self._client.messages.create(**message(text), **self._user, stream=True) as events:
            self._record_id = events.response.headers.get("x-ratchet-record-id")
            yield from events

    async def ask_async(self, texts: Sequence[str]) -> list[Any]:
        async with anthropic.AsyncAnthropic(**self._facts) as client:
            return await asyncio.gather(*(client.messages.create(**message(text)) for text in texts))

    async def stream_async(self, text: str) -> list[Any]:
        async with anthropic.AsyncAnthropic(**self._facts) as client, client.messages.stream(**message(text)) as helper:
            return [event async for event in helper if event.type == "content_block_delta"]

    def close(self) -> None:
        self._client.close()

    def said(self, piece: Any) -> str:
        if hasattr(piece, "content"):
            return "".join(block.text for block in piece.content or () if block.type == "text")
        return getattr(piece.delta, "text", "") if piece.type == "content_block_delta" else ""

    def calls(self, pieces: Sequence[Any]) -> list[tuple[str, Any]]:
        if hasattr(pieces[0], "content"):
            return [(block.name, block.input) for block in pieces[0].content if block.type == "tool_use"]
        calls: list[list[str]] = []
        for piece in pieces:
            if piece.type == "content_block_start" and piece.content_block.type == "tool_use":
                calls.append([piece.content_block.name, ""])
            elif piece.type == "content_block_delta" and piece.delta.type == "input_json_delta":
                calls[-1][1] += piece.delta.partial_json
        return [(name, json.loads(arguments)) for name, arguments in calls]

    def tokens(self, pieces: Sequence[Any]) -> tuple[int | None, int | None]:
        begun = pieces[0].message if len(pieces) > 1 else pieces[0]
        [ended] = [piece for piece in pieces if piece.type in ("message_delta", "message")]
        return begun.usage.input_tokens, ended.usage.output_tokens

    def record_id(self, pieces: Sequence[Any]) -> str | None:
        return self._record_id


class TestMessages(Contract):
    caller = Messages


def test_one_person_of_claude_code_is_one_user_in_every_session(way: Way) -> None:
    """Both forms of the composite id that it has sent."""
    device, account = "0a1b2c3d" * 8, "11111111-2222-4333-8444-555555555555"

    def ids(session: str) -> list[str]:
        facts = {"device_id": device, "account_uuid": account, "session_id": session}
        return [f"user_{device}_account_{account}_session_{session}", json.dumps(facts)]

    sessions = ["aaaaaaaa-0001-4000-8000-000000000001", "bbbbbbbb-0002-4000-8000-000000000002"]
    with anthropic.Anthropic(base_url=way.proxied, api_key="sk-ant-test") as client:
        for number, user in enumerate(user for session in sessions for user in ids(session)):
            client.messages.create(**message(f"coding turn {number}"), metadata={"user_id": user})
    rows = way.records(4, text="coding turn")
    assert {row["key_source"] for row in rows} == {"body"}
    assert len({row["user"] for row in rows}) == 1


Same = Callable[[Callable[[Any], Any]], Any]


@pytest.fixture
def same(way: Way) -> Iterator[Same]:
    """Asks directly and through the proxy, asserts that the SDK sees no difference, and gives what it saw."""
    clients = [anthropic.Anthropic(base_url=url, api_key="sk-ant-test") for url in way.urls]

    def ask(call: Callable[[Anthropic], Any]) -> Any:
        direct, proxied = map(call, clients)
        assert proxied == direct
        return proxied

    yield ask
    for client in clients:
        client.close()


@pytest.fixture
async def client(way: Way) -> AsyncIterator[AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=way.proxied, api_key="sk-ant-test") as client:
        yield client


def message(text: str) -> dict[str, Any]:
    return {"model": "small", "max_tokens": 500, "messages": [{"role": "user", "content": text}]}


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
    with anthropic.Anthropic(base_url=way.proxied, api_key="sk-ant-test") as client:
        raw = client.messages.with_raw_response.create(**message("raw message"))
    assert raw.parse().content[0].text == answer_to("raw message")
    assert raw.headers["content-encoding"] == "gzip"
    assert raw.request_id == raw.headers["request-id"]
    [row] = way.records(text="raw message")
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
    def fail(client: Anthropic) -> Any:
        with pytest.raises(getattr(anthropic, kind)) as failed:
            client.with_options(max_retries=1).messages.create(**message(f"{word} again"))
        return failed.value.status_code, failed.value.body, failed.value.request_id

    assert same(fail)[0] == status
    tries = 2 if status in (429, 500) else 1
    for row in way.records(tries, text=f"{word} again"):
        refused(row, f"{word} again", status)


async def test_streams_asynchronously(way: Way, client: AsyncAnthropic) -> None:
    async with client.messages.stream(**message("async stream")) as helper:
        assert "".join([text async for text in helper.text_stream]) == answer_to("async stream")
    asked(*await way.records_async(text="async stream"), "async stream", "messages")


async def test_a_stream_left_early_is_recorded_as_such(way: Way, client: AsyncAnthropic) -> None:
    async with await client.messages.create(**message("left early endless"), stream=True) as events:
        await anext(aiter(events))
    [row] = await way.records_async(text="left early")
    assert row["outcome"] == "client_disconnect"
    assert answer_to("left early endless").startswith(row["response"] or "")  # it may have left before the first word


async def test_files_and_raw_responses_asynchronously(way: Way, client: AsyncAnthropic) -> None:
    filer = client.with_options(default_headers={"x-user-id": "async filer"})
    uploaded = await filer.files.upload(file=("data.bin", FILE, "application/octet-stream"))
    assert await (await filer.files.download(uploaded.id)).read() == FILE
    raw = await filer.messages.with_raw_response.create(**message("async raw"))
    assert (await raw.parse()).content[0].text == answer_to("async raw")
    rows = await way.records_async(3, user="async filer")
    assert [row["method"] for row in rows] == ["POST", "GET", "POST"]
    assert raw.headers["x-ratchet-record-id"] == rows[0]["record_id"]
