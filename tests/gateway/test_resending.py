"""A request is run once: it is sent again only where the model's server cannot have read it, or where twice is once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from policies.records import Outcome
from proxy.clock import ManualClock
from proxy.gateway.ports import Dialling, Pool, Receiver, UpstreamSide
from proxy.gateway.upstream import UpstreamConnection
from tests.harness.gateway import Door, open_gateway
from tests.harness.upstream import CHAT, Line, Seen, Upstream, reply

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
KEYED = POST.replace(b"Host: x\r\n", b"Host: x\r\nidempotency-key: 8e03\r\n")
PUT, PATCH = POST.replace(b"POST", b"PUT"), POST.replace(b"POST", b"PATCH")


def dies_at_work(upstream: Upstream, clock: ManualClock, seconds: float, how: str = "close") -> None:
    """The first request is answered, the second dies after some work, all others are answered."""

    async def work(seen: Seen, line: Line) -> None:
        if len(upstream.seen) != 2:
            await line.send(reply())
            return
        clock.advance(seconds)
        line.reset() if how == "reset" else line.close()

    upstream.default = work  # type: ignore[method-assign]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    ("request_", "seconds", "again"),
    [
        (POST, 0.0, True),
        (POST, 0.01, True),
        (POST, 0.05, False),
        (POST, 0.1, False),
        (POST, 0.2, False),
        (POST, 0.5, False),
        (POST, 4.9, False),
        (PATCH, 0.2, False),
        (KEYED, 0.2, True),
        (KEYED, 60.0, True),
        (GET, 0.2, True),
        (PUT, 60.0, True),
    ],
)
async def test_what_may_have_been_read_is_not_sent_again(
    upstream: Upstream, tmp_path: Path, request_: bytes, seconds: float, again: bool, how: str
) -> None:
    clock = ManualClock()
    dies_at_work(upstream, clock, seconds, how)
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        await door.ask(request_)
        head, _ = await door.ask(request_)
        facts = [(await door.frame(n)).meta for n in (1, 2)]
        assert head.startswith(b"HTTP/1.1 200" if again else b"HTTP/1.1 502")
        assert len(upstream.seen) == (3 if again else 2)
        assert ("rs" in facts[0], facts[1].get("rs")) == (False, True if again else None)
        assert facts[1]["out"] == (Outcome.OK if again else Outcome.UPSTREAM_ERROR)
        assert door.count("stale_retries_total") == again


@pytest.mark.parametrize(("dialled_s", "seconds", "again"), [(0.03, 0.05, True), (0.03, 0.07, False),
                                                           (9.0, 0.09, True), (9.0, 0.11, False)])  # fmt: skip
async def test_a_round_trip_is_what_the_connection_took_and_never_long(
    upstream: Upstream, tmp_path: Path, dialled_s: float, seconds: float, again: bool
) -> None:
    clock = ManualClock()
    dies_at_work(upstream, clock, seconds)
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        await door.ask(POST)
        (connection,) = door.gateway.router.pools[0].open
        connection.dialled_s = dialled_s
        assert (await door.ask(POST))[0].startswith(b"HTTP/1.1 200" if again else b"HTTP/1.1 502")


async def test_work_in_true_time_is_done_once(door: Door, upstream: Upstream) -> None:
    async def work(seen: Seen, line: Line) -> None:
        if len(upstream.seen) == 1:
            await line.send(reply())
        else:
            await asyncio.sleep(0.2)  # the work
            line.close()

    upstream.default = work  # type: ignore[method-assign]
    await door.ask(POST)
    assert (await door.ask(POST))[0].startswith(b"HTTP/1.1 502")
    assert len(upstream.seen) == 2


class _Closing:
    """Connections to a server that closes them just as one is taken: that is noticed before a byte is written."""

    def __init__(self, pool: Pool, clock: ManualClock) -> None:
        self._pool = pool
        self._clock = clock
        self.address = pool.address

    @property
    def open(self) -> Collection[object]:
        return self._pool.open

    def take(self) -> UpstreamSide | None:
        taken = self._pool.take()
        if isinstance(taken, UpstreamConnection):
            taken.transport.abort()
            self._clock.advance(60)
        return taken

    def dial(self, receiver: Receiver) -> Dialling:
        return self._pool.dial(receiver)

    def retire(self) -> None:
        self._pool.retire()

    async def close(self) -> None:
        await self._pool.close()


async def test_a_connection_that_is_known_to_be_closed_has_read_nothing(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        await door.ask(POST)
        backend = door.gateway.router.resolve(door.table[0]).champion
        backend.pool = _Closing(backend.pool, clock)
        head, body = await door.ask(POST)
        assert (head[:12], body) == (b"HTTP/1.1 200", CHAT)
        assert (await door.frame(2)).meta["rs"] is True
    assert [seen.connection for seen in upstream.seen] == [1, 2]


async def test_it_is_sent_again_once_only(upstream: Upstream, tmp_path: Path) -> None:
    async def die(seen: Seen, line: Line) -> None:
        if len(upstream.seen) == 1:
            await line.send(reply())
        else:
            line.close()

    upstream.default = die  # type: ignore[method-assign]
    async with open_gateway(tmp_path, upstream.url, clock=ManualClock()) as door:
        await door.ask(GET)
        assert (await door.ask(GET))[0].startswith(b"HTTP/1.1 502")
        assert (await door.frame(2)).meta["rs"] is True
    assert len(upstream.seen) == 3
