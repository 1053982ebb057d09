"""Whatever is killed, full or locked: whoever got a whole answer has exactly one record, and traffic goes on.

What befalls a server befalls one and the same, which is started again by whoever needs it; `test_storm.py` has all
kinds of kill in one.
"""

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
from typing import Any

import psutil
import pytest
import pytest_asyncio

from proxy.ids import KeyRing, RecordIds
from proxy.version import build
from tests.harness.load import Load, load_on
from tests.harness.require import FULL
from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, reply, serve_upstream

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LOCKED_S = 30 if FULL else 6
"""How long another process holds the database: in either case longer than the store waits for a lock."""
KILLS = 3 if FULL else 1
"""Of the controller."""
LOOK_S = 0.2
"""Between two looks at a whole server."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:

        async def slowly(seen: Seen, line: Line) -> None:
            await asyncio.sleep(0.1)  # so that there is always something open when something is killed
            await line.send(reply())

        server.on("/v1/chat/completions", slowly)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RatchetProcess]:
    """The server, whether it runs or not. In the end nothing waits in its spool."""
    settings = {"server": {"workers": 2, "drain_seconds": 600}}
    ratchet = RatchetProcess(tmp_path_factory.mktemp("site"), champion=upstream.url, settings=settings)
    yield ratchet
    await in_thread(ratchet.stop)
    assert list((ratchet.data_dir / "spool").glob("*/*.seg")) == [], "what is left is only kept"


@pytest_asyncio.fixture(loop_scope="module")
async def ratchet(site: RatchetProcess) -> RatchetProcess:
    """The server, running."""
    if site.process is None:
        await in_thread(site.start)
    await in_thread(site.await_admin)
    return site


def records(ratchet: RatchetProcess) -> list[str]:
    with contextlib.closing(sqlite3.connect(ratchet.data_dir / "ratchet.db", timeout=120)) as database:
        return [row[0].hex() for row in database.execute("select id from records")]


def count(ratchet: RatchetProcess) -> int:
    with contextlib.closing(sqlite3.connect(ratchet.data_dir / "ratchet.db", timeout=120)) as database:
        return int(database.execute("select count(*) from records").fetchone()[0])


async def assert_nothing_lost(ratchet: RatchetProcess, load: Load, before: int) -> None:
    """Every whole answer has its record, and no request has two. `before`: records before the load."""
    ids = RecordIds(KeyRing.load_or_create(ratchet.data_dir / "keys.json"))
    answered = {ids.verify(token) for token in load.answered}
    assert len(answered) == len(load.answered) > 0
    await in_thread(ratchet.await_admin)
    await in_thread(_await_stored, ratchet, answered, before)
    stored = records(ratchet)
    assert len(stored) == len(set(stored)) <= before + load.sent


def _await_stored(ratchet: RatchetProcess, answered: set[str], before: int) -> None:
    def there() -> bool:
        return count(ratchet) >= before + len(answered) and answered <= set(records(ratchet)) and _all_is_read(ratchet)

    try:
        await_true(there, "every answered request to be stored", every_s=LOOK_S)
    except AssertionError as exc:
        missing = answered - set(records(ratchet))
        raise AssertionError(f"{len(missing)} of {len(answered)} have no record:\n{ratchet.log}") from exc


def _all_is_read(ratchet: RatchetProcess) -> bool:
    """Whether also of those without an answer nothing waits."""
    return ratchet.metric("ratchet_spool_pending_bytes") == 0


async def in_thread(call: Callable[..., object], *args: object) -> object:
    return await asyncio.to_thread(call, *args)


async def test_every_process_is_of_the_build_that_is_tested(ratchet: RatchetProcess) -> None:
    assert ratchet.metric("ratchet_build_info", build=build()) == 1
    for pid in (*ratchet.worker_pids, ratchet.controller_pid):
        compiled = any("ratchet__mypyc" in part.path for part in psutil.Process(pid).memory_maps())
        assert compiled == (build() == "compiled")


async def test_a_killed_worker_costs_only_what_was_open_in_it(ratchet: RatchetProcess) -> None:
    before = count(ratchet)
    async with load_on(ratchet.base_url) as load:
        for worker in ("worker-0", "worker-1", "worker-0"):
            await load.until(50)
            pid = ratchet.kill(worker)
            await in_thread(ratchet.await_new, worker, pid)
        await load.until(50)
    assert load.refused == 0, "the listening socket outlives its workers"
    assert 0 < load.broken <= 3 * 8
    await assert_nothing_lost(ratchet, load, before)


async def test_traffic_goes_on_while_the_controller_is_dead(ratchet: RatchetProcess) -> None:
    before = count(ratchet)
    async with load_on(ratchet.base_url) as load:
        for _ in range(KILLS):
            await load.until(50)
            pid = ratchet.kill("controller")
            await load.until(50)
            await in_thread(ratchet.await_new, "controller", pid)
            await in_thread(ratchet.await_admin)
    assert load.broken == load.refused == 0
    await assert_nothing_lost(ratchet, load, before)


LOST = "ratchet_gateway_spool_lost_frames_total"
VANISHED = "ratchet_gateway_spool_vanished_total"
SAID = "its files were removed"


@pytest.mark.parametrize("removed", ["the workers' folders", "the spool"])
async def test_a_spool_that_is_removed_under_load_costs_nothing(ratchet: RatchetProcess, removed: str) -> None:
    before, spool = count(ratchet), ratchet.data_dir / "spool"
    lost, vanished, said = ratchet.metric(LOST), ratchet.metric(VANISHED), ratchet.log.count(SAID)

    def put_back(files: int) -> bool:
        return ratchet.metric(VANISHED) >= vanished + files and ratchet.log.count(SAID) >= said + files

    async with load_on(ratchet.base_url) as load:
        for times in (1, 2):
            await load.until(100)
            for folder in [spool] if removed == "the spool" else [*spool.glob("w*")]:
                shutil.rmtree(folder, ignore_errors=True)
            await in_thread(_await, lambda files=2 * times: put_back(files), "the files to be put back")
        await load.until(50)
    assert load.broken == load.refused == 0
    assert ratchet.metric(LOST) == lost
    await assert_nothing_lost(ratchet, load, before)


async def test_a_killed_supervisor_takes_its_children_along_cleanly(ratchet: RatchetProcess) -> None:
    before, children = count(ratchet), [*ratchet.worker_pids, ratchet.controller_pid]
    async with load_on(ratchet.base_url) as load:
        await load.until(100)
        ratchet.kill("supervisor")
        await in_thread(_await_gone, children)
    assert "the supervisor is gone: shutting down" in ratchet.log
    assert count(ratchet) > before, "the controller has flushed"
    await in_thread(ratchet.start)
    await assert_nothing_lost(ratchet, load, before)


async def test_everything_killed_at_once_loses_nothing_either(ratchet: RatchetProcess) -> None:
    before, children = count(ratchet), [*ratchet.worker_pids, ratchet.controller_pid]
    stop = asyncio.Event()
    load = Load(ratchet.base_url, 0.02)
    tasks = [asyncio.create_task(load.client(stop)) for _ in range(8)]
    await load.until(100)
    ratchet.kill("supervisor")
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stop.set()
    await asyncio.gather(*tasks)
    await in_thread(_await_gone, children)
    await in_thread(ratchet.start)
    await assert_nothing_lost(ratchet, load, before)


async def test_a_locked_database_delays_records_and_loses_none(ratchet: RatchetProcess) -> None:
    first = count(ratchet)
    async with load_on(ratchet.base_url) as load:
        await load.until(50)
        path = ratchet.data_dir / "ratchet.db"
        with contextlib.closing(sqlite3.connect(path, timeout=120, isolation_level=None)) as database:
            database.execute("begin immediate")
            before = count(ratchet)
            await load.until(100)
            await in_thread(_await, lambda: ratchet.metric("ratchet_spool_oldest_seconds") > LOCKED_S, "it to age")
            assert count(ratchet) == before
            assert ratchet.metric("ratchet_spool_pending_bytes") > 0
            database.execute("rollback")
        await in_thread(_await, lambda: count(ratchet) > before + 100, "records to be stored")
    assert load.broken == load.refused == 0
    await assert_nothing_lost(ratchet, load, first)


async def test_sigterm_lets_a_stream_finish(ratchet: RatchetProcess, upstream: Upstream) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def stream(seen: Seen, line: Line) -> None:
        await line.send(STREAM_HEAD)
        await line.send(_chunk(b"data: first\n\n"))
        started.set()
        await release.wait()
        await line.send(_chunk(b"data: last\n\n") + _chunk(b""))

    upstream.on("/stream", stream)
    answering = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/stream"))
    await started.wait()
    ratchet.terminate()
    await in_thread(await_true, lambda: _refuses(ratchet.base_url), "the port to be closed")
    release.set()
    answer = await answering
    assert answer.body == b"data: first\n\ndata: last\n\n"
    await in_thread(ratchet.stop)
    ids = RecordIds(KeyRing.load_or_create(ratchet.data_dir / "keys.json"))
    assert records(ratchet).count(ids.verify(answer.headers["x-ratchet-record-id"])) == 1


@contextlib.asynccontextmanager
async def own(directory: Path, champion: str, settings: Mapping[str, Any]) -> AsyncIterator[RatchetProcess]:
    """A server for one test."""
    ratchet = RatchetProcess(directory, champion=champion, settings=settings)
    ratchet.data_dir = Path(settings["server"].get("data_dir", ratchet.data_dir))
    try:
        await in_thread(ratchet.start)
        await in_thread(ratchet.await_admin)
        yield ratchet
    finally:
        await in_thread(lambda: ratchet.stop(expect=None))


async def test_a_stream_longer_than_the_limit_is_cut_and_recorded(tmp_path: Path, upstream: Upstream) -> None:
    started = asyncio.Event()

    async def endless(seen: Seen, line: Line) -> None:
        await line.send(STREAM_HEAD + _chunk(b"data: first\n\n"))
        started.set()
        await line.until_closed()

    upstream.on("/endless", endless)
    async with own(tmp_path, upstream.url, {"server": {"drain_seconds": 0.5}}) as ratchet:
        answer = asyncio.create_task(asyncio.to_thread(request, ratchet.base_url, "/endless"))
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


async def test_a_full_disk_costs_records_and_no_answers(tmp_path: Path, small_disk: Path, upstream: Upstream) -> None:
    settings = {"server": {"data_dir": str(small_disk / "data")}, "store": {"url": f"sqlite:///{tmp_path}/r.db"}}
    async with own(tmp_path, upstream.url, settings) as ratchet:
        async with load_on(ratchet.base_url, clients=2) as load:
            await load.until(20)
            filler = small_disk / "filler"
            _fill(filler)
            await in_thread(_await, lambda: _dropped(ratchet) > 0, "a drop for want of disk")
            pid = ratchet.kill("worker-0")
            await load.until(20)
            filler.unlink()
            await in_thread(_await, lambda: _worker_pid(ratchet) not in (None, pid), "a worker started on a full disk")
            dropped = _dropped(ratchet)
            await load.until(50)
            settled = dropped - 1
            while settled < _dropped(ratchet):  # metrics are published a moment later; it ends when none is dropped
                settled = _dropped(ratchet)
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


def _dropped(ratchet: RatchetProcess) -> float:
    return ratchet.metric("ratchet_gateway_not_recorded_total", reason="disk_full")


def _await(look: Callable[[], object], what: str) -> None:
    await_true(look, what, every_s=LOOK_S)


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
