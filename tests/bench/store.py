"""What the store costs: records per second in, bytes on disk, and the console's queries over a full table.

    python -m tests.bench.store [--records N] [--queries] [--only sqlite|postgresql]

Prints a table and one JSON line. Rates and queries are measured twice: by the clock, and by this process's CPU time,
which a busy machine distorts less (SQLite works in this process, PostgreSQL does not). `--queries` asks for at least
1,000,000 records to say something about the promise of 100 ms: every list of the console, also with the worst
combinations of filters, and everything that a tick of the loop asks for.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from policies.records import Arm, Outcome
from policies.rows import Experiment
from proxy.clock import SystemClock
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter
from tests.harness.exchanges import exchanges, new_id, vote
from tests.harness.postgres import find_binaries, running_postgres

BATCH = 500
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
TEMPLATES = 5000


@dataclass
class Traffic:
    """Records over the last days, in batches. Texts repeat after 5,000 records; ids, users and times do not."""

    records: int
    start_us: int
    step_us: int
    templates: list[NewRecord]

    @classmethod
    def of(cls, records: int) -> Traffic:
        now_us = int(time.time() * 1e6)
        span_us = min(20 * DAY_US, records * 1_000_000)
        templates = list(exchanges(min(records, TEMPLATES), start_us=now_us))
        return cls(records, now_us - span_us, span_us // records, templates)

    def batch(self, first: int, rng: random.Random) -> IngestBatch:
        """The batch that begins with record number `first`; every tenth record has a vote, two arms share the users."""
        made = []
        for number in range(first, min(first + BATCH, self.records)):
            template = self.templates[number % len(self.templates)]
            error = rng.random() < 0.01
            made.append(
                replace(
                    template,
                    id=new_id(self.start_us + number * self.step_us, rng),
                    experiment_id=1,
                    epoch=1,
                    arm=Arm((template.user_hash or 0) % 10 == 0),
                    status=502 if error else 200,
                    outcome=Outcome.UPSTREAM_ERROR if error else Outcome.OK,
                    aliases=(f"chatcmpl-{rng.getrandbits(128):032x}",),
                )
            )
        votes = tuple(vote(r.id, self.start_us + first * self.step_us, rng) for r in made[::10])
        return IngestBatch(writer="bench", segment=0, offset=first + 1, records=tuple(made), votes=votes)


async def prepare(store: Store) -> None:
    """A model and a running experiment, so that statistics are counted."""
    await store.models.add("champion")
    lease = await store.leases.acquire("loop", "bench", ttl_s=3600)
    assert lease is not None
    running = Experiment(id=1, champion_model_id=1, challenger_model_id=2, salt="", share=0.1, frozen={"l95_s": 2.0})
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(running,)))


async def fill(store: Store, traffic: Traffic) -> dict[str, float]:
    """Apply everything; the first thousand records only warm up. Making the records is not measured."""
    rng = random.Random(1)
    wall = cpu = 0.0
    base = 0
    for first in range(0, traffic.records, BATCH):
        batch = traffic.batch(first, rng)
        if first == 2 * BATCH:
            base = (await store.samples.size()).bytes
        started, used = time.perf_counter(), time.process_time()
        await store.ingest.apply(batch)
        if first >= 2 * BATCH:
            wall += time.perf_counter() - started
            cpu += time.process_time() - used
    measured = traffic.records - 2 * BATCH
    grown = (await store.samples.size()).bytes - base
    return {
        "records_per_s": measured / wall,
        "cpu_us_per_record": cpu / measured * 1e6,
        "bytes_per_record": grown / measured,
    }


Questions = dict[str, Callable[[], Awaitable[object]]]


async def console_questions(store: Store, end_us: int) -> Questions:
    """What the pages of the console and the API ask for."""
    newest = (await store.records.list(RecordFilter(), limit=1)).rows[0]
    busiest = Counter(row.user_hash for row in (await store.records.list(RecordFilter(), limit=1000)).rows)
    [(user, _)] = busiest.most_common(1)
    filters = {
        "newest page": RecordFilter(),
        "page of a user": RecordFilter(user_hash=user),
        "page of a user's errors": RecordFilter(user_hash=user, status=5),
        "page of errors": RecordFilter(status=5),
        "page of a status that is not": RecordFilter(status=404),
        "page of an arm": RecordFilter(arm=Arm.CHALLENGER),
        "page of a model that is not": RecordFilter(model_id=99),
        "page of a kind that is not": RecordFilter(kind="kserve"),
        "page of low scores": RecordFilter(max_quality=0.1),
        "page of thumbs down": RecordFilter(max_feedback=-1.0),
        "page of a day long ago": RecordFilter(until_us=end_us - 7 * DAY_US, arm=Arm.CHALLENGER),
        "text search": RecordFilter(text="no such words"),
        "text search in a user": RecordFilter(user_hash=user, text="no such words"),
        "text search in errors": RecordFilter(status=5, text="no such words"),
    }
    lists: Questions = {name: partial(store.records.list, wanted) for name, wanted in filters.items()}
    return lists | {
        "one record": lambda: store.records.get(newest.id),
        "one record by alias": lambda: store.records.get("chatcmpl-unknown"),
        "traffic of an hour by minute": lambda: store.traffic.points(end_us - HOUR_US, end_us, 60),
        "traffic of 6 hours by 10 min": lambda: store.traffic.points(end_us - 6 * HOUR_US, end_us, 600),
        "traffic of a day by 5 min": lambda: store.traffic.points(end_us - DAY_US, end_us, 300),
        "traffic of a day by 30 min": lambda: store.traffic.points(end_us - DAY_US, end_us, 1800),
        "p95 of a day": lambda: store.traffic.duration_quantile(1, end_us - DAY_US, 0.95),
        "traffic of 20 days by hour": lambda: store.traffic.points(end_us - 20 * DAY_US, end_us, 3600),
        "traffic of 30 days by 4 hours": lambda: store.traffic.points(end_us - 30 * DAY_US, end_us, 14_400),
        "history": lambda: store.journal.recent(),
        "totals of everything": lambda: store.traffic.totals(),
        "size": lambda: store.samples.size(),
    }


def tick_questions(store: Store, end_us: int) -> Questions:
    """What a tick of the loop, ingest and housekeeping ask for."""
    hour_us = end_us // HOUR_US * HOUR_US - HOUR_US

    async def samples() -> None:
        async for number, _ in _numbered(store.samples.iter(newest_first=True)):
            if number == 500:
                break

    return {
        "samples ever": lambda: store.traffic.count_quality_samples(0, 0.7),
        "samples since 3 days": lambda: store.traffic.count_quality_samples(end_us - 3 * DAY_US - 1_234_567, 0.7),
        "quality of a day": lambda: store.traffic.quality_window(end_us - DAY_US, end_us),
        "quality of 28 days": lambda: store.traffic.quality_window(end_us - 28 * DAY_US, end_us),
        "votes of a day": lambda: store.traffic.feedback_window(end_us - DAY_US, end_us),
        "users of an hour": lambda: store.traffic.user_hour_means(hour_us),
        "p95 of 7 days": lambda: store.traffic.duration_quantile(1, end_us - 7 * DAY_US, 0.95),
        "arms of the experiment": lambda: store.statistics.arms(1, 1),
        "state of the loop": lambda: store.state.all(),
        "500 samples for a dataset": samples,
        "parked votes": lambda: store.ingest.join_parked(),
        "counts of a day": lambda: store.days.counts(end_us // DAY_US - 1),
    }


async def _numbered(samples: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    number = 0
    async for sample in samples:
        number += 1
        yield number, sample


async def time_queries(store: Store, traffic: Traffic) -> dict[str, dict[str, float]]:
    """Milliseconds of each question: the median of seven by the clock, the slowest, and the median of CPU time."""
    end_us = traffic.start_us + traffic.records * traffic.step_us
    found = {}
    for name, ask in {**await console_questions(store, end_us), **tick_questions(store, end_us)}.items():
        wall, cpu = [], []
        for _ in range(7):
            started, used = time.perf_counter(), time.process_time()
            await ask()
            wall.append((time.perf_counter() - started) * 1e3)
            cpu.append((time.process_time() - used) * 1e3)
        found[name] = {"median": median(wall), "slowest": max(wall), "cpu": median(cpu)}
    return found


async def measure(url: str, records: int, queries: bool) -> dict[str, object]:
    store = await Store.open(url, clock=SystemClock())
    await prepare(store)
    traffic = Traffic.of(records)
    result: dict[str, object] = {"engine": store.engine, "records": records, **await fill(store, traffic)}
    if queries:
        result["queries_ms"] = await time_queries(store, traffic)
    await store.close()
    return result


def show(result: dict[str, object]) -> None:
    print(f"\n{result['engine']}, {result['records']:,} records")
    for name, value in result.items():
        if isinstance(value, float):
            print(f"  {name:28} {value:10,.1f}")
    queries: dict[str, dict[str, float]] = result.get("queries_ms", {})  # type: ignore[assignment]
    for name, took in queries.items():
        print(f"  {name:28} {took['median']:8,.1f} ms, slowest {took['slowest']:8,.1f}, CPU {took['cpu']:8,.1f}")
    print(orjson.dumps(result).decode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--queries", action="store_true")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    if options.only != "postgresql":
        with tempfile.TemporaryDirectory() as directory:
            url = f"sqlite:///{Path(directory) / 'bench.db'}"
            show(asyncio.run(measure(url, options.records, options.queries)))
    binaries = find_binaries()
    if options.only != "sqlite" and binaries is not None:
        with running_postgres(binaries, durable=True) as server:
            show(asyncio.run(measure(server.new_database(), options.records, options.queries)))


if __name__ == "__main__":
    main()
