"""Processes end when they are told to, whatever clients, models and we ourselves are doing at that moment."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from tests.harness.require import FULL
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

LEAVERS = 10_000 if FULL else 1_000
QUICK = {"server": {"drain_seconds": 1}, "gateway": {"upstream_idle_seconds": 2}}
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
HUNG = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
def same(text):
    return text
"""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


@pytest.fixture
async def ratchet(upstream: Upstream, tmp_path: Path) -> AsyncIterator[RatchetProcess]:
    made = RatchetProcess(tmp_path, champion=upstream.url, settings=QUICK)
    yield made
    await asyncio.to_thread(made.stop, expect=None)


async def stream(seen: Seen, line: Line) -> None:
    """An answer without an end."""
    await line.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    await line.until_closed()


def gone(pid: int) -> bool:
    """Whether there is no such process any more; one that nobody has waited for yet is gone, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def ends(ratchet: RatchetProcess) -> None:
    """SIGTERM ends it, and nothing had to be killed (status 0: the supervisor waits for the drain and three seconds
    more) or was left behind."""
    log = await asyncio.to_thread(ratchet.stop, expect=0)
    assert "still open at the end" not in log


async def settled(ratchet: RatchetProcess) -> None:
    """Wait until no connection is counted."""

    def nothing() -> bool:
        gauges = ("client_connections", "upstream_connections")
        return all(ratchet.metric(f"ratchet_gateway_{gauge}") == 0 for gauge in gauges)

    await asyncio.to_thread(await_true, nothing, "no connection to be counted")


async def test_clients_that_leave_at_any_instant(ratchet: RatchetProcess, upstream: Upstream) -> None:
    """And while the worker stands still."""

    async def answer(seen: Seen, line: Line) -> None:
        await line.send(reply(b"{}"))

    async def visit(random: Random) -> None:
        _reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(POST[: random.choice((len(POST), random.randrange(1, len(POST))))])
        if delay_s := random.choice((0.0, random.random() * 0.002, random.random() * 0.02)):
            await asyncio.sleep(delay_s)  # this is the instant
        if random.random() < 0.5:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()

    async def visitor(number: int) -> None:
        random = Random(number)
        for _ in range(LEAVERS // 50):
            await visit(random)

    upstream.default = answer  # type: ignore[method-assign]
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    host, port = ratchet.base_url.removeprefix("http://").split(":")
    (worker,) = ratchet.worker_pids
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(20):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(POST)
    finally:
        os.kill(worker, signal.SIGCONT)
    await asyncio.to_thread(request, ratchet.base_url, "/x")  # behind all of them
    await settled(ratchet)
    await asyncio.gather(*(visitor(number) for number in range(50)))
    assert (await asyncio.to_thread(request, ratchet.base_url, "/x")).status == 200
    await settled(ratchet)
    await ends(ratchet)


async def test_a_replaced_worker_is_gone_and_a_stream_without_end_is_cut_in_their_time(
    ratchet: RatchetProcess, upstream: Upstream
) -> None:
    """The worker stands still and would never drain; what is left of it goes, the new one serves."""
    await asyncio.to_thread(ratchet.start)
    old = ratchet.pid("worker-0")
    os.kill(old, signal.SIGSTOP)
    os.kill(ratchet.pid("supervisor"), signal.SIGHUP)
    await asyncio.to_thread(ratchet.await_new, "worker-0", old)
    await asyncio.to_thread(await_true, lambda: gone(old), "the end of the old worker")
    assert "worker-0, already replaced, did not end in time: killing it" in ratchet.log
    assert (await asyncio.to_thread(request, ratchet.base_url, "/x")).status == 200
    await asyncio.to_thread(ratchet.await_admin)
    upstream.default = stream  # type: ignore[method-assign]
    upstream.arrived.clear()
    client = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/x"))
    await asyncio.wait_for(upstream.arrived.wait(), 120)
    await ends(ratchet)
    with pytest.raises(Exception, match=r"IncompleteRead|reset"):
        await client


async def test_a_worker_that_was_replaced_does_not_outlive_a_stop(ratchet: RatchetProcess) -> None:
    await asyncio.to_thread(ratchet.start)
    old = ratchet.pid("worker-0")
    os.kill(old, signal.SIGSTOP)
    os.kill(ratchet.pid("supervisor"), signal.SIGHUP)
    await asyncio.to_thread(ratchet.await_new, "worker-0", old)
    await asyncio.to_thread(ratchet.stop, expect=None)
    assert gone(old)


async def test_two_signals_at_once_are_one_wish(ratchet: RatchetProcess, upstream: Upstream) -> None:
    """A terminal or `timeout` signals every process of the group, and whoever started us signals us, too: open answers
    end all the same."""
    told = asyncio.Event()

    async def answer(seen: Seen, line: Line) -> None:
        await told.wait()
        await line.send(reply(b"{}"))

    upstream.default = answer  # type: ignore[method-assign]
    ratchet.settings["server"]["drain_seconds"] = 60
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    client = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/x"))
    await asyncio.wait_for(upstream.arrived.wait(), 120)
    for pid in (ratchet.pid("supervisor"), *ratchet.worker_pids, ratchet.controller_pid):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    await asyncio.to_thread(await_true, lambda: "draining: open" in ratchet.log, "the drain")
    told.set()
    assert (await client).status == 200
    log = await asyncio.to_thread(ratchet.wait, expect=0)
    assert "killing it" not in log


async def test_an_orphan_with_an_open_stream_ends(ratchet: RatchetProcess, upstream: Upstream) -> None:
    upstream.default = stream  # type: ignore[method-assign]
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    client = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/x"))
    await asyncio.wait_for(upstream.arrived.wait(), 120)
    orphans = [*ratchet.worker_pids, ratchet.controller_pid]
    ratchet.kill("supervisor")
    await asyncio.to_thread(await_true, lambda: all(map(gone, orphans)), "the end of the orphans")
    with pytest.raises(Exception, match=r"IncompleteRead|reset"):
        await client


@pytest.mark.parametrize("draining", [False, True])
async def test_an_orphan_that_hangs_is_ended(ratchet: RatchetProcess, tmp_path: Path, draining: bool) -> None:
    """Its own event loop hears nothing any more: it is in a signal handler of somebody who did not think of this."""
    (tmp_path / "hung.py").write_text(HUNG)
    ratchet.settings["capture"] = {"redaction": {"callable": "hung:same"}}
    await asyncio.to_thread(ratchet.start)
    (worker,) = ratchet.worker_pids
    os.kill(worker, signal.SIGUSR1)
    await asyncio.to_thread(await_true, lambda: _sleeps(worker), "the worker to hang")
    client = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/x"))
    if draining:
        os.kill(worker, signal.SIGTERM)
    ratchet.kill("supervisor")
    await asyncio.to_thread(await_true, lambda: gone(worker), "the end of the orphan")
    with pytest.raises(OSError):
        await client


def _sleeps(pid: int) -> bool:
    """Whether the main thread is in time.sleep."""
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text() or _syscall(pid) in (35, 230)


def _syscall(pid: int) -> int:
    number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return int(number) if number.isdigit() else -1
