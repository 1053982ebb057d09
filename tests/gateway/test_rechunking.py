"""However the network cuts the bytes, the same requests and answers come out, and the same records."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.scoring import ScoringConfig
from proxy.config.serving import CaptureConfig
from proxy.ingest.interpret import Interpreter
from proxy.routes import Target
from tests.harness.gateway import Door, open_gateway
from tests.harness.upstream import Line, Seen, Upstream, serve_upstream

REQUESTS = (
    b'POST /length HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"user":"ann"}'[
        :-1
    ]
    + b"}"
    b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"
    b"\r\nPOST /chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;x=y\r\n \r\n00a\r\n0123456789\r\n0\r\nX-Api-Key: k\r\nX-Sum: 1\r\nX-Forwarded-For: h\r\n\r\n"
    b"HEAD /head HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
).replace(b"Content-Length: 13", b"Content-Length: 14")
BODIES = [b'{"user":"ann"}', b"", b"hello 0123456789", b""]
ANSWERS = {
    "/length": b"HTTP/1.1 201 Created\r\nLocation: http://HOST/made\r\nContent-Length: 7\r\n\r\nthe end",
    "/none": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n05;a=b\r\npedia\r\n"
    b"0\r\nT: u\r\n\r\n",
    "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
}
RESPONSES = [b"the end", b"", b"Wikipedia", b""]


class Bench:
    """One upstream and one gateway for all examples, on a loop of their own."""

    def __init__(self, runner: asyncio.Runner, door: Door, upstream: Upstream) -> None:
        self.runner, self.door, self.upstream = runner, door, upstream
        self.cuts: list[int] = []

    async def answer(self, seen: Seen, line: Line) -> None:
        answer = ANSWERS[seen.target.decode()].replace(b"HOST", seen.header("host") or b"")
        for piece in pieces(answer, self.cuts):
            await line.send(piece)
            await asyncio.sleep(0)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` cut at each of `cuts` (taken modulo its length)."""
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, tempfile.TemporaryDirectory() as directory:
        stack = contextlib.AsyncExitStack()

        async def start() -> Bench:
            upstream = await stack.enter_async_context(serve_upstream())
            door = await stack.enter_async_context(open_gateway(Path(directory), upstream.url))
            target = Target(model_id=2, name="new", url=upstream.url)  # a split: the gateway has to know the user
            door.route(challenger=target, share=0.5, experiment_id=7, salt="0f" * 16)
            made = Bench(runner, door, upstream)
            upstream.default = made.answer  # type: ignore[method-assign]
            return made

        yield runner.run(start())
        runner.run(stack.aclose())


async def converse(bench: Bench, request_cuts: list[int]) -> tuple[bytes, list[Seen]]:
    bench.upstream.seen.clear()
    client = await bench.door.connect()
    for piece in pieces(REQUESTS, request_cuts):
        client.writer.write(piece)
        await asyncio.sleep(0)
    answer = await client.rest()
    client.close()
    return answer, list(bench.upstream.seen)


def without_ids(answer: bytes) -> bytes:
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.startswith(b"x-ratchet-record-id"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    request_cuts=st.lists(st.integers(0, 10_000), max_size=40) | st.just(list(range(len(REQUESTS)))),
    answer_cuts=st.lists(st.integers(0, 10_000), max_size=40) | st.just(list(range(200))),
)
def test_any_cutting_gives_the_same(bench: Bench, request_cuts: list[int], answer_cuts: list[int]) -> None:
    bench.cuts = answer_cuts
    before = len(bench.door.frames())
    answer, seen = bench.runner.run(converse(bench, request_cuts))
    expected = b"".join(ANSWERS.values()).replace(b"http://HOST", b"")
    assert without_ids(answer) == expected.replace(
        b"Content-Length: 99\r\n", b"Content-Length: 99\r\nConnection: close\r\n"
    )
    assert [request.payload for request in seen] == BODIES
    assert [request.trailer for request in seen] == [b"", b"", b"X-Sum: 1\r\n", b""]
    frames = bench.door.frames()[before:]
    assert [frame.request for frame in frames] == BODIES
    assert [frame.response for frame in frames] == RESPONSES
    assert [frame.meta["st"] for frame in frames] == [201, 204, 200, 200]
    for frame in frames:
        marks = frame.meta.get("mk", [])
        assert all(0 <= offset < frame.meta["sb"] and at > frame.meta["ttfb"] for offset, at in marks)
        assert marks == sorted(marks)
    interpreter = Interpreter(CaptureConfig(), ScoringConfig(), bench.door.ids.user_hash)
    users = [interpreter.record(frame) for frame in frames]
    assert [record.user_hash for record in users] == [bench.door.ids.user_hash(b"ann"), None, None, None]
