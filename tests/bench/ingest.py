"""Ingest: records per second from spool files to committed rows, extraction included.

    python -m tests.bench.ingest [records] [sqlite|postgresql]

Writes made-up 1.4 KB chat exchanges (and again the same answers as SSE streams) into a spool, ingests them into a
fresh SQLite store and a fresh PostgreSQL (a private server with fsync on, on the same cores), and prints records per
second by the clock (over all, and in the fastest tenth of the batches), CPU per record of ingest and of the database's
server, and bytes on disk per record. The first thousand records only warm up: statements are compiled and the
dictionary for bodies is trained once in a store's life.

Targets: 5,000 records a second, PostgreSQL on two cores with its server; 0.5 KB a record in SQLite. On a machine that
others use, believe the CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from prometheus_client.registry import CollectorRegistry

from policies.scoring import ScoringConfig
from proxy.app.garbage import leave_batches
from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.config.serving import CaptureConfig, SpoolConfig
from proxy.ingest import Ingestor, Interpreter
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.spool.frames import decode_payload
from proxy.store.store import Store
from proxy.store.tables.values import NewRecord
from tests.harness.exchanges import exchanges
from tests.harness.frames import exchange_frame, of_record, packed
from tests.harness.postgres import find_binaries, running_postgres

WARM_UP = 1000
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Database:
    """A fresh database: its url, and the process id of its server (None: it is a library)."""

    url: str
    server: int | None = None


@dataclass(frozen=True)
class Measured:
    """What ingesting cost, per record."""

    wall_s: float
    quick_wall_s: float
    """In the fastest tenth of the batches: closer to what an idle machine gives."""
    cpu_s: float
    server_cpu_s: float
    bytes: float


def streamed(record: NewRecord) -> bytes:
    """The same exchange as a stream of one chunk per word."""
    assert record.body is not None
    answer = orjson.loads(record.body.response)
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    words = (record.body.response_text or "").split(" ")
    deltas = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in words), {}]
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    stream = b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"
    return exchange_frame(record.id, record.body.request, stream, sh={"content-type": "text/event-stream"})


def server_cpu_s(server: int | None) -> float:
    """CPU seconds of a server and of its children, dead ones included."""
    if server is None:
        return 0.0
    ticks = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(entry.name) == server:
                    ticks += sum(map(int, fields[11:15]))
                elif int(fields[1]) == server:
                    ticks += sum(map(int, fields[11:13]))
    return ticks / TICKS


async def size(store: Store, database: Database) -> int:
    """Bytes on disk; SQLite's write-ahead log, a few MiB whatever the number of records, is not counted."""
    if database.server is not None:
        return (await store.samples.size()).bytes
    async with store._db.outside_transaction() as connection:
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(database.url.removeprefix("sqlite:///")).stat().st_size


async def ingest(frames: Sequence[bytes], directory: Path, database: Database) -> Measured:
    """Ingest `frames` into the empty `database`."""
    clock = SystemClock()
    writer = SpoolWriter(directory / "spool", SpoolConfig(fsync="never"))
    for frame in frames:
        assert writer.append(frame)
    writer.close()
    store = await Store.open(database.url, clock=clock)
    config = parse_config({"champion": {"url": "http://localhost:1"}})
    ingestor = Ingestor(config, store, SpoolReader(directory / "spool"), TrafficMetrics(CollectorRegistry()), clock)
    empty = await size(store, database)
    stored = 0
    while stored < WARM_UP:
        stored += await ingestor.run_once()
    warm = stored
    wall, cpu, server = time.perf_counter(), time.process_time(), server_cpu_s(database.server)
    batches = []
    while True:
        started = time.perf_counter()
        batch = await ingestor.run_once()
        if not batch:
            break
        stored += batch
        batches.append((time.perf_counter() - started) / batch)
    n = stored - warm
    wall, cpu, server = (
        (time.perf_counter() - wall) / n,
        (time.process_time() - cpu) / n,
        (server_cpu_s(database.server) - server) / n,
    )
    assert stored == len(frames)
    quick = sorted(batches)[: max(1, len(batches) // 10)]
    measured = Measured(wall, sum(quick) / len(quick), cpu, server, (await size(store, database) - empty) / stored)
    await store.close()
    return measured


def interpret(frames: Sequence[bytes]) -> float:
    """CPU seconds of understanding a frame: decode, extract, score."""
    interpreter = Interpreter(CaptureConfig(), ScoringConfig())
    decoded = [decode_payload(frame) for frame in frames]
    cpu = time.thread_time()
    for frame in decoded:
        interpreter.record(frame)
    return (time.thread_time() - cpu) / len(frames)


@contextmanager
def databases(only: str | None) -> Iterator[dict[str, list[Database]]]:
    """Two fresh ones of each kind there is."""
    with contextlib.ExitStack() as stack:
        found: dict[str, list[Database]] = {}
        if only != "postgresql":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            found["sqlite"] = [Database(f"sqlite:///{folder}/{n}.db") for n in range(2)]
        binaries = find_binaries()
        if only != "sqlite" and binaries is not None:
            server = stack.enter_context(running_postgres(binaries, durable=True))
            pid = int((server._data / "postmaster.pid").read_text().split()[0])
            found["postgresql"] = [Database(server.new_database(), pid) for _ in range(2)]
        yield found


def main(count: int, only: str | None) -> None:
    records = list(exchanges(count, start_us=int(time.time() * 1e6) - count * 1000))
    shapes = {"plain": [packed(of_record(r)) for r in records], "streamed": [packed(streamed(r)) for r in records]}
    leave_batches()
    with databases(only) as found:
        for kind, fresh in found.items():
            for (name, frames), database in zip(shapes.items(), fresh, strict=True):
                with tempfile.TemporaryDirectory() as directory:
                    cost = asyncio.run(ingest(frames, Path(directory), database))
                server = f" + {cost.server_cpu_s * 1e6:.0f} of the server" if database.server else ""
                understood_s = interpret(frames[:2000])
                print(
                    f"{kind}, {name}: {1 / cost.wall_s:,.0f} records/s by the clock ({1 / cost.quick_wall_s:,.0f} in "
                    f"the fastest batches), {cost.cpu_s * 1e6:.0f} µs CPU each{server}, of which "
                    f"{understood_s * 1e6:.0f} to understand it; frame {sum(map(len, frames)) / count:,.0f} B, "
                    f"stored {cost.bytes:,.0f} B"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000, sys.argv[2] if len(sys.argv) > 2 else None)
