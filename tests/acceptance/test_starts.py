"""A start needs the public port only: `kill -9` of the supervisor, ports that are taken, a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from proxy.clock import SystemClock
from proxy.ids import KeyRing, RecordIds
from tests.harness.require import FULL
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, serve_upstream

pytestmark = pytest.mark.slow

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER_S = 2.0 if FULL else 60.0
"""From the start of `ratchet serve` to its first answer: two seconds, on a machine that does nothing else. In any case
long before the orphans of an earlier one have to end, which is what a start must not wait for."""
KILLS = 6 if FULL else 2
DRAIN = {"drain_seconds": 600}


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Make(Protocol):
    """Makes a server on fixed ports, as in production: the next one needs the same."""

    def __call__(self, champion: str = ..., **settings: Any) -> RatchetProcess: ...


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    servers: list[RatchetProcess] = []

    def one(champion: str = "http://127.0.0.1:9", **settings: Any) -> RatchetProcess:
        ratchet = RatchetProcess(tmp_path, champion=champion, settings=settings)
        ratchet.settings["server"]["port"] = free_port()
        ratchet.settings["admin"]["port"] = free_port()
        servers.append(ratchet)
        return ratchet

    yield one
    for ratchet in servers:
        ratchet.stop(expect=None)


def first_answer(ratchet: RatchetProcess) -> float:
    """Start it; seconds until it has answered a request."""
    began = time.monotonic()
    ratchet.start(ready=False)
    assert request(ratchet.base_url, "/v1/models").status in (200, 502)
    return time.monotonic() - began


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def health(ratchet: RatchetProcess) -> int | None:
    try:
        return request(ratchet.admin_url, "/health").status
    except OSError:
        return None


class Streams:
    """Answers that go on until they are released."""

    def __init__(self, upstream: Upstream) -> None:
        self.release = asyncio.Event()
        upstream.on("/stream", self._answer)

    async def _answer(self, seen: Seen, line: Line) -> None:
        await line.send(HEAD + b"5\r\nfirst\r\n")
        await self.release.wait()
        await line.send(b"4\r\nlast\r\n0\r\n\r\n")

    async def one(self, ratchet: RatchetProcess) -> asyncio.Task[bytes]:
        """Open one; the task ends with all that came of it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", ratchet.settings["server"]["port"])
        writer.write(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        begin = await reader.readuntil(b"first\r\n")

        async def rest() -> bytes:
            with contextlib.closing(writer):
                return begin + await reader.read()

        return asyncio.create_task(rest())


async def test_after_a_killed_supervisor_the_next_answers_at_once_streams_finish_and_what_is_stuck_goes(
    upstream: Upstream, make: Make
) -> None:
    streams = Streams(upstream)
    ratchet = make(upstream.url, server=DRAIN)
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    orphans, open_streams, took = [], [], []
    for _ in range(KILLS):
        open_streams.append(await streams.one(ratchet))
        orphans += [*ratchet.worker_pids, ratchet.controller_pid]
        ratchet.kill("supervisor")
        took.append(await asyncio.to_thread(first_answer, ratchet))
    assert max(took) < ANSWER_S, took
    await asyncio.to_thread(ratchet.await_admin)
    assert json.loads((ratchet.data_dir / "run/addresses.json").read_text())["admin"] == ratchet_admin(ratchet)
    streams.release.set()
    answers = await asyncio.gather(*open_streams)
    assert [answer.endswith(b"first\r\n4\r\nlast\r\n0\r\n\r\n") for answer in answers] == [True] * KILLS
    await asyncio.to_thread(await_true, lambda: all(gone(pid) for pid in set(orphans)), "the orphans to end")
    assert (await asyncio.to_thread(request, ratchet.base_url, "/-/health")).status == 200
    await asyncio.to_thread(
        await_true, lambda: ratchet.metric("ratchet_ingest_records_total") >= 2 * KILLS, "all records to be stored"
    )
    await asyncio.to_thread(assert_stuck_processes_keep_neither_port_nor_store, ratchet)
    await asyncio.to_thread(ratchet.stop)
    assert "Fatal error" not in ratchet.log


def ratchet_admin(ratchet: RatchetProcess) -> str:
    return f"http://127.0.0.1:{ratchet.settings['admin']['port']}"


def assert_stuck_processes_keep_neither_port_nor_store(ratchet: RatchetProcess) -> None:
    """Nor do those that have been stopped (SIGSTOP) when their supervisor is killed."""
    (worker,), controller = ratchet.worker_pids, ratchet.controller_pid
    os.kill(worker, signal.SIGSTOP)
    os.kill(controller, signal.SIGSTOP)
    ratchet.kill("supervisor")
    assert first_answer(ratchet) < ANSWER_S
    await_true(lambda: gone(worker) and gone(controller), "the end of the stuck processes")
    ratchet.await_admin()
    assert f"worker process {worker} of an earlier `ratchet serve` is stuck" in ratchet.log
    assert f"controller process {controller} of an earlier `ratchet serve` is stuck" in ratchet.log


def test_the_admin_port_is_opened_when_a_stranger_leaves_it(make: Make) -> None:
    ratchet = make()
    with socket.create_server(("127.0.0.1", ratchet.settings["admin"]["port"])):
        assert first_answer(ratchet) < ANSWER_S
        await_true(lambda: "admin: cannot listen on" in ratchet.log, "the trouble to be said")
        assert "(admin.host, admin.port)" in ratchet.log
        assert ratchet.admin_url == ""
    ratchet.admin_url = ratchet_admin(ratchet)
    await_true(lambda: health(ratchet) is not None, "the admin port")
    await_true(lambda: "is open after" in ratchet.log, "the end of the trouble to be said")
    log = ratchet.stop()
    assert log.count("admin: cannot listen on") == 1


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB without a byte left. Mounting needs root."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(where)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    with (where / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_a_first_start_on_a_full_disk_serves_waits_and_goes_on(
    upstream: Upstream, make: Make, full_disk: Path
) -> None:
    ratchet = make(upstream.url, server={"data_dir": str(full_disk / "data")})
    ratchet.data_dir = full_disk / "data"
    ratchet.base_url = f"http://127.0.0.1:{ratchet.settings['server']['port']}"
    ratchet.admin_url = ratchet_admin(ratchet)
    launched = ratchet.launch()
    await asyncio.to_thread(await_true, lambda: "accepting on" in ratchet.log, "a worker")
    answer = await asyncio.to_thread(request, ratchet.base_url, "/v1/models")
    assert answer.status == 200
    given = answer.headers["x-ratchet-record-id"]
    await asyncio.to_thread(await_true, lambda: "records are dropped" in ratchet.log, "the drop to be said")
    await asyncio.to_thread(await_true, lambda: health(ratchet) == 503, "the controller to say that it waits")
    assert launched.poll() is None
    (full_disk / "filler").unlink()
    await asyncio.to_thread(ratchet.await_admin)
    await asyncio.to_thread(await_true, (ratchet.data_dir / "run/addresses.json").exists, "the addresses")
    ids = RecordIds(KeyRing(ratchet.data_dir / "keys.json"))
    assert ids.verify(given), "what clients were given meanwhile was signed by the ring that is on the disk now"

    def recorded() -> bool:
        request(ratchet.base_url, "/v1/models")
        return ratchet.metric("ratchet_ingest_records_total") > 0

    await asyncio.to_thread(await_true, recorded, "records to be stored")
    await asyncio.to_thread(await_true, lambda: ratchet.metric("ratchet_gateway_not_recorded_total") > 0, "the count")
    log = await asyncio.to_thread(ratchet.stop)
    assert "the disk can be written again" in log
    assert "ended (" not in log, "nothing was started again and again"
    assert log.count("the disk is full: serving goes on") == 1


async def test_a_start_on_a_read_only_disk_serves_and_records_when_it_can(upstream: Upstream, make: Make) -> None:
    ratchet = make(upstream.url)
    for folder in (ratchet.data_dir / "run", ratchet.data_dir / "spool"):
        folder.mkdir(parents=True)
    disk = str(ratchet.data_dir)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for folder in (ratchet.data_dir / "run", ratchet.data_dir / "spool"):
            folder.mkdir()
        (ratchet.data_dir / "run/supervisor.pid").touch()
        KeyRing.load_or_create(ratchet.data_dir / "keys.json", SystemClock())
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        ratchet.base_url = f"http://127.0.0.1:{ratchet.settings['server']['port']}"
        ratchet.admin_url = ratchet_admin(ratchet)
        ratchet.launch()
        await asyncio.to_thread(await_true, lambda: "accepting on" in ratchet.log, "a worker")
        assert (await asyncio.to_thread(request, ratchet.base_url, "/v1/models")).status == 200
        await asyncio.to_thread(await_true, lambda: health(ratchet) == 503, "the controller to say that it waits")
        assert ratchet.log.count("the disk is read-only: serving goes on") == 1
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)

        def recorded() -> bool:
            request(ratchet.base_url, "/v1/models")
            return ratchet.metric("ratchet_ingest_records_total") > 0

        await asyncio.to_thread(await_true, recorded, "records to be stored")
        assert "ended (" not in await asyncio.to_thread(ratchet.stop)
    finally:
        await asyncio.to_thread(ratchet.stop, expect=None)
        subprocess.run(["umount", "-l", disk], check=True)
