"""Where nobody vouches for users their cluster is the unit of evidence, and users are still told apart."""

from __future__ import annotations

import random
from collections import defaultdict

from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.records import Arm
from proxy.clock import ManualClock
from proxy.store.ingest.facts import RecordFacts, Terms, VoteSummary, count_arrival, count_votes
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.contract.store.test_statistics import L95_S, start_experiment
from tests.harness.exchanges import exchange, vote

TERMS = Terms(l95_s=L95_S)


def crowd(clock: ManualClock, rng: random.Random, count: int) -> tuple[list[NewRecord], list[NewVote]]:
    """Thirty users: a third vouched for, the others in four clusters, one of which cannot be told; some vote."""
    records, votes = [], []
    for _ in range(count):
        clock.advance(0.5)
        now_us = round(clock.now() * 1e6)
        user = rng.randrange(30)
        claimed = user >= 10
        record = exchange(
            now_us, rng, user_hash=user + 100, arm=Arm(user % 2), served_by=Arm(user % 2), experiment_id=1, epoch=4,
            cluster=None if user % 4 == 3 else user % 4 + 1,
            flags=RecordFlag.CLAIMED if claimed else RecordFlag.NONE,
        )  # fmt: skip
        records.append(record)
        if rng.random() < 0.4:
            votes.append(vote(record.id, now_us + 1000, rng, feedback=rng.choice((1, -1)), quality_score=None))
    return records, votes


def slowly(records: list[NewRecord], votes: list[NewVote], arm: Arm) -> dict[int, tuple[list[float], list[float]]]:
    """Totals by unit, worked out from everything at once."""
    totals: dict[int, tuple[list[float], list[float]]] = defaultdict(
        lambda: ([0.0] * len(METRICS), [0.0] * len(METRICS))
    )
    ballots = defaultdict(list)
    for ballot in votes:
        ballots[ballot.record_id].append(ballot)
    for record in records:
        facts = RecordFacts.of(record)
        if facts.arm is arm:
            unit = (record.cluster or 0) if facts.claimed else facts.user_key
            count_arrival(totals[unit], facts, TERMS)
            count_votes(totals[unit], VoteSummary(), VoteSummary.of(ballots[record.id]), facts)
    return totals


async def test_clusters_count_as_one_and_their_users_as_many(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng = random.Random(11)
    records, votes = crowd(clock, rng, 200)
    for number, start in enumerate(range(0, 200, 40), start=1):
        some = tuple(records[start : start + 40])
        batch = IngestBatch(writer="w", segment=number, offset=1, records=some, votes=())
        await store.ingest.apply(batch)
    await store.ingest.apply(IngestBatch(writer="w", segment=9, offset=1, records=(), votes=tuple(votes)))
    stats = await store.statistics.arms(1, 4)
    found = {
        (arm, key): (totals[0], claimed)
        async for arm, key, totals, claimed in store.statistics.voters(1, (4,), (Metric.POSITIVE,))
    }
    for arm in Arm:
        units = slowly(records, votes, arm)
        moments = Moments()
        for n, s in units.values():
            moments = moments.replaced(None, UserTotals(n=tuple(n), s=tuple(s)).vector())
        mine = [record for record in records if record.arm is arm]
        claiming = {record.user_hash for record in mine if record.flags & RecordFlag.CLAIMED}
        assert stats[arm].moments.users == moments.users
        assert all(abs(a - b) < 1e-6 for a, b in zip(stats[arm].moments.sums, moments.sums, strict=True))
        assert all(abs(a - b) < 1e-4 for a, b in zip(stats[arm].moments.products, moments.products, strict=True))
        assert stats[arm].claimed_users == len(claiming)
        assert stats[arm].clusters == len({record.cluster or 0 for record in mine if record.flags & RecordFlag.CLAIMED})
        assert stats[arm].users == len({record.user_hash for record in mine})
        voting = {key: totals for (of, key), (totals, _) in found.items() if of is arm}
        positive = METRICS.index(Metric.POSITIVE)
        assert voting.keys() == {key for key, (n, _) in units.items() if n[positive] > 0}
        assert all(totals.s[positive] == units[key][1][positive] for key, totals in voting.items())
    assert {key for (_, key), (_, claimed) in found.items() if claimed} <= {0, 1, 2, 3}
    assert {key for (_, key), (_, claimed) in found.items() if not claimed} <= set(range(100, 110))

    until_us = round(clock.now() * 1e6) + 10_000_000
    replay = store.statistics.replay(
        Epoch(experiment_id=1, number=4, terms=TERMS, since_us=0, until_us=until_us), chunk=30
    )
    again = await replay.advance(until_us)
    walked = {(arm, key): (totals[0], claimed) async for arm, key, totals, claimed in replay.voters((Metric.POSITIVE,))}
    await replay.aclose()
    for arm in Arm:
        assert (again[arm].users, again[arm].clusters) == (stats[arm].users, stats[arm].clusters)
        assert all(abs(a - b) < 1e-6 for a, b in zip(again[arm].moments.sums, stats[arm].moments.sums, strict=True))
    assert {key: claimed for key, (_, claimed) in walked.items()} == {key: c for key, (_, c) in found.items()}

    newest = await store.records.claimed_clusters(50)
    claimed = [record for record in records[-50:] if record.flags & RecordFlag.CLAIMED]
    assert newest.total() == len(claimed)
    assert newest[0] == sum(record.cluster is None for record in claimed)


async def test_a_deleted_user_is_not_counted_and_the_cluster_stays(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    records, _ = crowd(clock, random.Random(5), 120)
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=tuple(records), votes=()))
    before = await store.statistics.arms(1, 4)
    gone = next(record for record in records if record.flags & RecordFlag.CLAIMED)
    assert gone.user_hash is not None
    await store.deletion.delete_user(gone.user_hash)
    after = await store.statistics.arms(1, 4)
    assert after[gone.arm].users == before[gone.arm].users - 1
    assert after[gone.arm].moments == before[gone.arm].moments
    assert after[gone.arm].clusters == before[gone.arm].clusters
