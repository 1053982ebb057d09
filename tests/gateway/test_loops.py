"""A request that comes back to whoever forwarded it goes round no more."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from proxy.clock import ManualClock
from proxy.gateway.outbound import via_token
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Upstream

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
MARKING = config(gateway={"via": True})


def lead(door: Door, port: int) -> None:
    """Let the champion be whatever listens on `port`."""
    champion = door.table[0].champion
    door.route(champion=type(champion)(model_id=1, name="old", url=f"http://127.0.0.1:{port}"))


@contextlib.asynccontextmanager
async def ring(directory: Path, size: int, **options: Any) -> AsyncIterator[list[Door]]:
    """Installs, each with the next one as champion, and the last with the first."""
    async with contextlib.AsyncExitStack() as stack:
        doors = []
        for number in range(size):
            (home := directory / f"{number}").mkdir()
            doors.append(await stack.enter_async_context(open_gateway(home, "http://127.0.0.1:1", **options)))
        for door, following in zip(doors, doors[1:] + doors[:1], strict=True):
            lead(door, following.port)
        yield doors


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_request_that_comes_back_is_answered_508(tmp_path: Path, size: int) -> None:
    async with ring(tmp_path, size, settings=MARKING) as doors:
        head, body = await asyncio.wait_for(doors[0].ask(GET), 60)
        assert head.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
        error = orjson.loads(body)["error"]
        assert error["code"] == "loop_detected"
        assert "champion.url" in error["message"]
        assert [door.count("requests_total") for door in doors] == [1] * size, "each has forwarded it once"
        assert doors[0].count('protocol_errors_total{status="508"}') == 1


async def test_two_installs_in_a_row_are_no_loop(upstream: Upstream, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    async with (
        open_gateway(tmp_path / "b", upstream.url, settings=MARKING) as behind,
        open_gateway(tmp_path / "a", f"http://127.0.0.1:{behind.port}", settings=MARKING) as front,
    ):
        head, _ = await front.ask(GET)
        assert head.startswith(b"HTTP/1.1 200")
    vias = [line for line in upstream.seen[0].lines if line.startswith(b"Via:")]
    assert vias == [b"Via: 1.1 " + via_token(door.gateway.user_hash) for door in (front, behind)]
    assert vias[0] != vias[1]


async def test_a_replica_behind_a_replica_is_a_loop(upstream: Upstream, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    async with open_gateway(tmp_path / "b", upstream.url, settings=MARKING) as sibling:
        shutil.copy(tmp_path / "b" / "keys.json", tmp_path / "a")
        async with open_gateway(tmp_path / "a", f"http://127.0.0.1:{sibling.port}", settings=MARKING) as door:
            assert (await door.ask(GET))[0].startswith(b"HTTP/1.1 508")
    assert upstream.seen == []


async def test_without_via_a_question_that_comes_back_ends_the_loop_until_it_is_mended(tmp_path: Path) -> None:
    """No request is marked before; afterwards each is, for as long as the loop is there."""
    clock = ManualClock()
    async with ring(tmp_path, 2, clock=clock) as (door, other):
        question = GET.replace(b"Host: x", b"Host: x\r\nVia: 1.1 " + via_token(door.gateway.user_hash))
        assert (await other.ask(question))[0].startswith(b"HTTP/1.1 508")
        for _ in range(2):
            assert (await asyncio.wait_for(door.ask(GET), 60))[0].startswith(b"HTTP/1.1 508")
            clock.advance(50)
        assert door.count('protocol_errors_total{status="508"}') == 3


async def test_a_mended_loop_leaves_requests_as_they_are(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        mark = b"Via: 1.1 " + via_token(door.gateway.user_hash)
        assert (await door.ask(GET.replace(b"Host: x", b"Host: x\r\n" + mark)))[0].startswith(b"HTTP/1.1 508")
        await door.ask(GET)
        clock.advance(61)
        await door.ask(GET)
        await door.ask(GET)
        marked = [mark in seen.lines for seen in upstream.seen]
        assert (marked[0], marked[2]) == (True, False)
        assert upstream.seen[2].lines == [upstream.seen[2].lines[0]]


@pytest.mark.parametrize(
    "via", [b"1.1 ratchet", b"1.1 ratchet-0123456789abcdef", b"1.1 proxy (ratchet), 2 other", b"", b"\xff\xfe"]
)
async def test_whatever_else_via_says_is_nobodys_business(door: Door, upstream: Upstream, via: bytes) -> None:
    head, _ = await door.ask(GET.replace(b"Host: x", b"Host: x\r\nVia: " + via))
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Via: " + via in upstream.seen[0].lines


async def test_it_is_found_in_any_line_of_via(door: Door) -> None:
    token = via_token(door.gateway.user_hash)
    lines = b"Host: x\r\nVia: 1.1 a, 1.1 b\r\nvia: 2 c, 1.1 " + token + b", 1.1 d"
    assert (await door.ask(GET.replace(b"Host: x", lines)))[0].startswith(b"HTTP/1.1 508")
