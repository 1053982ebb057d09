"""What checks compare: kept once, settled later, gone with their user and with the bodies; and who may be asked."""

from __future__ import annotations

import random

import pytest

from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.store.control.comparisons import ComparedRow
from proxy.store.store import Store
from proxy.store.tables.keys import id_floor
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag
from tests.harness.exchanges import exchange, new_id

DAY_S = 86_400


def row(clock: ManualClock, item: str = "golden:1", **changes: object) -> ComparedRow:
    values = {"check_id": 1, "item": item, "facts": {"order": 1.0}, "data": {"request": "häh?" * 500}, **changes}
    return ComparedRow(**values)  # type: ignore[arg-type]


async def test_the_first_of_an_item_stays(store: Store, clock: ManualClock) -> None:
    first = row(clock, tags=("a", "b"))
    await store.comparisons.add(first)
    await store.comparisons.add(row(clock, data={"request": "another"}))
    (kept,) = await store.comparisons.of_check(1)
    assert (kept.tags, kept.outcome, kept.data) == (("a", "b"), None, {})
    whole = await store.comparisons.get(1, "golden:1")
    assert whole is not None
    assert (whole.data, whole.created_us) == (first.data, int(clock.now() * 1e6))
    assert await store.comparisons.get(2, "golden:1") is None


async def test_an_item_is_settled_when_its_outcome_is_known(store: Store, clock: ManualClock) -> None:
    await store.comparisons.add(row(clock, facts={"order": 1.0, "judge": None}))
    await store.comparisons.settle(1, "golden:1", -0.5, {"order": 1.0, "judge": 0.2})
    (kept,) = await store.comparisons.of_check(1)
    assert (kept.outcome, kept.facts) == (-0.5, {"order": 1.0, "judge": 0.2})


async def test_a_deleted_user_is_nowhere_and_does_not_come_back(store: Store, clock: ManualClock) -> None:
    record_id = new_id(int(clock.now() * 1e6), random.Random(1))
    theirs = row(clock, record_id, record_id=record_id, user_hash=7)
    await store.comparisons.add(theirs)
    await store.comparisons.add(row(clock))
    clock.advance(10)
    await store.deletion.delete_user(7)
    await store.comparisons.add(theirs)
    assert [kept.item for kept in await store.comparisons.of_check(1)] == ["golden:1"]
    clock.advance(10)
    later = new_id(int(clock.now() * 1e6), random.Random(2))
    await store.comparisons.add(row(clock, later, record_id=later, user_hash=7))
    assert len(await store.comparisons.of_check(1)) == 2


async def test_they_go_when_bodies_go(store: Store, clock: ManualClock) -> None:
    await store.comparisons.add(row(clock, "golden:1"))
    clock.advance(2 * DAY_S)
    await store.comparisons.add(row(clock, "golden:2"))
    clock.advance(29 * DAY_S)
    await store.retention.prune(RetentionConfig(bodies_days=30))
    assert [kept.item for kept in await store.comparisons.of_check(1)] == ["golden:2"]


@pytest.mark.parametrize("chunk", [2, 2000])
async def test_what_one_model_has_answered_well(store: Store, clock: ManualClock, chunk: int) -> None:
    rng, at_us = random.Random(3), int(clock.now() * 1e6)

    def made(at: int, **changes: object) -> NewRecord:
        return exchange(at_us + at * 1000, rng, **{"user_hash": at, **changes})

    good = [made(at) for at in range(1, 6)]
    others = [
        made(6, model_id=2),
        made(7, status=500),
        made(8, flags=RecordFlag.NO_TRAIN),
        made(9, flags=RecordFlag.TRUNCATED_RESPONSE),
    ]
    batch = IngestBatch(records=(*good, *others), writer="w", segment=1, offset=1)
    await store.ingest.apply(batch)
    bounds = {"after_id": good[0].id, "before_id": id_floor(at_us + DAY_S * 1_000_000)}
    found = [one async for some in store.samples.answered_by(1, **bounds, chunk=chunk) for one in some]
    assert [(one.record_id, one.user) for one in found] == [(record.id, record.user_hash) for record in good[1:]]


async def test_users_whose_samples_were_trained_on(store: Store) -> None:
    await store.runs.add_users("run-1", [1, 2, 3])
    await store.runs.add_users("run-2", [4])
    assert await store.runs.trained_on("run-1", [2, 3, 4, 5]) == {2, 3}
    assert await store.runs.trained_on("run-1", []) == set()
