"""Forgetting: by age, by size, and of one user."""

from __future__ import annotations

import random

import pytest

from policies.records import Sample
from policies.rows import ModelState
from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.errors import TemporaryError
from proxy.store.reading import samples
from proxy.store.store import Store
from proxy.store.tables.keys import day_of, id_floor, id_time_us
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter, RecordFlag
from tests.harness.compared_answers import answer, comparison, seed_check
from tests.harness.exchanges import exchange, exchanges, vote

DAY_US = 86_400_000_000


async def fill_days(store: Store, now_us: int, days: int, per_day: int = 70) -> list[NewRecord]:
    """Records of the last `days` days, the newest a minute old, a vote on each tenth."""
    records: list[NewRecord] = []
    rng = random.Random(2)
    for day in range(days, 0, -1):
        start_us = now_us - day * DAY_US + 60_000_000
        records += exchanges(per_day, start_us=start_us, step_us=(DAY_US - 120_000_000) // per_day, seed=day)
    for n in range(0, len(records), 500):
        part = tuple(records[n : n + 500])
        votes = tuple(vote(r.id, now_us, rng, correction=f"better {r.id}") for r in part[::10])
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=n + 1, records=part, votes=votes))
    return records


async def test_nothing_is_dropped_while_all_is_young(store: Store, clock: ManualClock) -> None:
    records = await fill_days(store, int(clock.now() * 1e6), 2)
    pruned = await store.retention.prune(RetentionConfig())
    assert (pruned.bodies, pruned.records, pruned.votes, pruned.reason) == (0, 0, 0, "nothing")
    assert await store.records.get(records[0].id) is not None


async def test_bodies_go_before_records_and_both_by_age(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill_days(store, now_us, 9)
    pruned = await store.retention.prune(RetentionConfig(bodies_days=3, records_days=6))
    assert pruned.reason == "age"
    assert pruned.bodies > 300
    assert 70 * 2 <= pruned.records <= 70 * 3  # PostgreSQL keeps a day until all of it is old
    assert await store.records.get(records[0].id) is None
    middle = await store.records.get(next(r.id for r in records if r.id > id_floor(now_us - 5 * DAY_US)))
    assert middle is not None
    assert middle.body is None
    newest = await store.records.get(records[-1].id)
    assert newest is not None
    assert newest.body == records[-1].body
    rows = [row async for row in all_rows(store)]
    kept = {row.id for row in rows}
    assert kept == {r.id for r in records if r.id >= min(kept)}
    assert len([s async for s in store.samples.iter()]) < len(rows)
    again = await store.retention.prune(RetentionConfig(bodies_days=3, records_days=6))
    assert (again.bodies, again.records, again.votes) == (0, 0, 0)


async def test_bodies_of_one_batch_go_day_by_day(store: Store, clock: ManualClock) -> None:
    """A batch of a week's few requests, as a spool holds them after an outage: each day's bodies are by themselves."""
    now_us = int(clock.now() * 1e6)
    records = list(exchanges(14, start_us=now_us - 6 * DAY_US - DAY_US // 2, step_us=DAY_US // 2))
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records)))
    await store.retention.prune(RetentionConfig(bodies_days=3, records_days=0))
    last = (now_us - 3 * DAY_US) // DAY_US
    for record in records:
        view = await store.records.get(record.id)
        assert view is not None
        if day_of(record.id) != last:  # of that day, PostgreSQL keeps all and SQLite none where it began too early
            assert (view.body is not None) == (day_of(record.id) > last)


async def all_rows(store: Store):  # type: ignore[no-untyped-def]
    cursor = None
    while True:
        page = await store.records.list(RecordFilter(), cursor=cursor, limit=100, texts=False)
        for row in page.rows:
            yield row
        if (cursor := page.cursor) is None:
            return


async def test_the_oldest_go_when_the_store_is_too_large(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill_days(store, now_us, 6, per_day=500)
    compared = comparison(1, records[0].id, "?", answer("1"), answer("2"), created_us=id_time_us(records[0].id))
    await seed_check(store, [compared])
    await store.preferences.put(1, compared.item, "ann", "tie")
    limit = 1_400_000 if store.engine == "sqlite" else (await store.samples.size()).bytes - 500_000
    pruned = await store.retention.prune(RetentionConfig(bodies_days=0, records_days=0, max_bytes=limit))
    assert pruned.reason == "size"
    assert pruned.bodies > 0
    oldest = await store.records.get(records[0].id)
    assert oldest is None or oldest.body is None
    newest = await store.records.get(records[-1].id)
    assert newest is not None
    assert newest.body == records[-1].body
    assert await store.comparisons.get(1, compared.item) is None
    assert not await store.preferences.of(1, [compared.item])


async def test_votes_that_never_found_a_record_are_dropped_in_the_end(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    rng = random.Random(1)
    stray = vote("0" * 32, now_us, rng)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, votes=(stray,)))
    clock.advance(91 * 86400)
    await store.retention.prune(RetentionConfig())
    applied = await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, votes=(stray,)))
    assert len(applied.votes) == 1


async def test_a_deleted_user_is_gone_everywhere(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    await store.models.add("champion")
    trained = await store.models.add("tuned-1", run_id="run-1", state=ModelState.READY)
    rng = random.Random(4)
    records = [
        exchange(now_us - 1_000_000 + i * 1000, rng, user_hash=i % 2, quality=0.9, aliases=(f"alias-{i}",))
        for i in range(150)
    ]
    votes = tuple(vote(r.id, now_us, rng, comment="a secret") for r in records)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=votes))
    await store.runs.add_users("run-1", [0, 1])
    await store.runs.add_users("run-2", [1])
    await store.runs.add_users("run-2", [1])

    deleted = await store.deletion.delete_user(1)

    assert (deleted.records, deleted.votes, deleted.models, deleted.runs) == (
        75,
        75,
        (trained.name,),
        ("run-1", "run-2"),
    )
    mine, others = records[1::2], records[::2]
    for record, name in ((mine[0], "alias-1"), (mine[-1], "alias-149")):
        assert await store.records.get(record.id) is None
        assert await store.records.get(name) is None
    assert (await store.records.list(RecordFilter(user_hash=1))).rows == ()
    left: list[Sample] = [sample async for sample in store.samples.iter()]
    assert [s.record_id for s in left] == [r.id for r in others]
    assert [s.query for s in left] == [r.body.query for r in others if r.body]
    assert await store.traffic.count_quality_samples(0, 0.5) == 75
    assert await store.runs.users("run-1") == 1
    again = await store.deletion.delete_user(1)
    assert (again.records, again.rows, again.models) == (0, 0, (trained.name,))


async def test_what_a_deleted_user_said_before_is_refused_and_after_is_kept(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    rng = random.Random(4)
    late = exchange(now_us - 5_000_000, rng, user_hash=1)
    other = exchange(now_us - 5_000_000, rng, user_hash=2)
    await store.deletion.delete_user(1)
    back = exchange(now_us + 5_000_000, rng, user_hash=1)
    applied = await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(late, other, back)))
    assert ({r.id for r in applied.records}, applied.deleted) == ({other.id, back.id}, 1)
    assert await store.records.get(late.id) is None
    for record in (other, back):
        view = await store.records.get(record.id)
        assert view is not None
        assert view.body == record.body


async def test_samples_come_in_order_and_filtered(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill_days(store, now_us, 2, per_day=120)
    bounds = {"after_id": records[20].id, "before_id": records[200].id}
    want = [r for r in records[21:200] if r.quality is not None and r.quality >= 0.7]
    for newest_first, blocks in ((False, 96), (True, 96), (True, 1), (False, 2)):
        monkeypatch.setattr(samples, "_BLOCKS", blocks)
        got = [s async for s in store.samples.iter(**bounds, min_quality=0.7, chunk=17, newest_first=newest_first)]
        ordered = [r.id for r in (reversed(want) if newest_first else want)]
        assert [s.record_id for s in got] == ordered, (newest_first, blocks)
        voted = [(s.record_id, s.correction) async for s in store.samples.iter(**bounds, min_feedback=1.0)]
        assert voted == [(r.id, f"better {r.id}") for r in records[30:200:10]], blocks


async def test_the_judged_are_those_that_people_corrected_or_disliked(store: Store, clock: ManualClock) -> None:
    start_us, rng = int(clock.now() * 1e6) - DAY_US, random.Random(5)
    records = [exchange(start_us + n * 1_000_000, rng, user_hash=1) for n in range(7)]
    records[5] = exchange(start_us + 5_000_000, rng, user_hash=1, flags=RecordFlag.NO_TRAIN)
    ids = [record.id for record in records]
    votes = (
        vote(ids[0], start_us, rng, feedback=-1),
        vote(ids[1], start_us, rng, feedback=1, correction="Better."),
        vote(ids[2], start_us, rng, feedback=1),
        vote(ids[3], start_us, rng, feedback=-1, source="a"),
        vote(ids[3], start_us, rng, feedback=1, source="b"),
        vote(ids[4], start_us, rng, feedback=-1, correction="Best."),
        vote(ids[5], start_us, rng, feedback=-1),
        vote(ids[6], start_us, rng, feedback=-1),
    )
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=votes))
    got = [s async for s in store.samples.judged(before_id=ids[6], chunk=2)]
    assert [(s.record_id, s.feedback, s.correction, s.trainable) for s in got] == [
        (ids[4], -1.0, "Best.", True),
        (ids[1], 1.0, "Better.", True),
        (ids[5], -1.0, None, False),
        (ids[4], -1.0, "Best.", True),
        (ids[0], -1.0, None, True),
    ]
    assert got[0].exchange.request == (records[4].body.request if records[4].body else None)


async def test_a_late_record_of_a_dropped_day_gets_in_at_the_second_try(store_url: str, clock: ManualClock) -> None:
    """One replica prunes while another still believes that the day is there."""
    now_us = int(clock.now() * 1e6)
    late, later = exchanges(2, start_us=now_us - 40 * DAY_US)
    first, second = [await Store.open(store_url, clock=clock) for _ in range(2)]
    await first.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(late,)))
    await second.retention.prune(RetentionConfig(bodies_days=5, records_days=10))
    batch = IngestBatch(writer="w", segment=0, offset=2, records=(later,))
    try:
        await first.ingest.apply(batch)
    except TemporaryError:
        await first.ingest.apply(batch)
    view = await first.records.get(later.id)
    assert view is not None
    assert view.body == later.body
    assert await first.records.get(late.id) is None
    for opened in (first, second):
        await opened.close()
