"""What is finished is seen once, in an order that never goes back, whatever came meanwhile."""

from __future__ import annotations

import random
from typing import Any

from policies.records import Outcome
from proxy.store.reading.finished import LONGEST_US, SLOW_US
from proxy.store.store import Store
from proxy.store.tables.keys import NO_ID, id_floor, id_time_us
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, vote

NOW_US = 1_700_000_000_000_000
RNG = random.Random(5)
_LAST = "f" * 32


def record(at_us: int, duration_us: int, **changes: Any) -> NewRecord:
    return exchange(at_us, RNG, duration_us=duration_us, **changes)


async def keep(store: Store, **things: Any) -> None:
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, **things))


async def test_quick_ones_are_walked_by_id_and_slow_ones_by_their_end(store: Store) -> None:
    quick = [record(NOW_US + at * 1000, SLOW_US - 1) for at in range(5)]
    slow = [record(NOW_US, SLOW_US * (5 - at)) for at in range(3)]
    endless = record(NOW_US, LONGEST_US + 1)
    await keep(store, records=(*quick, *slow, endless))
    ids = [one.id for one in quick]
    page = await store.finished.quick(after_id=NO_ID, before_id=_LAST, limit=3)
    assert [one.id for one in page] == ids[:3]
    rest = await store.finished.quick(after_id=ids[2], before_id=ids[4], limit=3)
    assert [one.id for one in rest] == [ids[3]]
    until_us = NOW_US + 10 * SLOW_US
    found = await store.finished.slow(after=(NOW_US, NO_ID), until_us=until_us, limit=2)
    assert [one.id for one in found] == [slow[2].id, slow[1].id]
    last = found[-1]
    assert last.ended_us == id_time_us(slow[1].id) + slow[1].duration_us
    more = await store.finished.slow(after=(last.ended_us, last.id), until_us=until_us, limit=2)
    assert [one.id for one in more] == [slow[0].id]
    assert await store.finished.slow(after=(NOW_US, NO_ID), until_us=NOW_US + 3 * SLOW_US - 1, limit=9) == []


async def test_failures_are_told_and_counted_by_kind(store: Store) -> None:
    records = (
        record(NOW_US, 5),
        record(NOW_US + 1000, 5, status=404, outcome=Outcome.REFUSED),
        record(NOW_US + 2000, 5, status=0, outcome=Outcome.CLIENT_DISCONNECT, kind="json"),
    )
    await keep(store, records=records)
    found = await store.finished.quick(after_id=NO_ID, before_id=_LAST, limit=9)
    assert [(one.failed, one.kind) for one in found] == [(False, "chat"), (True, "chat"), (False, "json")]
    count = store.finished.count
    assert await count(after_id=NO_ID, before_id=_LAST, kinds=["chat"]) == 2
    assert await count(after_id=records[0].id, before_id=records[2].id, kinds=["chat", "json"]) == 1


async def test_views_have_bodies_and_own_scores_and_no_votes(store: Store) -> None:
    [made, other] = [record(NOW_US + at, 5, scores={"heuristic": 0.5}, quality=0.5) for at in (0, 1000)]
    await keep(store, records=(made, other), votes=(vote(made.id, NOW_US, RNG, quality_score=0.25),))
    views = await store.finished.views([made.id, id_floor(3)])
    assert views.keys() == {made.id}
    assert made.body is not None
    view = views[made.id]
    assert view.body is not None
    assert (view.body.request, view.votes) == (made.body.request, ())
    assert view.scores["heuristic"] == 0.5
    assert await store.finished.views([]) == {}


async def test_votes_are_walked_by_id_and_the_first_of_a_record_is_told(store: Store) -> None:
    [made] = [record(NOW_US, 5)]
    votes = [vote(made.id, NOW_US + at * 1000, RNG, source=f"s{at}", feedback=-1) for at in range(3)]
    lone = vote(None, NOW_US + 9000, RNG, alias="nobody-knows")
    await keep(store, records=(made,), votes=(*votes, lone))
    found = await store.finished.votes(after=NO_ID, before=_LAST, limit=9)
    assert [(one.fid, one.record_id, one.first) for one in found] == [
        (votes[0].fid, made.id, True),
        (votes[1].fid, made.id, False),
        (votes[2].fid, made.id, False),
        (lone.fid, None, False),
    ]
    later = await store.finished.votes(after=votes[0].fid, before=votes[2].fid, limit=9)
    assert [(one.fid, one.first) for one in later] == [(votes[1].fid, False)]
    assert await store.finished.count_votes(after=NO_ID, before=lone.fid) == 3


async def test_judgements_are_walked_in_the_order_of_asking(store: Store) -> None:
    records = sorted((record(NOW_US + at * 1000, 5) for at in range(3)), key=lambda one: one.id)
    await keep(store, records=tuple(records))
    lease = await store.leases.acquire("judge", "test", ttl_s=60)
    assert lease is not None
    await store.judgements.ask(lease, "judge-1", [one.id for one in records])
    await store.judgements.answer(records[0].id, "judge-1", score=1.0, tokens=1, reason="good")
    everything = await store.finished.judged(after=(0, NO_ID, ""), until_us=1 << 60, limit=9)
    assert [(one.record_id, one.open) for one in everything] == [(one.id, at > 0) for at, one in enumerate(records)]
    first = everything[0]
    rest = await store.finished.judged(
        after=(first.asked_us, first.record_id, first.scorer), until_us=first.asked_us, limit=1
    )
    assert [one.record_id for one in rest] == [records[1].id]
    assert await store.finished.judged(after=(0, NO_ID, ""), until_us=first.asked_us - 1, limit=9) == []
