"""Records by day, and everything about each of them in one walk: what the archive reads."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.store.reading.days import DayCounts, day_bounds
from proxy.store.store import Store
from proxy.store.tables.keys import id_floor
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, vote

DAY_US = 86_400_000_000


def logged(at_us: int, n: int) -> NewRecord:
    return exchange(at_us, random.Random(n), user_hash=n % 4, scores={"judge": 0.25})


async def put(store: Store, offset: int, *records: NewRecord, liked: int = 0) -> None:
    coin = random.Random(offset)
    votes = tuple(vote(record.id, 1_000_000, coin, source=str(n)) for record in records[:liked] for n in range(2))
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=offset, records=records, votes=votes))


async def test_days_and_their_edges(store: Store, clock: ManualClock) -> None:
    today = int(clock.now()) // 86_400
    start_us = today * DAY_US
    edges = [logged(at_us, n) for n, at_us in enumerate((start_us - 1000, start_us, start_us + DAY_US - 1000))]
    await put(store, 1, *edges, logged(start_us + DAY_US, 4), liked=3)
    assert await store.days.next(0) == today - 1
    assert await store.days.next(today) == today
    assert await store.days.next(today + 2) is None
    assert await store.days.counts(today) == DayCounts(records=2, votes=4)
    assert await store.days.counts(today - 5) == DayCounts()
    after_id, before_id = day_bounds(today)
    inside = [view.row.id async for view in store.records.iter(after_id=after_id, before_id=before_id)]
    assert inside == [edges[1].id, edges[2].id]
    assert day_bounds(0) == (None, id_floor(DAY_US))


async def test_a_day_grows_by_late_news_only(store: Store, clock: ManualClock) -> None:
    today = int(clock.now()) // 86_400
    await put(store, 1, *(logged(today * DAY_US + n * 1000, n) for n in range(8)))
    before = await store.days.counts(today)
    await put(store, 2, logged(today * DAY_US + 99_000, 99), liked=1)
    after = await store.days.counts(today)
    assert (after.grew_since(before), before.grew_since(after), after.grew_since(after)) == (True, False, False)
    await store.deletion.delete_user(1)
    assert not (await store.days.counts(today)).grew_since(after)
    assert await store.days.deleted_users() == {1: int(clock.now() * 1e6)}


async def test_a_walk_tells_all_about_every_record(store: Store, clock: ManualClock) -> None:
    start_us = int(clock.now()) // 86_400 * DAY_US
    records = [logged(start_us + n * 1000, n) for n in range(230)]
    await put(store, 1, *records, liked=5)
    forward = [view async for view in store.records.iter(chunk=50)]
    assert [view.row.id for view in forward] == [record.id for record in records]
    assert [view async for view in store.records.iter(chunk=50, newest_first=True)] == forward[::-1]
    for n in (0, 4, 5, 229):
        assert forward[n] == await store.records.get(records[n].id)
    assert [len(view.votes) for view in forward[:6]] == [2, 2, 2, 2, 2, 0]
    assert forward[0].scores.keys() == {"heuristic", "judge"}


async def test_archived_from_either_database(store: Store, clock: ManualClock, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the archive needs the extra `archive`")
    from proxy.store.archive import Archiver, ArchiveSource, ArchiveStore

    start_us = int(clock.now()) // 86_400 * DAY_US
    await put(store, 1, *(logged(start_us + n * 1000, n) for n in range(120)), liked=3)
    clock.advance(2 * 86_400)
    place = ArchiveStore(str(tmp_path / "archive"))
    await Archiver(store, place, clock).run()
    stored = [view async for view in store.records.iter()]
    assert [view async for view in ArchiveSource(place).records.iter()] == stored
    await store.deletion.delete_user(1)
    days = await Archiver(store, place, clock).run()
    assert [(day.state, day.forgotten) for day in days] == [("rewritten", 30)]
    assert [view async for view in ArchiveSource(place).records.iter()] == [v for v in stored if v.row.user_hash != 1]
