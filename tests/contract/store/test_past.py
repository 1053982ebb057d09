"""The users' past of an experiment: what it is made of, and that the arms' sums with it are exact in any order."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from policies.estimates import Metric, UserTotals
from policies.past import PastMoments, PastTotals
from policies.records import TESTED, Arm, Outcome
from policies.rows import Experiment
from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.errors import PermanentError
from proxy.store.engine.dialect import insert_all
from proxy.store.ingest.facts import Terms
from proxy.store.reading.replay import Epoch
from proxy.store.retention.forgotten import announce
from proxy.store.store import Store
from proxy.store.tables.control import Lease, LoopTransaction
from proxy.store.tables.schema import PAST_TOTALS, user_past
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote

DAY_US = 86_400_000_000
FROZEN = {"icc": 0.1, "terms": {"ab_test_config.cuped": "true"}}


async def begin(store: Store, started_us: int, experiment_id: int = 1, frozen: Any = FROZEN) -> Lease:
    lease = await store.leases.acquire("loop", "test", ttl_s=600)
    assert lease is not None
    made = Experiment(
        id=experiment_id, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen=frozen,
        started_us=started_us, epoch_started_us=started_us,
    )  # fmt: skip
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))
    return lease


async def keep(store: Store, records: list[NewRecord], votes: list[NewVote] | None = None) -> None:
    await store.ingest.apply(
        IngestBatch(writer="", segment=0, offset=0, records=tuple(records), votes=tuple(votes or ()))
    )


async def fill(store: Store, lease: Lease, now_us: int, *, days: int = 28) -> int:
    return await store.pasts.fill(lease, 1, 1, since_us=now_us - days * DAY_US, until_us=now_us, icc=0.1)


async def pasts_in(store: Store, epoch: int = 1) -> dict[Arm, PastMoments | None]:
    arms = await store.statistics.arms(1, epoch)
    return {arm: arms[arm].past for arm in TESTED}


def of_user(user: int, at_us: int, rng: random.Random, **more: Any) -> NewRecord:
    fields: dict[str, Any] = {"user_hash": user, "experiment_id": None, "epoch": 0, "arm": Arm.CHAMPION} | more
    return exchange(at_us, rng, aliases=(), **fields)


def close(got: PastMoments | None, want: PastMoments) -> bool:
    assert got is not None
    pairs = [(got.sums, want.sums), (got.squares, want.squares), (got.crosses, want.crosses)]
    return got.users == want.users and all(one == pytest.approx(other, abs=1e-6) for one, other in pairs)


async def test_what_a_past_is_made_of(store: Store, clock: ManualClock) -> None:
    """Scores, votes and latencies of what was served in the days before, and of nothing else."""
    rng, now_us = random.Random(1), int(clock.now() * 1e6)
    day = now_us - DAY_US
    plain = of_user(7, day, rng, quality=0.5, duration_us=2_000_000)
    scored = of_user(7, day, rng, quality=0.5, duration_us=1_000_000)
    voted_late = of_user(7, day, rng, quality=1.0, duration_us=1_000_000)
    failed = of_user(7, day, rng, quality=None, status=500, outcome=Outcome.UPSTREAM_ERROR)
    too_old = of_user(7, now_us - 29 * DAY_US, rng, quality=0.0)
    later = of_user(7, now_us + 1000, rng, quality=0.0)
    task = of_user(7, day, rng, quality=0.0, kind="task")
    nobody = of_user(0, day, rng, user_hash=None, quality=0.0)
    claimed = of_user(8, day, rng, quality=0.25, cluster=99, flags=RecordFlag.CLAIMED, duration_us=1_000_000)
    unknown = of_user(8, day, rng, quality=0.75, cluster=None, flags=RecordFlag.CLAIMED, duration_us=1_000_000)
    votes = [
        vote(plain.id, day + 1, rng, feedback=1),
        vote(scored.id, day + 1, rng, feedback=-1, quality_score=0.9),
        vote(voted_late.id, now_us + 10_000, rng, feedback=1, quality_score=0.0),
    ]
    await keep(store, [plain, scored, voted_late, failed, too_old, later, task, nobody, claimed, unknown], votes)
    lease = await begin(store, now_us)
    assert await fill(store, lease, now_us) == 3
    mine = PastTotals(n=(3.0, 2.0, 3.0), s=(0.5 + 0.9 + 1.0, 1.0, 4.0))
    want = {7: mine, 99: PastTotals(n=(1.0, 0.0, 1.0), s=(0.25, 0.0, 1.0)),
            0: PastTotals(n=(1.0, 0.0, 1.0), s=(0.75, 0.0, 1.0))}  # fmt: skip
    found = await store.pasts.of(1, [7, 8, 99, 0], 0.1)
    assert set(found) == {7, 99, 0}
    for unit, totals in want.items():
        assert found[unit] == pytest.approx(totals.vector(0.1)), unit
    assert await store.pasts.all_of(1, 0.1) == found


async def test_it_is_frozen_and_filled_once(store: Store, clock: ManualClock) -> None:
    rng, now_us = random.Random(2), int(clock.now() * 1e6)
    old = of_user(7, now_us - DAY_US, rng, quality=0.5)
    await keep(store, [old])
    lease = await begin(store, now_us)
    assert not await store.pasts.complete(1)
    assert await fill(store, lease, now_us) == 1
    assert await store.pasts.complete(1)
    before = await store.pasts.of(1, [7], 0.1)
    await keep(store, [of_user(7, now_us - DAY_US, rng, quality=0.0)], [vote(old.id, now_us - 1000, rng)])
    assert await fill(store, lease, now_us) == 0
    assert await store.pasts.of(1, [7], 0.1) == before


async def test_whoever_lost_the_lease_fills_nothing(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    lease = await begin(store, now_us)
    await store.leases.release(lease)
    assert await store.leases.acquire("loop", "another", ttl_s=60) is not None
    with pytest.raises(PermanentError, match="taken over"):
        await fill(store, lease, now_us)
    assert not await store.pasts.complete(1)


async def test_a_fill_that_was_stopped_begins_anew(store: Store, clock: ManualClock) -> None:
    """What it had written is not added to."""
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    await keep(store, [of_user(7, now_us - n * DAY_US, rng, quality=0.5) for n in range(1, 4)])
    lease = await begin(store, now_us)
    left = dict.fromkeys(PAST_TOTALS, 100.0) | {"experiment_id": 1}
    async with store._db.write() as connection:
        await insert_all(connection, user_past, [left | {"user_key": user} for user in (7, 8)])
    await keep(store, [of_user(8, now_us + 1, rng, experiment_id=1, epoch=1)])
    assert (await pasts_in(store))[Arm.CHAMPION] is None
    assert not await store.pasts.complete(1)
    assert await fill(store, lease, now_us) == 1
    [vector] = (await store.pasts.of(1, [7], 0.1)).values()
    assert vector[1] == pytest.approx(3 / 1.2)


def traffic(rng: random.Random, now_us: int, users: int) -> tuple[list[NewRecord], list[NewRecord], list[NewVote]]:
    """The past and the test of some users, with votes on both; one in four has no past."""
    before = [
        of_user(user, now_us - rng.randrange(1, 20) * DAY_US, rng, quality=rng.random())
        for user in range(users) for _ in range(user % 4)
    ]  # fmt: skip
    test = [
        of_user(user, now_us + 1000 + n, rng, quality=rng.choice([None, rng.random()]), experiment_id=1, epoch=1,
                arm=Arm(user % 2))
        for n, user in enumerate(rng.choices(range(users + 5), k=users * 4))
    ]  # fmt: skip
    votes = [vote(record.id, now_us + 100_000 + n, rng, feedback=rng.choice([-1, 0, 1]))
             for n, record in enumerate(rng.choices(test, k=users * 3))]  # fmt: skip
    return before, test, votes


async def expected(store: Store) -> dict[Arm, PastMoments]:
    """From the rows of users and their past, at once."""
    pasts = await store.pasts.all_of(1, 0.1)
    want = {arm: PastMoments() for arm in TESTED}
    metrics = (Metric.ERROR,)
    async for arm, key, by_stage, _ in store.statistics.voters(1, [1], metrics):
        totals: UserTotals = by_stage[0]
        if key in pasts:
            want[arm] = want[arm].replaced(pasts[key], None, totals.vector(0.1))
    return want


@pytest.mark.parametrize("seed", range(3))
async def test_exact_whenever_it_was_filled_and_whoever_votes_or_goes(
    store: Store, clock: ManualClock, seed: int
) -> None:
    """Before the first user, between, under late and changed votes, and when users are deleted."""
    rng, now_us = random.Random(seed), int(clock.now() * 1e6)
    before, test, votes = traffic(rng, now_us, 40)
    await keep(store, before)
    lease = await begin(store, now_us)
    steps: list[Callable[[], Any]] = [
        lambda: keep(store, test[:60]),
        lambda: keep(store, test[60:], votes[:40]),
        lambda: keep(store, [], votes[40:]),
        lambda: store.deletion.delete_user(5),
    ]
    steps.insert(seed, lambda: fill(store, lease, now_us))
    for step in steps:
        await step()
    want, got = await expected(store), await pasts_in(store)
    for arm in TESTED:
        assert want[arm].users > 5
        assert close(got[arm], want[arm]), arm
    assert await store.pasts.of(1, [5], 0.1) == {}


async def test_a_deletion_that_was_announced_before_the_fill_is_kept(store: Store, clock: ManualClock) -> None:
    """Its records are still there: they go in small transactions, which may take longer than the fill."""
    rng, now_us = random.Random(9), int(clock.now() * 1e6)
    await keep(store, [of_user(user, now_us - DAY_US, rng, quality=0.5) for user in (7, 8)])
    lease = await begin(store, now_us)
    async with store._db.write() as connection:
        await announce(connection, now_us - 1_000_000, 7)
    assert await fill(store, lease, now_us) == 1
    assert set(await store.pasts.of(1, [7, 8], 0.1)) == {8}


async def test_a_user_counts_in_each_stage(store: Store, clock: ManualClock) -> None:
    """Who was moved by the ramp has a past in both; a stage that begins after the fill is counted from its first."""
    rng, now_us = random.Random(4), int(clock.now() * 1e6)
    await keep(store, [of_user(7, now_us - DAY_US, rng, quality=0.5)])
    lease = await begin(store, now_us)
    await keep(store, [of_user(7, now_us + 1, rng, quality=None, experiment_id=1, epoch=1)])
    await keep(store, [of_user(7, now_us + 5, rng, experiment_id=1, epoch=2)])
    await fill(store, lease, now_us)
    await keep(store, [of_user(7, now_us + 9, rng, experiment_id=1, epoch=3, arm=Arm.CHALLENGER)])
    first, second, third = [await pasts_in(store, epoch) for epoch in (1, 2, 3)]
    for past in (first[Arm.CHAMPION], second[Arm.CHAMPION], third[Arm.CHALLENGER]):
        assert past is not None
        assert past.users == 1
        assert past.mean(Metric.QUALITY) is not None


async def test_nothing_is_counted_where_it_is_off(store: Store, clock: ManualClock) -> None:
    rng, now_us = random.Random(5), int(clock.now() * 1e6)
    await keep(store, [of_user(7, now_us - DAY_US, rng, quality=0.5)])
    await begin(store, now_us, frozen={"icc": 0.1, "terms": {"ab_test_config.cuped": "false"}})
    await keep(store, [of_user(7, now_us + 1, rng, experiment_id=1, epoch=1)])
    assert await pasts_in(store) == {Arm.CHAMPION: None, Arm.CHALLENGER: None}


async def test_the_past_goes_with_the_rows_of_an_old_experiment(store: Store, clock: ManualClock) -> None:
    rng, now_us = random.Random(6), int(clock.now() * 1e6)
    await keep(store, [of_user(7, now_us - DAY_US, rng, quality=0.5)])
    lease = await begin(store, now_us)
    await fill(store, lease, now_us)
    made = await store.experiments.get(1)
    assert made is not None
    await store.journal.transition(
        LoopTransaction(fence=lease.fence, experiments=(replace(made, ended_us=now_us - 9 * DAY_US),))
    )
    assert await store.pasts.of(1, [7], 0.1)
    await store.retention.prune(RetentionConfig(bodies_days=2, records_days=3))
    assert await store.pasts.of(1, [7], 0.1) == {}


async def test_a_replay_has_the_same_sums(store: Store, clock: ManualClock) -> None:
    rng, now_us = random.Random(7), int(clock.now() * 1e6)
    before, test, votes = traffic(rng, now_us, 30)
    await keep(store, before)
    lease = await begin(store, now_us)
    await fill(store, lease, now_us)
    await keep(store, test, votes)
    replay = store.statistics.replay(
        Epoch(experiment_id=1, number=1, terms=Terms(icc=0.1), since_us=now_us, until_us=now_us + DAY_US,
              pasts=await store.pasts.all_of(1, 0.1))
    )  # fmt: skip
    await replay.advance(now_us + 50)
    arms = await replay.advance(now_us + DAY_US)
    await replay.aclose()
    got = await pasts_in(store)
    for arm in TESTED:
        past = got[arm]
        assert past is not None
        assert close(arms[arm].past, past)
    plain = store.statistics.replay(
        Epoch(experiment_id=1, number=1, terms=Terms(icc=0.1), since_us=now_us, until_us=now_us + DAY_US)
    )
    assert (await plain.advance(now_us + DAY_US))[Arm.CHAMPION].past is None
    await plain.aclose()
