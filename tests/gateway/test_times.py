"""When the head and each piece of an answer came, as far as it matters, whatever the network makes of them."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.clock import ManualClock
from proxy.config.serving import RedactionConfig
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def us(seconds: float) -> int:
    return round(seconds * 1e6)


async def tell(
    door: Door, upstream: Upstream, clock: ManualClock, pieces: list[tuple[float, bytes]], *, request: bytes = GET
) -> dict[str, Any]:
    """The facts of an answer of which each piece comes so many seconds after the one before.

    The next piece leaves only when the last has reached the client, so that each is heard at its own time.
    """
    passed = asyncio.Semaphore(0)

    async def script(seen: Seen, line: Line) -> None:
        for seconds, piece in pieces:
            clock.advance(seconds)
            await line.send(piece)
            await passed.acquire()
        line.close()

    upstream.default = script  # type: ignore[method-assign]
    before = len(door.frames())
    client = await door.connect()
    await client.send(request)
    for index, (_, piece) in enumerate(pieces):
        if index:
            await client.exactly(len(piece))
        else:
            await client.until(b"\r\n\r\n")
            if body := piece.partition(b"\r\n\r\n")[2]:
                await client.exactly(len(body))
        passed.release()
    meta: dict[str, Any] = (await door.frame(before + 1)).meta
    client.close()
    return meta


def near(marks: list[list[int]], expected: list[tuple[int, float]]) -> bool:
    return [(offset, at) for offset, at in marks] == [(offset, pytest.approx(us(s), abs=2)) for offset, s in expected]


async def test_the_first_byte_is_the_head_and_the_pieces_have_their_times(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        pieces = [(0.5, HEAD), (1.0, chunk(b"abc")), (2.0, chunk(b"defg")), (0.25, END)]
        meta = await tell(door, upstream, clock, pieces)
        assert meta["ttfb"] == pytest.approx(us(0.5), abs=2)
        assert near(meta["mk"], [(0, 1.5), (3, 3.5)])
        meta = await tell(door, upstream, clock, [(0.5, HEAD + chunk(b"abc")), (2.0, chunk(b"defg") + END)])
        assert near(meta["mk"], [(3, 2.5)])
        assert (meta["ttfb"], meta["sb"]) == (pytest.approx(us(0.5), abs=2), 7)


@pytest.mark.parametrize("body", [b"", b"the answer"])
async def test_an_answer_in_one_piece_has_no_marks(upstream: Upstream, tmp_path: Path, body: bytes) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        whole = [(1.0, reply(body))], [(1.0, HEAD + chunk(b"x") + END)], [(1.0, HEAD + chunk(b"x")), (1.0, END)]
        for pieces in whole:
            meta = await tell(door, upstream, clock, pieces)
            assert "mk" not in meta
            assert meta["ttfb"] == pytest.approx(us(1.0), abs=2)


async def test_a_body_that_comes_behind_its_head_has_a_time(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        head, _, body = reply(b"the answer").partition(b"\r\n\r\n")
        for sent in (head, head.replace(b"content-length: 10\r\n", b"")):
            meta = await tell(door, upstream, clock, [(0.5, sent + b"\r\n\r\n"), (1.0, body)])
            assert near(meta["mk"], [(0, 1.5)])
            assert meta["ttfb"] == pytest.approx(us(0.5), abs=2)


async def test_what_is_said_before_the_answer_is_not_its_first_byte(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        meta = await tell(door, upstream, clock, [(0.5, hint), (1.0, HEAD), (1.0, chunk(b"a") + END)])
        assert meta["ttfb"] == pytest.approx(us(1.5), abs=2)
        assert near(meta["mk"], [(0, 2.5)])


EVENTS = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n")


@pytest.mark.parametrize(
    ("last", "facts"),
    [
        (b"data: [DONE]\n\n", {"failed": False, "whole": True, "unread": False}),
        (b": bye\n\n", {"failed": False, "whole": False, "unread": False}),
        (b'data: {"error": {"message": "gone"}}\n\n', {"failed": True, "whole": False, "unread": False}),
        (b"data: {]\n\ndata: [DONE]\n\n", {"failed": False, "whole": True, "unread": True}),
    ],
)
async def test_what_a_stream_showed_outlives_its_redaction(
    upstream: Upstream, tmp_path: Path, last: bytes, facts: dict[str, bool]
) -> None:
    clock = ManualClock()
    redact = RedactionConfig(patterns=("Rome",))
    async with open_gateway(tmp_path, upstream.url, clock=clock, redact=redact) as door:
        word = b'data: {"choices":[{"index":0,"delta":{"content":"Rome"},"finish_reason":null}]}\n\n'
        pieces = [(0.5, EVENTS), (1.0, chunk(b": wait\n\n")), (2.0, chunk(word)), (1.0, chunk(last) + END)]
        meta = await tell(door, upstream, clock, pieces)
    assert meta["ttft"] == pytest.approx(us(3.5), abs=2)
    assert meta["sf"] == facts
    assert "mk" not in meta


async def test_a_champion_that_steps_in_has_its_own_times(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()

    async def fail(seen: Seen, line: Line) -> None:
        clock.advance(3.0)
        await line.send(reply(b"busy", status=b"503 Busy"))

    async with serve_upstream() as other:
        other.default = fail  # type: ignore[method-assign]
        async with open_gateway(tmp_path, upstream.url, challenger=other.url, clock=clock) as door:
            meta = await tell(door, upstream, clock, [(0.5, HEAD), (1.0, chunk(b"a") + END)])
            assert meta["ttfb"] == pytest.approx(us(3.5), abs=2)
            assert near(meta["mk"], [(0, 4.5)])
            assert (meta["up"], meta["own"]) == (pytest.approx(us(4.5), abs=3), pytest.approx(0, abs=3))


async def test_the_life_of_a_tunnel_is_none_of_our_time(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()

    async def upgrade(seen: Seen, line: Line) -> None:
        clock.advance(1.0)
        await line.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        await line.reader.readexactly(4)
        clock.advance(60.0)
        line.close()

    upstream.default = upgrade  # type: ignore[method-assign]
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        client = await door.connect()
        await client.send(GET.replace(b"Host: x\r\n", b"Host: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n"))
        await client.head()
        await client.send(b"more")
        client.writer.write_eof()
        assert await client.rest() == b""
        meta = (await door.frame()).meta
    assert (meta["dur"], meta["up"]) == (pytest.approx(us(61.0), abs=3), pytest.approx(us(61.0), abs=3))
    assert meta["own"] == pytest.approx(0, abs=3)


async def test_without_bodies_or_records_nothing_is_marked(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    settings_ = config(capture={"enabled": False})
    async with open_gateway(tmp_path, upstream.url, clock=clock, settings=settings_) as door:
        meta = await tell(door, upstream, clock, [(0.5, HEAD), (1.0, chunk(b"a")), (1.0, chunk(b"b") + END)])
        assert ("mk" in meta, meta["sb"]) == (False, 2)


def content_time(marks: list[list[int]], ttfb: int, offset: int) -> int:
    """When the byte at `offset` came, as a reader of the facts finds it."""
    at = ttfb
    for start, time in marks:
        if start > offset:
            break
        at = time
    return at


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    waits=st.lists(st.floats(0.001, 3.0) | st.just(0.0011), max_size=4).map(lambda some: (some or [1.0]) * 20),
    sizes=st.lists(st.integers(1, 30), min_size=90, max_size=90),
)
async def test_any_byte_can_be_dated_to_a_twentieth(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, waits: list[float], sizes: list[int]
) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path_factory.mktemp("door"), upstream.url, clock=clock) as door:
        pieces = [(wait, chunk(b"x" * size)) for wait, size in zip(waits, sizes, strict=False)]
        meta = await tell(door, upstream, clock, [(0.5, HEAD), *pieces, (0.0, END)])
        marks = meta["mk"]
        assert len(marks) <= 256
        assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(marks))
        offset, at = 0, 0.5
        for index, (wait, size) in enumerate(zip(waits, sizes, strict=False)):
            at += wait
            found = content_time(marks, meta["ttfb"], offset)
            assert us(at) / 1.05 - 3 <= found <= us(at) + 3
            if index < 32:
                assert found == pytest.approx(us(at), abs=3)
            offset += size


async def test_a_stream_without_end_has_an_end_of_marks(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        pieces = [(0.001 * 1.06**n, chunk(b"x")) for n in range(300)]
        meta = await tell(door, upstream, clock, [(0.001, HEAD), *pieces, (0.0, END)])
        assert len(meta["mk"]) == 256
