"""A challenger that breaks after its warm-up loses its users, in whatever words it fails: as soon as one that says 500.

All of them are challengers of one running Ratchet, one after the other. Users come in small crowds, each of whom asks
once, and the loop judges a crowd before the next one comes: how soon a test ends is then counted in users, whatever the
machine is busy with.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from tests.harness.contest import CHAT_PATH, Contest, chat, contest, posts
from tests.harness.upstream import Line, Script, Seen, Upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CROWD: Final = 8
"""Users at a time: about half of them the challenger's."""
LATER: Final = 6
"""Crowds by which chance (who of them is the challenger's) may move the end of a test, of the yardstick's or of this
one: in so many the challenger has some 24 users, three times as many as it takes."""
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer of a model."""

    status: int
    media_type: str
    body: bytes = b""

    async def play(self, seen: Seen, line: Line) -> None:
        """As a script of an upstream: in one chunk, and to its clean end."""
        head = b"HTTP/1.1 %d Said\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body) if self.body else b""
        await line.send(head % (self.status, self.media_type.encode()) + chunk + b"0\r\n\r\n")


def document(value: Any, status: int = 200) -> Said:
    return Said(status, JSON, orjson.dumps(value))


def events(*values: Any, named: bool = False) -> Said:
    """Server-sent events; a text is one as it stands."""
    parts = [
        value.encode()
        if isinstance(value, str)
        else (b"event: " + value["type"].encode() + b"\n" if named else b"") + b"data: " + orjson.dumps(value) + b"\n\n"
        for value in values
    ]
    return Said(200, EVENTS, b"".join(parts))


def lines(*values: Any) -> Said:
    return Said(200, LINES, b"".join(orjson.dumps(value) + b"\n" for value in values))


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


DONE: Final = "data: [DONE]\n\n"
WORDS: Final = "In aisle seven, next to the paint."
STOPPED: Final = {"error": {"message": "the engine has stopped", "type": "InternalServerError", "code": 500}}
OVERLOADED: Final = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def response(status: str, **fields: Any) -> dict[str, Any]:
    kind = {"in_progress": "response.created"}.get(status, f"response.{status}")
    return {"type": kind, "response": {"id": "resp_0123456789", "object": "response", "status": status, **fields}}


def started() -> dict[str, Any]:
    message = {"id": "msg_0123456789", "type": "message", "role": "assistant", "model": "m", "content": []}
    return {"type": "message_start", "message": {**message, "usage": {"input_tokens": 5, "output_tokens": 1}}}


def _output() -> list[dict[str, Any]]:
    return [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": WORDS}]}]


GOOD: Final = {
    CHAT_PATH: events(delta(role="assistant", content=WORDS), delta("stop"), DONE),
    "/v1/responses": events(
        response("in_progress", output=[]),
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": WORDS},
        response("completed", output=_output()),
        named=True,
    ),
    "/v1/messages": events(
        started(),
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
        named=True,
    ),
    "/api/chat": lines(
        {"model": "m", "message": {"role": "assistant", "content": WORDS}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    ),
}
"""What a model that works answers, by the path of the request."""
PLAINLY: Final = document(
    {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}],
    }
)
"""The same to a chat that is not streamed."""
ASKED: Final[dict[str, dict[str, Any]]] = {
    CHAT_PATH: chat(stream=True),
    "/v1/responses": {"model": "m", "stream": True, "input": "In which aisle are the screws?"},
    "/v1/messages": chat(stream=True, max_tokens=64),
    "/api/chat": chat(),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What a broken challenger answers, and to what."""

    answer: Said
    path: str = CHAT_PATH
    streamed: bool = True

    @property
    def request(self) -> dict[str, Any]:
        return ASKED[self.path] if self.streamed else chat()


YARDSTICK: Final = Fault(document(STOPPED, 500))
FAULTS: Final = {
    "404": Fault(document({"error": {"message": "The model `x` does not exist.", "code": 404}}, 404)),
    "422": Fault(document({"detail": "no chat template"}, 422)),
    "401": Fault(document({"error": {"message": "Incorrect API key provided."}}, 401)),
    "an error as the only event": Fault(events(STOPPED, DONE)),
    "an error as the document": Fault(document(STOPPED), streamed=False),
    "words, then an error": Fault(events(delta(role="assistant", content="In"), STOPPED, DONE)),
    "words, then an error in words": Fault(events(delta(content="In"), "event: error\ndata: out of memory\n\n")),
    "words without an end": Fault(events(delta(role="assistant", content="In aisle"))),
    "a stream without events": Fault(events()),
    "a response that failed": Fault(
        events(response("in_progress", output=[]), response("failed", **STOPPED, output=[]), named=True),
        "/v1/responses",
    ),
    "a message that was overloaded": Fault(events(started(), OVERLOADED, named=True), "/v1/messages"),
    "a line that is an error": Fault(lines({"error": "llama runner process has terminated"}), "/api/chat"),
}


async def well(seen: Seen, line: Line) -> None:
    """The script of a model that works."""
    path, plain = seen.target.decode(), seen.payload and not orjson.loads(seen.payload).get("stream")
    await (PLAINLY if path == CHAT_PATH and plain else GOOD.get(path, PLAINLY)).play(seen, line)


def says(upstream: Upstream, script: Script) -> None:
    """From now on it answers its users like this; its health is always good."""

    async def answer(seen: Seen, line: Line) -> None:
        await (script if seen.method == "POST" else well)(seen, line)

    upstream.default = answer  # type: ignore[method-assign]


@dataclass
class Guard:
    """The contest, and users who never run out."""

    contest: Contest
    numbers: Any

    async def crowd(self, fault: Fault) -> list[int]:
        """One question each of so many new users; the statuses that they got."""
        asks = (self.contest.ask(f"user-{next(self.numbers)}", fault.request, path=fault.path) for _ in range(CROWD))
        return [answer.status for answer in await asyncio.gather(*asks)]

    async def crowds_until_it_is_gone(self, fault: Fault) -> int:
        """How many crowds it takes until a challenger that fails like this has lost its users."""
        says(self.contest.challenger, well)
        await self.contest.begin()
        says(self.contest.challenger, fault.answer.play)
        before = len(posts(self.contest.challenger))
        for crowds in count(1):
            await self.crowd(fault)
            goes_on = await self.contest.judged(crowds * CROWD)
            assert len(posts(self.contest.challenger)) - before <= 300
            if not goes_on:
                return crowds
        raise AssertionError


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guard(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guard]:
    async with contest(tmp_path_factory.mktemp("r")) as found:
        says(found.champion, well)
        yield Guard(found, count())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def yardstick(guard: Guard) -> int:
    """Crowds that see a challenger whose every answer is a 500."""
    return await guard.crowds_until_it_is_gone(YARDSTICK)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_challenger_is_gone_as_soon_as_one_that_says_500(
    name: str, guard: Guard, yardstick: int
) -> None:
    assert await guard.crowds_until_it_is_gone(FAULTS[name]) <= yardstick + LATER
    reasons = (await guard.contest.entry("rolled_back"))["reasons"]
    assert "Guardrail errors: 100 %" in reasons[0] or "Guardrail refused requests: 100 %" in reasons[0]


async def test_a_challenger_that_answers_as_well_stays(guard: Guard) -> None:
    says(guard.contest.challenger, well)
    await guard.contest.begin()
    for crowds in range(1, 200 // CROWD + 1):
        assert set(await guard.crowd(YARDSTICK)) == {200}
        assert await guard.contest.judged(crowds * CROWD)
    routes = guard.contest.routes()
    assert routes.challenger is not None
    assert routes.share == 0.5
    await guard.contest.order("rollback")
    await guard.contest.reaches("idle")


async def test_a_challenger_that_knows_none_of_its_first_requests_gets_no_user(guard: Guard) -> None:
    says(guard.contest.challenger, FAULTS["404"].answer.play)
    before = len(posts(guard.contest.challenger))
    await guard.contest.order("trigger")
    failed = await guard.contest.entry("deployment_failed")
    assert "HTTP 404" in " ".join(failed["reasons"])
    assert guard.contest.routes().challenger is None
    assert await guard.crowd(YARDSTICK) == [200] * CROWD
    assert len(posts(guard.contest.challenger)) - before == 3  # the warm-up's


async def test_a_name_that_its_server_does_not_know_costs_no_answer_and_is_gone_at_once(tmp_path: Path) -> None:
    """Users come one after the other; the server of both models knows only one of their names."""
    ghosts: list[bytes | None] = []

    async def knows_one(seen: Seen, line: Line) -> None:
        if orjson.loads(seen.payload or b"{}").get("model") != "ghost":
            return await well(seen, line)
        ghosts.append(seen.header("x-user-id"))
        return await FAULTS["404"].answer.play(seen, line)

    async with contest(tmp_path, model="ghost", settings={"deployer": {"warmup_requests": 0}}) as found:
        says(found.champion, knows_one)
        await found.begin()
        asked = 0
        for asked in range(1, 41):
            answer = await found.ask(f"user-{asked}", chat(stream=True))
            assert (answer.status, answer.body) == (200, GOOD[CHAT_PATH].body)
        assert 0 < len(set(ghosts)) < 10
        assert not await found.judged(asked)
