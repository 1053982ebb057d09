"""Whatever is killed, full or locked: whoever got a whole answer has exactly one record, and traffic goes on."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from proxy.ids import KeyRing, RecordIds
from tests.harness.load import Load, load_on
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = pytest.mark.slow

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def hasty(seen: Seen, line: Line) -> None:
            await asyncio.sleep(0.005)  # so that there is always something open when something is killed
            await line.send(reply())

        server.on("/v1/chat/completions", hasty)
        yield server


LOCKED_S = 30 if os.environ.get("RATCHET_FULL") == "1" else 6
"""How long another process holds the database: in either case longer than the store waits for a lock."""


class Launch(Protocol):
    """Makes one server, stopped after the test at the latest."""

    def __call__(self, champion: str, *, settings: Mapping[str, Any] | None = None) -> RatchetProcess: ...


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    made: list[RatchetProcess] = []

    def make(champion: str, *, settings: Mapping[str, Any] | None = None) -> RatchetProcess:
        made.append(RatchetProcess(tmp_path, champion=champion, settings=settings))
        return made[-1]

    yield make
    for ratchet in made:
        ratchet.stop(expect=None)


def records(ratchet: RatchetProcess) -> list[str]:
    with contextlib.closing(sqlite3.connect(ratchet.data_dir / "ratchet.db", timeout=120)) as database:
        return [row[0].hex() for row in database.execute("select id from records")]


async def assert_nothing_lost(ratchet: RatchetProcess, load: Load) -> None:
    """Every whole answer has its record, and no request has two. `ratchet` runs, and is stopped here."""
    ids = RecordIds(KeyRing.load_or_create(ratchet.data_dir / "keys.json"))
    answered = {ids.verify(token) for token in load.answered}
    assert len(answered) == len(load.answered) > 0
    await in_thread(ratchet.await_admin)
    await in_thread(_await_stored, ratchet, answered)
    await in_thread(ratchet.stop)
    stored = records(ratchet)
    assert len(stored) == len(set(stored)) <= load.sent
    assert list((ratchet.data_dir / "spool").glob("*/*.seg")) == [], "what is left is only kept"


def _await_stored(ratchet: RatchetProcess, answered: set[str]) -> None:
    try:
        await_true(lambda: answered <= set(records(ratchet)), "every answered request to be stored")
    except AssertionError as exc:
        missing = answered - set(records(ratchet))
        raise AssertionError(f"{len(missing)} of {len(answered)} have no record:\n{ratchet.log}") from exc


async def in_thread(call: Callable[..., object], *args: object) -> object:
    return await asyncio.to_thread(call, *args)


async def test_a_killed_worker_costs_only_what_was_open_in_it(launch: Launch, upstream: Upstream) -> None:
    ratchet = launch(upstream.url, settings={"server": {"workers": 2}})
    await in_thread(ratchet.start)
    async with load_on(ratchet.base_url) as load:
        for worker in ("worker-0", "worker-1", "worker-0"):
            await load.until(100)
            pid = ratchet.kill(worker)
            await in_thread(ratchet.await_new, worker, pid)
        await load.until(100)
    assert load.refused == 0, "the listening socket outlives its workers"
    assert 0 < load.broken <= 3 * 8
    await assert_nothing_lost(ratchet, load)


async def test_traffic_goes_on_while_the_controller_is_dead(launch: Launch, upstream: Upstream) -> None:
    ratchet = launch(upstream.url)
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    async with load_on(ratchet.base_url) as load:
        for _ in range(3):
            await load.until(100)
            pid = ratchet.kill("controller")
            await load.until(50)
            await in_thread(ratchet.await_new, "controller", pid)
            await in_thread(ratchet.await_admin)
    assert load.broken == load.refused == 0
    await assert_nothing_lost(ratchet, load)


@pytest.mark.parametrize("removed", ["the workers' folders", "the spool"])
async def test_a_spool_that_is_removed_under_load_costs_nothing(
    launch: Launch, upstream: Upstream, removed: str
) -> None:
    ratchet = launch(upstream.url, settings={"server": {"workers": 2}})
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    spool = ratchet.data_dir / "spool"
    async with load_on(ratchet.base_url) as load:
        for times in (1, 2):
            await load.until(200)
            for folder in [spool] if removed == "the spool" else [*spool.glob("w*")]:
                shutil.rmtree(folder, ignore_errors=True)
            await in_thread(_await_put_back, ratchet, 2 * times)
        await load.until(100)
    assert load.broken == load.refused == 0
    assert ratchet.metric("ratchet_gateway_spool_lost_frames_total") == 0
    await assert_nothing_lost(ratchet, load)


def _await_put_back(ratchet: RatchetProcess, times: int) -> None:
    await_true(lambda: ratchet.metric("ratchet_gateway_spool_vanished_total") >= times, "the files to be put back")
    await_true(lambda: ratchet.log.count("somebody removed its files") >= times, "it to be said")


async def test_a_killed_supervisor_takes_its_children_along_cleanly(launch: Launch, upstream: Upstream) -> None:
    ratchet = launch(upstream.url)
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    children = [*ratchet.worker_pids, ratchet.controller_pid]
    async with load_on(ratchet.base_url) as load:
        await load.until(200)
        ratchet.kill("supervisor")
        await in_thread(_await_gone, children)
    assert "the supervisor is gone: finishing" in ratchet.log
    assert records(ratchet), "the controller has flushed"
    await in_thread(ratchet.start)
    await assert_nothing_lost(ratchet, load)


async def test_everything_killed_at_once_loses_nothing_either(launch: Launch, upstream: Upstream) -> None:
    ratchet = launch(upstream.url)
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    children = [*ratchet.worker_pids, ratchet.controller_pid]
    stop = asyncio.Event()
    load = Load(ratchet.base_url)
    tasks = [asyncio.create_task(load.client(stop)) for _ in range(8)]
    await load.until(200)
    ratchet.kill("supervisor")
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stop.set()
    await asyncio.gather(*tasks)
    await in_thread(_await_gone, children)
    await in_thread(ratchet.start)
    await assert_nothing_lost(ratchet, load)


async def test_sigterm_lets_a_stream_finish(launch: Launch, upstream: Upstream) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def stream(seen: Seen, line: Line) -> None:
        await line.send(STREAM_HEAD)
        await line.send(_chunk(b"data: first\n\n"))
        started.set()
        await release.wait()
        await line.send(_chunk(b"data: last\n\n") + _chunk(b""))

    upstream.on("/stream", stream)
    ratchet = launch(upstream.url, settings={"server": {"drain_seconds": 600}})
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)  # so that the record is stored before the end
    answer = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/stream"))
    await started.wait()
    ratchet.terminate()
    await in_thread(await_true, lambda: _refuses(ratchet.base_url), "the port to be closed")
    release.set()
    assert (await answer).body == b"data: first\n\ndata: last\n\n"
    await in_thread(ratchet.stop)
    assert len(records(ratchet)) == 1


async def test_a_stream_longer_than_the_limit_is_cut_and_recorded(launch: Launch, upstream: Upstream) -> None:
    started = asyncio.Event()

    async def endless(seen: Seen, line: Line) -> None:
        await line.send(STREAM_HEAD + _chunk(b"data: first\n\n"))
        started.set()
        await line.until_closed()

    upstream.on("/stream", endless)
    ratchet = launch(upstream.url, settings={"server": {"drain_seconds": 0.5}})
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)  # so that the record is stored before the end
    answer = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/stream"))
    await started.wait()
    log = await in_thread(ratchet.stop)
    assert "were cut" in str(log)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        await answer
    assert len(records(ratchet)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB. Mounting needs root."""
    where = tmp_path / "disk"
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(where)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


async def test_a_full_disk_costs_records_and_no_answers(
    tmp_path: Path, small_disk: Path, launch: Launch, upstream: Upstream
) -> None:
    settings = {"server": {"data_dir": str(small_disk / "data")}, "store": {"url": f"sqlite:///{tmp_path}/r.db"}}
    ratchet = launch(upstream.url, settings=settings)
    ratchet.data_dir = small_disk / "data"
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    async with load_on(ratchet.base_url, clients=2) as load:
        await load.until(20)
        filler = small_disk / "filler"
        _fill(filler)
        await in_thread(await_true, lambda: _dropped(ratchet, "disk_full") > 0, "a drop for want of disk", lambda: None)
        pid = ratchet.kill("worker-0")
        await load.until(20)
        filler.unlink()
        await in_thread(await_true, lambda: _worker_pid(ratchet) not in (None, pid), "a worker started on a full disk")
        dropped = _dropped(ratchet, "disk_full")
        await load.until(50)
        settled = dropped - 1
        while settled < _dropped(
            ratchet, "disk_full"
        ):  # metrics are published a moment later; it ends when none is dropped
            settled = _dropped(ratchet, "disk_full")
            await load.until(50)
    assert load.broken <= 2
    await in_thread(ratchet.stop)
    with contextlib.closing(sqlite3.connect(tmp_path / "r.db")) as database:
        (stored,) = database.execute("select count(*) from records").fetchone()
    assert 100 <= stored < len(load.answered)


def _worker_pid(ratchet: RatchetProcess) -> int | None:
    answer = request(ratchet.base_url, "/-/health?verbose")
    return int(answer.json()["pid"]) if answer.status == 200 else None


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def _dropped(ratchet: RatchetProcess, reason: str) -> float:
    return ratchet.metric("ratchet_gateway_not_recorded_total", reason=reason)


async def test_a_locked_database_delays_records_and_loses_none(launch: Launch, upstream: Upstream) -> None:
    ratchet = launch(upstream.url)
    await in_thread(ratchet.start)
    await in_thread(ratchet.await_admin)
    async with load_on(ratchet.base_url) as load:
        await load.until(50)
        path = ratchet.data_dir / "ratchet.db"
        with contextlib.closing(sqlite3.connect(path, timeout=120, isolation_level=None)) as database:
            database.execute("begin immediate")
            before = len(records(ratchet))
            await load.until(100)
            await in_thread(
                await_true, lambda: ratchet.metric("ratchet_spool_oldest_seconds") > LOCKED_S, "the spool to age"
            )
            assert len(records(ratchet)) == before
            assert ratchet.metric("ratchet_spool_pending_bytes") > 0
            database.execute("rollback")
        await in_thread(await_true, lambda: len(records(ratchet)) > before + 100, "records to be stored")
    assert load.broken == load.refused == 0
    await assert_nothing_lost(ratchet, load)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _await_gone(pids: list[int]) -> None:
    await_true(lambda: not any(_alive(pid) for pid in pids), "the children to end")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _refuses(base_url: str) -> bool:
    try:
        request(base_url, "/-/health", timeout_s=1)  # leaves no record
    except ConnectionRefusedError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return False
