"""Records spread over many weeks: whoever looks back finds the oldest, and no query takes all days at once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import sqlalchemy as sa

from proxy.clock import ManualClock
from proxy.store.reading.cursor import KeysetCursor
from proxy.store.store import Store
from proxy.store.tables import partitions
from proxy.store.tables.partitions import DAYS_AT_ONCE
from proxy.store.tables.schema import records
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter
from tests.harness.exchanges import exchange

DAY_US = 86_400_000_000
DAYS = 2 * DAYS_AT_ONCE + 5
ANN, BOB = 1, 2


@pytest.fixture
async def history(store: Store, clock: ManualClock) -> list[NewRecord]:
    """A record a day, newest first. Bob asked on the first day only, and nobody in the weeks in the middle."""
    rng, now_us = random.Random(9), int(clock.now() * 1e6)
    today, quiet = now_us // DAY_US, range(DAYS_AT_ONCE - 2, 2 * DAYS_AT_ONCE)
    await partitions.create(store._db, range(today - DAYS, today))
    made = [exchange(now_us - day * DAY_US, rng, user_hash=ANN) for day in range(DAYS) if day not in quiet]
    made[-1] = replace(made[-1], user_hash=BOB)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(made)))
    return made


async def all_pages(store: Store, wanted: RecordFilter, limit: int) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = await store.records.list(wanted, cursor=cursor, limit=limit)
        found += [row.id for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            return found


async def test_a_list_goes_back_to_the_first_record(store: Store, history: list[NewRecord]) -> None:
    everything = [record.id for record in history]
    page = await store.records.list(RecordFilter(), limit=1000)
    assert ([row.id for row in page.rows], page.cursor) == (everything, None)
    for limit in (1, 7, len(everything)):
        assert await all_pages(store, RecordFilter(), limit) == everything
    of_bob = await store.records.list(RecordFilter(user_hash=BOB))
    assert ([row.id for row in of_bob.rows], of_bob.cursor) == ([everything[-1]], None), "on the first page"
    [words] = [record.body.query for record in history[-1:] if record.body is not None]
    assert words is not None
    assert everything[-1] in await all_pages(store, RecordFilter(text=words), 50)
    for count in (20, len(everything) - 1):
        since_us = int(everything[count - 1][:12], 16) * 1000
        assert await all_pages(store, RecordFilter(since_us=since_us), 50) == everything[:count]


async def test_a_walk_goes_back_to_the_first_record(store: Store, history: list[NewRecord]) -> None:
    everything = [record.id for record in history]
    walked = [view.row.id async for view in store.records.iter(newest_first=True, chunk=6)]
    assert walked == everything
    assert [view.row.id async for view in store.records.iter(chunk=6)] == everything[::-1]
    between = {"after_id": everything[-3], "before_id": everything[2], "newest_first": True}
    assert [view.row.id async for view in store.records.iter(**between)] == everything[3:-3]  # type: ignore[arg-type]
    samples = [sample.record_id async for sample in store.samples.iter(newest_first=True, chunk=6)]
    assert samples == [sample.record_id async for sample in store.samples.iter()][::-1]
    assert samples[-1] == everything[-1]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
async def test_a_query_locks_some_weeks_of_days_and_not_all(store: Store, history: list[NewRecord]) -> None:
    stretch = KeysetCursor(None, None, newest_first=True)
    days = sa.text(
        "SELECT count(*) FROM pg_locks JOIN pg_inherits ON inhrelid = relation "
        "WHERE pid = pg_backend_pid() AND inhparent = to_regclass('records')"
    )
    stretches = 0
    while not stretch.done:
        async with store._db.read() as connection:
            query = sa.select(records.c.id).where(*await stretch.bounds(connection)).order_by(records.c.id.desc())
            rows = (await connection.execute(query.limit(1000))).all()
            assert await connection.scalar(days) <= DAYS_AT_ONCE + 1
            stretch.walked(rows, 1000)
            stretches += 1
    assert stretches == 3
