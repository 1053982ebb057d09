"""Questions about stretches of time, checked against the records themselves."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product
from statistics import mean, quantiles

import pytest

from policies.ballots import can_be_judged
from policies.records import Arm, Outcome
from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFlag, VoteCounts
from tests.harness.exchanges import exchange, vote

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000


async def fill(store: Store, now_us: int, n: int = 300, span_us: int = 6 * HOUR_US) -> list[NewRecord]:
    """`n` records over the last `span_us`, a few of them errors, a few unscored."""
    rng = random.Random(11)
    records = [
        exchange(
            now_us - span_us + i * span_us // n,
            rng,
            model_id=rng.choice((1, 2)),
            arm=Arm(i % 2),
            status=rng.choice((200, 200, 200, 200, 404, 500)),
            outcome=rng.choice(
                (Outcome.OK, Outcome.OK, Outcome.OK, Outcome.TIMEOUT, Outcome.INCOMPLETE, Outcome.REFUSED)
            ),
            flags=rng.choice((RecordFlag.NONE, RecordFlag.NONE, RecordFlag.NO_TRAIN, RecordFlag.FALLBACK)),
            quality=rng.choice((None, 0.2, 0.7, 0.705, 1.0)),
        )
        for i in range(n)
    ]
    votes = tuple(vote(r.id, now_us, rng, feedback=rng.choice((1, -1, 0))) for r in records[::5])
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=votes))
    return records


def time_us(record: NewRecord) -> int:
    return int(record.id[:12], 16) * 1000


def answered(record: NewRecord) -> bool:
    return record.outcome == Outcome.OK and record.status < 400


def is_sample(record: NewRecord) -> bool:
    good = record.outcome == Outcome.OK and 200 <= record.status < 300
    return good and not record.flags & RecordFlag.NO_TRAIN


async def test_samples_are_counted_from_any_instant(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill(store, now_us)
    instants = (0, now_us - 5 * HOUR_US, now_us - 3 * HOUR_US - 1234, now_us - 90 * MINUTE_US, now_us)
    for since_us, min_quality in product(instants, (None, 0.7, 0.71, 1.0)):
        wanted = [
            r
            for r in records
            if is_sample(r)
            and time_us(r) >= since_us // 1000 * 1000
            and (min_quality is None or (r.quality is not None and r.quality >= min_quality))
        ]
        assert await store.traffic.count_quality_samples(since_us, min_quality) == len(wanted), (since_us, min_quality)


async def test_visits_are_users_by_number_of_requests(store: Store, clock: ManualClock) -> None:
    """No tasks; requests of no user by themselves; the newest where not all are counted."""
    now_us = int(clock.now() * 1e6)
    assert await store.traffic.visits(0) == (0.0, {}, 0)
    came = [(1, "chat"), (2, "chat"), (2, "chat"), (3, "task"), (None, "chat"), (4, "chat"), (2, "chat"), (4, "chat")]
    records = [
        replace(exchange(now_us - (8 - hour) * HOUR_US, random.Random(hour), kind=kind), user_hash=user)
        for hour, (user, kind) in enumerate(came)
    ]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=()))
    assert await store.traffic.visits(0) == (pytest.approx(7 / 24, rel=1e-3), {1: 1, 2: 1, 3: 1}, 1)
    assert await store.traffic.visits(now_us - 4 * HOUR_US) == (pytest.approx(3 / 24, rel=1e-3), {1: 1, 2: 1}, 1)
    assert await store.traffic.visits(0, limit=3) == (pytest.approx(2 / 24, rel=1e-3), {1: 1, 2: 1}, 0)


async def test_visits_of_names_that_nobody_vouches_for_are_their_clusters(store: Store, clock: ManualClock) -> None:
    """As a test counts them: an address that calls itself by a new name each time is one user."""
    now_us = int(clock.now() * 1e6)
    records = [
        replace(exchange(now_us - hour * HOUR_US, random.Random(hour)), user_hash=1000 + hour, cluster=9,
                flags=RecordFlag.CLAIMED)
        for hour in range(1, 6)
    ]  # fmt: skip
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=()))
    assert await store.traffic.visits(0) == (pytest.approx(4 / 24, rel=1e-3), {5: 1}, 0)


async def test_corrections_are_counted_by_when_they_came(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    rng = random.Random(3)
    records = await fill(store, now_us)
    said = [replace(vote(r.id, now_us - n * HOUR_US, rng), correction="no") for n, r in enumerate(records[:5])]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, votes=tuple(said)))
    assert await store.traffic.count_corrections(0, now_us) == 4
    assert await store.traffic.count_corrections(now_us - 2 * HOUR_US, now_us + 1) == 3


async def test_sums_agree_with_the_records(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill(store, now_us)
    since_us, until_us = (
        now_us // MINUTE_US * MINUTE_US - 200 * MINUTE_US,
        now_us // MINUTE_US * MINUTE_US - 20 * MINUTE_US,
    )
    inside = [r for r in records if since_us <= time_us(r) < until_us]
    totals = await store.traffic.totals(since_us, until_us)
    scored = [r.quality for r in inside if r.quality is not None]
    assert totals.requests == len(inside)
    assert totals.errors == sum(r.status >= 500 or r.outcome in (Outcome.TIMEOUT, Outcome.INCOMPLETE) for r in inside)
    declined = (r.outcome == Outcome.REFUSED or (r.status == 404 and r.outcome == Outcome.OK) for r in inside)
    assert totals.refused == sum(declined)
    points = await store.traffic.points(since_us, until_us, 600)
    assert (sum(p.errors for p in points), sum(p.refused for p in points)) == (totals.errors, totals.refused)
    assert totals.fallbacks == sum(bool(r.flags & RecordFlag.FALLBACK) for r in inside)
    assert totals.prompt_tokens == sum(r.prompt_tokens or 0 for r in inside)
    assert await store.traffic.quality_window(since_us, until_us) == (len(scored), pytest.approx(mean(scored)))
    of_one = [r.quality for r in inside if r.quality is not None and r.model_id == 1]
    assert await store.traffic.quality_window(since_us, until_us, model_id=1) == (
        len(of_one),
        pytest.approx(mean(of_one)),
    )
    voted = [r for r in records[::5] if can_be_judged(r.outcome.with_status(r.status), r.status)]
    assert sum(vars_of(totals.votes)) == sum(r in voted for r in inside)
    assert await store.traffic.feedback_window(since_us, until_us) == totals.votes
    everything = await store.traffic.totals()
    assert (everything.requests, everything.voted) == (len(records), len(voted))


async def test_a_window_that_ends_now_leaves_out_what_is_under_way(store: Store, clock: ManualClock) -> None:
    minute_us = int(clock.now() * 1e6) // MINUTE_US * MINUTE_US
    rng = random.Random(7)
    arrived = (minute_us - 5 * MINUTE_US, minute_us, minute_us + 1_000_000)
    await store.ingest.apply(
        IngestBatch(
            writer="w",
            segment=0,
            offset=1,
            records=tuple(exchange(at_us, rng, model_id=1, arm=Arm.CHAMPION) for at_us in arrived),
        )
    )
    now_us = minute_us + 2_000_000
    since_us = minute_us - 10 * MINUTE_US
    assert (await store.traffic.totals(since_us, now_us)).requests == 1
    assert (await store.traffic.totals(since_us)).requests == 3
    assert [point.requests for point in await store.traffic.points(since_us, now_us, 60)] == [1]
    assert sum(point.requests for point in await store.traffic.points(since_us, minute_us + MINUTE_US, 60)) == 3


def vars_of(votes: VoteCounts) -> tuple[int, int, int]:
    return votes.positive, votes.negative, votes.neutral


async def test_an_empty_store_answers_with_nothing(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    assert await store.traffic.quality_window(0, now_us) == (0, None)
    assert await store.traffic.duration_quantile(1, 0, 0.95) is None
    assert await store.traffic.points(0, now_us, 3600) == []
    assert await store.traffic.count_quality_samples(0, 0.7) == 0
    assert await store.traffic.user_hour_means(now_us) == []
    assert (await store.samples.size()).records == 0


async def test_a_quantile_is_within_five_percent(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill(store, now_us, n=2000)
    durations = [r.duration_us / 1e6 for r in records if answered(r) and r.model_id == 2]
    cuts = quantiles(durations, n=20)
    for q, exact in ((0.5, cuts[9]), (0.95, cuts[18])):
        assert await store.traffic.duration_quantile(2, 0, q) == pytest.approx(exact, rel=0.05)
    of_all = quantiles([r.duration_us / 1e6 for r in records if answered(r)], n=20)
    assert await store.traffic.duration_quantile(None, 0, 0.95) == pytest.approx(of_all[18], rel=0.05)


async def test_how_fast_nothing_came_says_nothing_of_how_fast_answers_come(store: Store, clock: ManualClock) -> None:
    """An error or a refusal is quickly said, and what was not timed took no time at all."""
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    answers = [exchange(now_us + i, rng, model_id=1, duration_us=2_000_000) for i in range(20)]
    nothing = [
        exchange(now_us + 100 + i, rng, model_id=1, duration_us=duration_us, status=status, outcome=outcome)
        for i, (status, outcome, duration_us) in enumerate(
            [(200, outcome, 1000) for outcome in Outcome if outcome is not Outcome.OK]
            + [(404, Outcome.OK, 1000), (503, Outcome.OK, 1000), (200, Outcome.OK, 0)]
        )
    ]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(*answers, *nothing)))
    assert await store.traffic.duration_quantile(1, 0, 0.01) == pytest.approx(2.0, rel=0.1)
    [point] = await store.traffic.points(0, now_us + HOUR_US, 3600)
    assert point.p50_s == pytest.approx(2.0, rel=0.1)
    assert (point.errors, point.refused) == (4, 2)


async def test_traffic_by_step_adds_up(store: Store, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    records = await fill(store, now_us)
    for step_s in (300, 3600):
        start_us = (now_us - 7 * HOUR_US) // (step_s * 1_000_000) * step_s * 1_000_000
        points = await store.traffic.points(start_us, now_us + HOUR_US, step_s)
        assert sum(p.requests for p in points) == len(records)
        assert all(p.at_us % (step_s * 1_000_000) == 0 for p in points)
        assert [p.at_us for p in points] == sorted(p.at_us for p in points)
        busiest = max(points, key=lambda p: p.requests)
        mine = [
            r
            for r in records
            if (r.arm, r.model_id) == (busiest.arm, busiest.model_id)
            and busiest.at_us <= time_us(r) < busiest.at_us + step_s * 1_000_000
        ]
        assert busiest.requests == len(mine)
        assert busiest.duration_s == pytest.approx(mean(r.duration_us / 1e6 for r in mine))


async def test_quantiles_of_a_step_are_those_of_its_records_whatever_sums_they_come_from(
    store: Store, clock: ManualClock
) -> None:
    now_us = int(clock.now() * 1e6) // (24 * HOUR_US) * 24 * HOUR_US + 12 * HOUR_US
    records = [r for r in await fill(store, now_us, n=2000) if answered(r)]
    for step_s in (60, 600, 1800, 3600):  # from the sums by minute, by ten minutes twice, and by hour
        for point in await store.traffic.points(now_us - 7 * HOUR_US, now_us + HOUR_US, step_s):
            mine = sorted(
                r.duration_us / 1e6
                for r in records
                if (r.arm, r.model_id) == (point.arm, point.model_id)
                and point.at_us <= time_us(r) < point.at_us + step_s * 1_000_000
            )
            if mine:
                assert point.p95_s is not None
                assert mine[0] * 0.9 < point.p95_s < mine[-1] * 1.1
                assert sum(seconds <= point.p95_s * 1.1 for seconds in mine) >= 0.95 * len(mine)
            else:
                assert point.p95_s is None


async def test_a_step_that_is_no_minute_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="multiple of 60"):
        await store.traffic.points(0, 1, 90)


async def test_users_are_averaged_within_the_hour(store: Store, clock: ManualClock) -> None:
    hour_us = int(clock.now() * 1e6) // HOUR_US * HOUR_US
    rng = random.Random(1)
    users_and_scores = [(1, 0.2), (1, 0.4), (2, 1.0), (None, 0.5), (None, 0.7), (2, None)]
    records = [
        exchange(hour_us + i, rng, user_hash=user, quality=quality)
        for i, (user, quality) in enumerate(users_and_scores)
    ]
    late = exchange(hour_us + HOUR_US, rng, user_hash=1, quality=0.9)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(*records, late)))
    assert sorted(await store.traffic.user_hour_means(hour_us)) == pytest.approx([0.3, 0.5, 0.7, 1.0])
    assert await store.traffic.user_hour_means(hour_us, model_id=99) == []


async def test_a_day_has_its_users_and_whoever_names_nobody_is_one_with_each_request(
    store: Store, clock: ManualClock
) -> None:
    now_us, rng = int(clock.now() * 1e6), random.Random(1)
    assert await store.traffic.users_a_day(now_us) is None
    asked = [exchange(now_us - 2 * HOUR_US + i, rng, user_hash=one, kind="chat") for i, one in enumerate((5, 5, 6))]
    asked += [exchange(now_us - 30 * HOUR_US + i, rng, user_hash=None, kind="chat") for i in range(4)]
    asked += [exchange(now_us - HOUR_US, rng, user_hash=7, kind="task")]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(asked)))
    assert await store.traffic.users_a_day(now_us) == 3.0
