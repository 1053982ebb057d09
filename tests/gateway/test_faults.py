"""What became of each request is counted once, for the model that was asked, by cause."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.gateway import GATEWAY_COUNTERS
from proxy.gateway.faults import Fault, answered_slot, failed_slot, fault_of_connecting, left_slot, refused_slot
from tests.harness.gateway import Door, config, open_gateway
from tests.harness.upstream import Line, Script, Seen, Upstream, reply

GET = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
DEAD = "http://127.0.0.1:1"


def counted(door: Door, arm: str = "champion") -> tuple[int, dict[str, int]]:
    """Answers of the arm, and what failed, was refused, or was left, by its label."""
    slots = {fault.value: failed_slot(arm, fault) for fault in Fault}
    slots |= {f"refused {status}": refused_slot(arm, status) for status in (400, 401, 403, 404, 429)}
    slots |= {"left": left_slot(arm)}
    return int(door.count(answered_slot(arm))), {
        name: int(door.count(slot)) for name, slot in slots.items() if door.count(slot)
    }


def says(data: bytes, *, close: bool = False) -> Script:
    async def script(seen: Seen, line: Line) -> None:
        await line.send(data)
        if close:
            line.close()

    return script


@pytest.mark.parametrize(
    ("answer", "close", "found"),
    [
        (reply(), False, {}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, {}),
        (b"HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n", False, {"refused 404": 1}),
        (b"HTTP/1.1 422 N\r\nContent-Length: 0\r\n\r\n", False, {"refused 400": 1}),
        (b"HTTP/1.1 500 N\r\nContent-Length: 0\r\n\r\n", False, {"500": 1}),
        (b"HTTP/1.1 503 N\r\nContent-Length: 0\r\n\r\n", False, {"503": 1}),
        (b"HTTP/1.1 599 N\r\nContent-Length: 0\r\n\r\n", False, {"5xx": 1}),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False, {"no_http": 1}),
        (b"", True, {"closed": 1}),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", True, {"broken_off": 1}),
    ],
)
async def test_an_answer_counts_once_by_what_became_of_it(
    door: Door, upstream: Upstream, answer: bytes, close: bool, found: dict[str, int]
) -> None:
    upstream.on("/x", says(answer, close=close))
    await door.dialogue(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    await door.settled("in_flight", 0)
    assert counted(door) == (1, found)


async def test_nobody_there_and_no_answer_in_time_are_told_apart(upstream: Upstream, tmp_path: Path) -> None:
    async with open_gateway(tmp_path, DEAD) as door:
        await door.ask(GET)
        assert counted(door) == (1, {"refused": 1})

    async def hang(seen: Seen, line: Line) -> None:
        await line.until_closed()

    upstream.on("/x", hang)
    hasty = config(gateway={"first_byte_timeout_seconds": 0.1})
    (tmp_path / "b").mkdir()
    async with open_gateway(tmp_path / "b", upstream.url, settings=hasty) as door:
        await door.ask(GET)
        assert counted(door) == (1, {"silent": 1})


async def test_a_challenger_that_fails_has_failed_though_the_champion_answered(
    upstream: Upstream, tmp_path: Path
) -> None:
    async with open_gateway(tmp_path, upstream.url, challenger=DEAD) as door:
        await door.ask(GET)
        assert counted(door, "challenger") == (1, {"refused": 1})
        assert counted(door) == (1, {})


@pytest.mark.parametrize(("waited_s", "found"), [(0.5, {}), (1.5, {"left": 1})])
async def test_only_who_waited_and_left_counts(
    upstream: Upstream, tmp_path: Path, waited_s: float, found: dict[str, int]
) -> None:
    clock, asked = ManualClock(), asyncio.Event()

    async def hang(seen: Seen, line: Line) -> None:
        asked.set()
        await line.until_closed()

    upstream.on("/x", hang)
    async with open_gateway(tmp_path, upstream.url, clock=clock) as door:
        client = await door.connect()
        await client.send(GET)
        await asyncio.wait_for(asked.wait(), 60)
        clock.advance(waited_s)
        client.close()
        await door.settled("in_flight", 0)
        assert counted(door) == (0, found)


async def test_what_we_refuse_ourselves_is_not_the_models(door: Door) -> None:
    await door.dialogue(b"GET /x HTTP/9.9\r\nHost: x\r\n\r\n")
    await door.ask(GET.replace(b"Host: x", b"Host: x\r\nContent-Length: x"))
    assert counted(door) == (0, {})


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ConnectionRefusedError(), Fault.REFUSED),
        (socket.gaierror(-2, "Name or service not known"), Fault.UNRESOLVED),
        (TimeoutError(), Fault.NO_CONNECTION),
        (ssl.SSLCertVerificationError("self-signed"), Fault.TLS),
        (ConnectionResetError(), Fault.CLOSED),
        (OSError(113, "No route to host"), Fault.UNREACHABLE),
        (RuntimeError("no thread"), Fault.UNREACHABLE),
    ],
)
def test_why_there_is_no_connection(error: Exception, fault: Fault) -> None:
    assert fault_of_connecting(error) is fault


def test_every_fault_has_a_slot() -> None:
    assert len(set(GATEWAY_COUNTERS)) == len(GATEWAY_COUNTERS)
    assert {failed_slot(arm, fault) for arm in ("champion", "challenger") for fault in Fault} <= set(GATEWAY_COUNTERS)
