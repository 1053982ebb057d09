"""The users' past: how long a long history takes to read, how long the event loop is held, and what ingest pays for it.

    python -m tests.bench.past [records]

Fills a fresh SQLite store with four weeks of records without bodies, of 20,000 users who come again, one answer in
twenty with a vote. Then it reads their past for a test, beside a task that looks how late it is woken; and it ingests
the test's first records with the setting off and on.

Targets: ten million records within five minutes, and the loop never held for more than 50 ms.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from policies.estimates import Metric
from policies.records import Arm
from policies.rows import Experiment
from proxy.clock import SystemClock
from proxy.store.store import Store
from proxy.store.tables import schema as tables
from proxy.store.tables.control import Lease, LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, new_id, vote

DAY_US = 86_400_000_000
BATCH = 1000
USERS = 20_000
TEST = 20_000


async def history(store: Store, path: Path, records: int, now_us: int) -> None:
    """Four weeks of it: one record as ingest has it, and copies of it by other users, at other times."""
    rng = random.Random(14)
    template = exchange(now_us, rng, body=None, scores={}, aliases=(), tags=None)
    await store.ingest.apply(batch(rng, template, now_us - 27 * DAY_US, 1, 1))
    own = {
        "id": "unhex(printf('%012x7%03x8%015x', :first + i * :step, i % 4096, i))",
        "user_hash": f"1 + abs(random()) % {USERS}",
        "quality": "(abs(random()) % 1000) / 1000.0",
        "feedback": "CASE WHEN i % 20 = 0 THEN 1.0 END",
    }
    names = [column.name for column in tables.records.columns]
    values = ", ".join(own.get(name, f"t.{name}") for name in names)
    copies = "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < :n) "
    statement = f"INSERT INTO records ({', '.join(names)}) {copies} SELECT {values} FROM k, (SELECT * FROM records) t"
    with sqlite3.connect(path, isolation_level="IMMEDIATE") as connection:
        connection.create_function("unhex", 1, bytes.fromhex)
        first_ms, step_ms = now_us // 1000 - 27 * DAY_US // 1000, 27 * DAY_US // 1000 // records
        connection.execute(statement, {"n": records, "first": first_ms, "step": step_ms})
    connection.close()


def batch(rng: random.Random, template: NewRecord, at_us: int, step: int, size: int, **more: Any) -> IngestBatch:
    """Some of it, as ingest gets it."""
    made = [
        replace(
            template,
            id=new_id(at_us + n * step, rng),
            user_hash=int(USERS * rng.random() ** 2) + 1,
            quality=rng.random(),
            **({"experiment_id": None, "epoch": 0} | more),
        )
        for n in range(size)
    ]
    votes = [vote(record.id, at_us + n, rng) for n, record in enumerate(made) if n % 20 == 0]
    return IngestBatch(writer="", segment=0, offset=0, records=tuple(made), votes=tuple(votes))


async def lateness(stop: asyncio.Event) -> list[float]:
    """How late a task is that wants to be woken every 5 ms: seconds."""
    late = []
    while not stop.is_set():
        started = time.perf_counter()
        await asyncio.sleep(0.005)
        late.append(time.perf_counter() - started - 0.005)
    return late


async def begin(store: Store, experiment_id: int, cuped: bool, now_us: int) -> Lease:
    """An experiment."""
    lease = await store.leases.acquire("loop", "bench", ttl_s=3600)
    assert lease is not None
    row = Experiment(
        id=experiment_id, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, started_us=now_us,
        frozen={"icc": 0.1, "terms": {"ab_test_config.cuped": str(cuped).lower()}},
    )  # fmt: skip
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(row,)))
    return lease


async def ingested(store: Store, experiment_id: int, now_us: int) -> float:
    """CPU seconds a record."""
    rng = random.Random(experiment_id)
    template = exchange(now_us, rng, body=None, scores={}, aliases=(), tags=None)
    batches = [
        batch(rng, template, now_us + n * BATCH, 1, BATCH, experiment_id=experiment_id, epoch=1, arm=Arm(n % 2))
        for n in range(TEST // BATCH)
    ]
    cpu = time.process_time()
    for each in batches:
        await store.ingest.apply(each)
    return (time.process_time() - cpu) / TEST


async def main(records: int) -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        store = await Store.open(f"sqlite:///{path}", clock=SystemClock())
        now_us = int(time.time() * 1e6)
        await history(store, path, records, now_us)
        lease = await begin(store, 1, True, now_us)
        stop = asyncio.Event()
        watching = asyncio.ensure_future(lateness(stop))
        started, cpu = time.perf_counter(), time.process_time()
        units = await store.pasts.fill(lease, 1, 1, since_us=now_us - 28 * DAY_US, until_us=now_us, icc=0.1)
        took, spent = time.perf_counter() - started, time.process_time() - cpu
        stop.set()
        late = sorted(await watching)
        sys.stdout.write(
            f"{records:,} records, {units:,} users: past read in {took:.1f} s ({spent:.1f} s CPU); the loop was late "
            f"by {late[-1] * 1e3:.0f} ms at most, {late[int(0.999 * len(late))] * 1e3:.0f} ms in 99.9 %\n"
        )
        await begin(store, 2, False, now_us)
        for round_ in range(2):
            off = await ingested(store, 2, now_us + round_ * 10_000_000)
            on = await ingested(store, 1, now_us + round_ * 10_000_000)
            sys.stdout.write(f"ingest: {off * 1e6:.0f} µs CPU a record with it off, {on * 1e6:.0f} µs on\n")
        started = time.perf_counter()
        found = await store.past_savings.read({Metric.QUALITY: 1.0}, 28.0, 0.1)
        sys.stdout.write(f"what it saves, worked out in {time.perf_counter() - started:.1f} s: {found}\n")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
