"""A start needs the public port only: `kill -9` of the supervisor, ports that are taken, a disk that is full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.serve import RatchetProcess, await_true, request
from tests.harness.upstream import Line, Seen, Upstream, serve_upstream

pytestmark = pytest.mark.slow

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ANSWER_S = 2.0
"""From the start of `ratchet serve` to its first answer."""
BUSY = float(os.environ.get("RATCHET_BUSY", "3"))
"""A machine of tests is shared: so many times longer is no failure."""


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with serve_upstream() as server:
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def made(tmp_path: Path, upstream: Upstream | None = None, **settings: dict[str, object]) -> RatchetProcess:
    """On fixed ports, as in production: the next server needs the same ones."""
    ratchet = RatchetProcess(tmp_path, champion=upstream.url if upstream else "http://127.0.0.1:9", settings=settings)
    ratchet.settings["server"]["port"] = free_port()
    ratchet.settings["admin"]["port"] = free_port()
    return ratchet


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


async def test_after_a_killed_supervisor_the_next_answers_at_once_and_streams_finish(
    upstream: Upstream, tmp_path: Path
) -> None:
    streams = Streams(upstream)
    ratchet = made(tmp_path, upstream)
    await asyncio.to_thread(ratchet.start)
    await asyncio.to_thread(ratchet.await_admin)
    orphans, open_streams, took = [], [], []
    for _ in range(6):
        open_streams.append(await streams.one(ratchet))
        orphans += [*ratchet.worker_pids, ratchet.controller_pid]
        ratchet.kill("supervisor")
        took.append(await asyncio.to_thread(first_answer, ratchet))
    assert max(took) < ANSWER_S * BUSY, took
    await asyncio.to_thread(ratchet.await_admin)
    assert json.loads((ratchet.data_dir / "run/addresses.json").read_text())["admin"] == ratchet_admin(ratchet)
    streams.release.set()
    answers = await asyncio.gather(*open_streams)
    assert [answer.endswith(b"first\r\n4\r\nlast\r\n0\r\n\r\n") for answer in answers] == [True] * 6
    await asyncio.to_thread(await_true, lambda: all(gone(pid) for pid in set(orphans)), "the orphans to end")
    assert (await asyncio.to_thread(request, ratchet.base_url, "/-/health")).status == 200
    await asyncio.to_thread(
        await_true, lambda: ratchet.metric("ratchet_ingest_records_total") >= 12, "all records to be stored"
    )
    await asyncio.to_thread(ratchet.stop)
    assert "Fatal error" not in ratchet.log


def ratchet_admin(ratchet: RatchetProcess) -> str:
    return f"http://127.0.0.1:{ratchet.settings['admin']['port']}"


def test_the_admin_port_is_opened_when_a_stranger_leaves_it(tmp_path: Path) -> None:
    ratchet = made(tmp_path)
    with socket.create_server(("127.0.0.1", ratchet.settings["admin"]["port"])):
        assert first_answer(ratchet) < ANSWER_S * BUSY
        await_true(lambda: "admin: cannot listen on" in ratchet.log, "the trouble to be said")
        assert "(admin.host, admin.port)" in ratchet.log
        assert ratchet.admin_url == ""
    ratchet.admin_url = ratchet_admin(ratchet)
    ratchet.await_admin()
    log = ratchet.stop()
    assert log.count("admin: cannot listen on") == 1
    assert "is open after" in log
