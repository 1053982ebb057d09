"""`kill -9` while copies are under way: of the worker that made them, and of the challenger that answers them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
from prometheus_client.registry import CollectorRegistry

from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.ingest import Ingestor
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader
from proxy.spool.frames import KIND_SHADOW, iter_frames
from proxy.store.control.comparisons import ComparedRow
from proxy.store.store import Store
from proxy.store.tables.values import RecordFilter
from tests.harness.copying import CHECK, copying
from tests.harness.tables import sqlite_with_tables
from tests.harness.upstream import CHAT, Line, Seen, reply, serve_upstream

PATH = b"/v1/chat/completions"
SLOW_MODEL = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
held = []
while True:
    line, _ = server.accept()
    line.recv(65536)
    line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf")
    held.append(line)
    print("begun", flush=True)
"""


async def ask(port: int, number: int) -> str:
    """A request of a user of its own; the id of its record. The answer is whole and the champion's."""
    body = orjson.dumps({"user": f"user-{number}", "messages": [{"role": "user", "content": f"question {number}"}]})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (PATH, len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(len(CHAT)) == CHAT
    writer.close()
    (line,) = [line for line in head.split(b"\r\n") if line.startswith(b"x-ratchet-record-id")]
    return line.split(b": ")[1].decode()


@contextlib.asynccontextmanager
async def stored(directory: Path) -> AsyncIterator[Store]:
    """A store with all that the spool in `directory` has, fed twice."""
    store = await Store.open(sqlite_with_tables(directory / "ratchet.db"), clock=SystemClock())
    try:
        settings = parse_config({"champion": {"url": "http://localhost:1"}})
        for _ in range(2):
            reader, metrics = SpoolReader(directory / "spool"), TrafficMetrics(CollectorRegistry())
            ingestor = Ingestor(settings, store, reader, metrics, SystemClock())
            while await ingestor.run_once():
                pass
        yield store
    finally:
        await store.close()


async def rows_of(store: Store) -> tuple[set[str], list[ComparedRow]]:
    page = await store.records.list(RecordFilter(), limit=1000)
    return {row.id for row in page.rows}, list(await store.comparisons.of_check(CHECK))


async def test_a_killed_worker_loses_the_copies_that_were_under_way_and_nothing_else(tmp_path: Path) -> None:
    held, answered = asyncio.Semaphore(0), asyncio.Semaphore(0)
    holding = False

    async def script(seen: Seen, line: Line) -> None:
        if holding:
            held.release()
            await line.until_closed()
            return
        await line.send(reply(b'{"choices":[]}'))
        answered.release()

    asked = 0

    async with serve_upstream() as champion, serve_upstream() as challenger:
        challenger.on(PATH.decode(), script)

        async def until(heard: asyncio.Semaphore, port: int, times: int) -> None:
            """Ask until the challenger was heard so often: a copy is not made of every request."""
            nonlocal asked
            for _ in range(times):
                waits = asyncio.ensure_future(heard.acquire())
                while not waits.done():
                    await ask(port, asked)
                    asked += 1
                    await asyncio.wait((waits,), timeout=0.05)

        async with asyncio.timeout(300), copying(tmp_path, champion.url, challenger.url) as (worker, port):
            await until(answered, port, 3)
            holding = True
            await until(held, port, 2)
            worker.kill()
            await worker.wait()
        holding = False
        async with asyncio.timeout(300), copying(tmp_path, champion.url, challenger.url) as (_, port):
            await until(answered, port, 2)
            await until(answered, port, 1)  # what the first ones said is written down by now
        copies = [orjson.loads(seen.payload)["user"] for seen in challenger.seen]
        assert len(champion.seen) == asked

    async with stored(tmp_path) as store:
        ids, rows = await rows_of(store)
        assert len(ids) == asked, "no user's record is lost"
        items = [row.item for row in rows]
        assert set(items) <= ids
        assert len(items) == len(set(items))
        lost = len(copies) - len(items)
        assert 2 <= lost <= 3, "those that were held, and perhaps the last one"
        assert len(set(copies)) == len(copies), "nothing is copied again"
        assert all(row.facts["shadow"]["fault"] is None for row in rows)
        assert (await store.traffic.totals()).requests == asked


async def test_a_killed_challenger_fails_its_copies_and_no_user(tmp_path: Path) -> None:
    async with serve_upstream() as champion:
        model = await asyncio.create_subprocess_exec(sys.executable, "-c", SLOW_MODEL, stdout=asyncio.subprocess.PIPE)
        assert model.stdout is not None
        challenger = f"http://127.0.0.1:{int(await model.stdout.readline())}"
        begun = asyncio.ensure_future(model.stdout.readline())
        asked = 0
        async with asyncio.timeout(300), copying(tmp_path, champion.url, challenger) as (_, port):
            while not begun.done():
                await ask(port, asked)
                asked += 1
                await asyncio.wait((begun,), timeout=0.05)
            model.kill()
            await model.wait()
            while len(faults := _faults(tmp_path)) < 2:
                await ask(port, asked)
                asked += 1
                await asyncio.sleep(0.05)
        assert len(champion.seen) == asked
        assert "broken_off" in faults
        assert set(faults) <= {"broken_off", "refused", "closed"}
    async with stored(tmp_path) as store:
        ids, rows = await rows_of(store)
        assert len(ids) == asked
        assert {row.item for row in rows} <= ids
        assert len(rows) >= 2


def _faults(directory: Path) -> list[str]:
    """What went wrong with copies, as the spool has it."""
    found = []
    for segment in sorted((directory / "spool").glob("*/*.seg")):
        found += [frame.meta["why"] for frame, _ in iter_frames(segment.read_bytes()) if frame.kind == KIND_SHADOW]
    return found
