"""Users who stay on the old champion in the watch: an arm of their own in every sum, and records like all others."""

from __future__ import annotations

import random

from policies.estimates import Metric
from policies.records import Arm
from proxy.clock import ManualClock
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter
from tests.contract.store.test_statistics import start_experiment
from tests.harness.exchanges import exchange, vote

OLD, NEW = 1, 2


async def watched(store: Store, clock: ManualClock) -> list[NewRecord]:
    """Ten users ask three times each; the last two of them are held back."""
    await start_experiment(store)
    rng, records, votes = random.Random(3), [], []
    for n in range(30):
        clock.advance(1.0)
        now_us, user = round(clock.now() * 1e6), n % 10
        arm = Arm.CONTROL if user >= 8 else Arm.CHAMPION
        model = OLD if arm is Arm.CONTROL else NEW
        record = exchange(now_us, rng, user_hash=user + 1, arm=arm, served_by=arm, model_id=model, experiment_id=1,
                          epoch=4)  # fmt: skip
        records.append(record)
        votes.append(vote(record.id, now_us + 1000, rng, feedback=1 if arm is Arm.CONTROL else -1))
    batch = IngestBatch(writer="w", segment=1, offset=1, records=tuple(records), votes=tuple(votes))
    await store.ingest.apply(batch)
    return records


async def test_the_sums_of_the_control_are_its_own(store: Store, clock: ManualClock) -> None:
    records = await watched(store, clock)
    arms = await store.statistics.arms(1, 4)
    assert {arm: (found.requests, found.users) for arm, found in arms.items()} == {
        Arm.CHAMPION: (24, 8), Arm.CHALLENGER: (0, 0), Arm.CONTROL: (6, 2)
    }  # fmt: skip
    points = await store.traffic.points(0, round(clock.now() * 1e6) + 60_000_000, 60)
    assert {(point.arm, point.model_id) for point in points} == {(Arm.CHAMPION, NEW), (Arm.CONTROL, OLD)}
    assert sum(point.requests for point in points if point.arm is Arm.CONTROL) == 6
    until_us = round(clock.now() * 1e6) + 60_000_000
    epoch = Epoch(experiment_id=1, number=4, terms=Terms(), since_us=0, until_us=until_us)
    replay = store.statistics.replay(epoch)
    again = await replay.advance(until_us)
    await replay.aclose()
    assert again[Arm.CONTROL].requests == 6
    voters = [arm async for arm, *_ in store.statistics.voters(1, (4,), (Metric.POSITIVE,))]
    assert voters == [Arm.CHAMPION] * 8, "who carries the evidence of a test is not asked of a control"
    assert len(records) == 30


async def test_records_of_the_control_are_found_and_taught_like_the_champions(store: Store, clock: ManualClock) -> None:
    records = await watched(store, clock)
    mine = {record.id for record in records if record.arm is Arm.CONTROL}
    page = await store.records.list(RecordFilter(arm=Arm.CONTROL), cursor=None, limit=100)
    assert {row.id for row in page.rows} == mine
    taught = {sample.record_id: sample async for sample in store.samples.iter()}
    assert taught.keys() == {record.id for record in records}
    assert {taught[record_id].arm for record_id in mine} == {Arm.CONTROL}
    liked = {sample.record_id async for sample in store.samples.iter(min_feedback=0.5)}
    assert liked == mine
    asked = [
        one async for some in store.samples.answered_by(NEW, after_id="0" * 32, before_id="f" * 32) for one in some
    ]
    assert not {candidate.record_id for candidate in asked} & mine, "a check compares with the champion's own answers"


async def test_a_user_of_the_control_is_forgotten_with_all_that_was_counted(store: Store, clock: ManualClock) -> None:
    await watched(store, clock)
    await store.deletion.delete_user(10)
    arms = await store.statistics.arms(1, 4)
    assert (arms[Arm.CONTROL].users, arms[Arm.CHAMPION].users) == (1, 8)
    page = await store.records.list(RecordFilter(arm=Arm.CONTROL), cursor=None, limit=100)
    assert {row.user_hash for row in page.rows} == {9}
