"""The statistics of an experiment are exact: however records and votes came, they equal those worked out at once."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.ballots import can_be_judged
from policies.behaviour import Behaviour
from policies.estimates import METRICS, SIGNALS, Metric, Moments, UserTotals, metric_mean
from policies.records import Arm, Outcome
from policies.rows import Experiment
from proxy.clock import ManualClock
from proxy.store.ingest.tags import MOST_COUNTED, MOST_OF_ONE
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.keys import random_user_key
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote

L95_S = 2.0


async def start_experiment(store: Store, experiment_id: int = 1, icc: float = 0.1) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    made = Experiment(
        id=experiment_id,
        champion_model_id=1,
        challenger_model_id=2,
        salt="00",
        share=0.5,
        frozen={"l95_s": L95_S, "icc": icc},
    )
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))


def expected(
    records: list[NewRecord],
    votes: list[NewVote],
    arm: Arm,
    icc: float = 0.1,
    judgements: Mapping[str, float | None] | None = None,
) -> Moments:
    """The moments worked out the slow way: every user's totals from the final state of everything."""
    final = {}
    for ballot in sorted(votes, key=lambda v: v.fid):
        final[ballot.record_id, ballot.source] = ballot
    totals: dict[int, UserTotals] = {}
    for record in records:
        if record.arm != arm:
            continue
        judged = can_be_judged(record.outcome.with_status(record.status), record.status)
        said = [v.feedback for (of, _), v in final.items() if of == record.id and v.feedback is not None]
        cast = said if judged else []
        answered = record.outcome == Outcome.OK and 200 <= record.status < 400
        fallback = bool(record.flags & RecordFlag.FALLBACK)
        broken = record.outcome in (Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.INCOMPLETE)
        failed = broken or (record.outcome == Outcome.OK and record.status >= 500) or fallback
        declined = record.outcome == Outcome.REFUSED or (record.outcome == Outcome.OK and record.status // 100 == 4)
        seconds = record.duration_us / 1e6
        seen = {
            "quality": (record.quality is not None, record.quality or 0.0),
            "positive": (cast.count(1) + cast.count(-1), cast.count(1)),
            "latency": (answered, seconds * answered),
            "error": (1, failed),
            "slow": (answered, answered and seconds > L95_S),
            "voted": (judged, bool(cast)),
            "refused": (1, declined and not fallback),
        }
        judge = (judgements or {}).get(record.id)
        bits = record.behaviour or 0
        looked_at, languages = record.behaviour is not None, bits & Behaviour.LANGUAGES != 0
        seen |= {
            "given": (record.quality is not None, record.quality is not None and record.quality_source != "heuristic"),
            "judge": (judge is not None, judge or 0.0),
            "judge_voted": (seen["positive"][0] * (judge is not None), seen["positive"][0] * (judge or 0.0)),
            "length": (record.answer_chars is not None, math.log(1 + (record.answer_chars or 0))),
            "declined": (looked_at, bits & Behaviour.DECLINED != 0),
            "malformed": (looked_at, bits & Behaviour.MALFORMED != 0),
            "truncated": (looked_at, bits & Behaviour.TRUNCATED != 0),
            "language": (languages, languages and bits & Behaviour.OTHER_LANGUAGE != 0),
        }
        seen |= dict.fromkeys(SIGNALS, (0, 0))  # tests/contract/store/test_signals.py
        key = record.user_hash if record.user_hash is not None else random_user_key(record.id)
        gain = UserTotals(n=tuple(float(seen[m][0]) for m in METRICS), s=tuple(float(seen[m][1]) for m in METRICS))
        totals[key] = totals.get(key, UserTotals()).plus(gain)
    moments = Moments()
    for user in totals.values():
        moments = moments.replaced(None, user.vector(icc))
    return moments


def close(got: Moments, want: Moments) -> bool:
    return (
        got.users == want.users
        and got.sums == pytest.approx(want.sums, abs=1e-9)
        and got.products == pytest.approx(want.products, abs=1e-8)
    )


async def test_one_users_two_requests_by_hand(store: Store, clock: ManualClock) -> None:
    """Two requests of one user: 1 s and 3 s (slow), scores 0.5 and 1, one thumb up. w(2) = 2/1.1, w(1) = 1."""
    await start_experiment(store)
    rng, now_us = random.Random(1), int(clock.now() * 1e6)
    common = {"experiment_id": 1, "epoch": 1, "user_hash": 5, "arm": Arm.CHALLENGER}
    first = exchange(now_us, rng, duration_us=1_000_000, quality=0.5, **common)
    second = exchange(now_us, rng, duration_us=3_000_000, quality=1.0, **common)
    ballot = vote(first.id, now_us, rng)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(first, second), votes=(ballot,)))
    stats = await store.statistics.arms(1, 1)
    assert (stats[Arm.CHAMPION].requests, stats[Arm.CHAMPION].moments) == (0, Moments())
    assert stats[Arm.CHALLENGER].requests == 2
    w = 2 / 1.1
    by_hand = (w * 0.75, w, 1.0, 1.0, w * 2.0, w, 0.0, w, w * 0.5, w, w * 0.5, w, 0.0, w, 0.0, w)
    assert stats[Arm.CHALLENGER].moments.sums == pytest.approx((*by_hand, *(0.0,) * (2 * len(METRICS) - len(by_hand))))


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10_000))
async def test_any_order_gives_the_same_moments(store: Store, clock: ManualClock, seed: int) -> None:
    rng, now_us = random.Random(seed), int(clock.now() * 1e6)
    experiment_id = rng.getrandbits(30) + 2
    await start_experiment(store, experiment_id, icc=0.2)
    records = [
        exchange(
            now_us + i,
            rng,
            experiment_id=experiment_id,
            epoch=4,
            arm=Arm(rng.randrange(2)),
            user_hash=rng.choice((None, 1, 2, 3, 4)),
            status=rng.choice((200, 200, 404, 503)),
            outcome=rng.choice((Outcome.OK, Outcome.OK, *Outcome)),
            quality=rng.choice((None, 0.0, 0.5, 1.0)),
            quality_source=rng.choice(("heuristic", "pointer")),
            answer_chars=rng.choice((None, 0, 700)),
            behaviour=rng.choice((None, *range(2 * max(Behaviour)))),
            tags=rng.choice((None, {"plan": "free"}, {"plan": "paid", "region": "eu"})),
            flags=rng.choice((RecordFlag.NONE, RecordFlag.FALLBACK)),
            aliases=(),
        )
        for i in range(12)
    ]
    votes = [
        vote(rng.choice(records).id, now_us + i, rng, source=rng.choice("ab"), feedback=rng.choice((1, -1, 0)))
        for i in range(15)
    ]
    judgements: dict[str, float | None] = {r.id: rng.choice((None, 0.0, 0.25, 1.0)) for r in rng.sample(records, 8)}
    arrivals: list[NewRecord | NewVote] = rng.sample([*records, *votes], len(records) + len(votes))
    while arrivals:
        part, arrivals = arrivals[: rng.randint(1, 9)], arrivals[rng.randint(1, 9) :]
        arrivals = [a for a in [*arrivals] if a not in part]
        batch = IngestBatch(
            writer="",
            segment=0,
            offset=0,
            records=tuple(p for p in part if isinstance(p, NewRecord)),
            votes=tuple(p for p in part if isinstance(p, NewVote)),
        )
        await store.ingest.apply(batch)
        some = rng.sample(sorted(judgements), rng.randint(1, 8))
        await store.ingest.judged({key: rng.choice((judgements[key], 0.5, None)) for key in some})
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records), votes=tuple(votes)))
    await store.ingest.judged(judgements)
    assert await store.ingest.judged(judgements) == 0, "the second time nothing is new"
    stats = await store.statistics.arms(experiment_id, 4)
    for arm in Arm:
        assert stats[arm].requests == sum(record.arm == arm for record in records)
        assert close(stats[arm].moments, expected(records, votes, arm, icc=0.2, judgements=judgements))
    tags = await store.statistics.tags(experiment_id, 4)
    for name, value in (("plan", "free"), ("plan", "paid"), ("region", "eu")):
        tagged = [record for record in records if (record.tags or {}).get(name) == value]
        for arm in Arm if tagged else ():
            found = tags[f"{name}={value}"][arm]
            assert found.requests == sum(record.arm == arm for record in tagged)
            assert close(found.moments, expected(tagged, votes, arm, icc=0.2, judgements=judgements))


async def test_a_deleted_user_leaves_the_moments(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    records = [
        exchange(
            now_us + i,
            rng,
            experiment_id=1,
            epoch=1,
            user_hash=i % 3,
            arm=Arm(i % 3 == 0),
            aliases=(),
            tags={"plan": "free"},
        )
        for i in range(12)
    ]
    votes = [vote(record.id, now_us, rng) for record in records]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=tuple(votes)))
    judgements: dict[str, float | None] = {record.id: 0.75 for record in records[::2]}
    await store.ingest.judged(judgements)
    await store.deletion.delete_user(1)
    stats, tags = await store.statistics.arms(1, 1), await store.statistics.tags(1, 1)
    rest = [record for record in records if record.user_hash != 1]
    for arm in Arm:
        assert close(stats[arm].moments, expected(rest, votes, arm, judgements=judgements))
        assert close(tags["plan=free"][arm].moments, stats[arm].moments)


async def test_a_judgement_is_kept_with_its_record_and_moves_with_its_votes(store: Store, clock: ManualClock) -> None:
    """0.8 for a record with one vote; the vote is retracted, and given again; at last the judge takes back its word."""
    await start_experiment(store)
    rng, now_us = random.Random(1), int(clock.now() * 1e6)
    record = exchange(now_us, rng, experiment_id=1, epoch=1, user_hash=5)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(record,)))

    async def after(vote_at: int = 0, *, retracted: bool = False) -> tuple[float, ...]:
        if vote_at:
            ballot = vote(record.id, now_us + vote_at * 1000, rng, feedback=None if retracted else 1)
            votes = (replace(ballot, retracted=retracted),)
            await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=votes))
        first = 2 * METRICS.index(Metric.JUDGE)
        return (await store.statistics.arms(1, 1))[Arm.CHAMPION].moments.sums[first : first + 4]

    assert await store.ingest.judged({record.id: 0.8, "0" * 32: 0.1}) == 1, "there is no such record as the other"
    assert await after() == pytest.approx((0.8, 1, 0, 0))
    assert await after(1) == pytest.approx((0.8, 1, 0.8, 1))
    assert await after(2, retracted=True) == pytest.approx((0.8, 1, 0, 0))
    assert await after(3) == pytest.approx((0.8, 1, 0.8, 1))
    view = await store.records.get(record.id)
    assert view is not None
    assert (view.row.judged, view.row.quality) == (0.8, record.quality), "it never becomes the score that counts"
    assert await store.ingest.judged({record.id: None}) == 1
    assert await after() == pytest.approx((0, 0, 0, 0))
    for wrong in (1.1, -0.1, math.nan):
        with pytest.raises(ValueError, match="no score"):
            await store.ingest.judged({record.id: wrong})


async def test_only_so_many_values_of_tags_are_counted_apart(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now_us = random.Random(1), int(clock.now() * 1e6)
    records = tuple(
        exchange(now_us + i, rng, experiment_id=1, epoch=1, user_hash=i, tags={"tenant": f"t{i}"}, aliases=())
        for i in range(MOST_COUNTED + 5)
    )
    for part in (records[:30], records[30:]):
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=part))
    votes = tuple(vote(record.id, now_us, rng) for record in records)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=votes))
    tags = await store.statistics.tags(1, 1)
    assert len(tags) == MOST_COUNTED + 1
    assert tags["tenant=other"][Arm.CHAMPION].requests == tags["tenant=other"][Arm.CHAMPION].moments.users == 5
    thumbs = metric_mean(tags["tenant=other"][Arm.CHAMPION].moments, Metric.POSITIVE)
    assert thumbs is not None
    assert thumbs.observations == 5, "a late vote finds the sums that its record is in"


async def test_whoever_floods_a_tag_uses_up_nobodys_room(store: Store, clock: ManualClock) -> None:
    """One user, one cluster of claimed names, and records of nobody, each with more values than a name has room for."""
    await start_experiment(store)
    rng, now_us = random.Random(1), int(clock.now() * 1e6)
    common: dict[str, Any] = {"experiment_id": 1, "epoch": 1, "aliases": ()}

    def flood(who: str, **changes: Any) -> list[NewRecord]:
        tags = [{"tenant": f"{who}{at}", "plan": "free"} for at in range(MOST_COUNTED + 10)]
        return [exchange(now_us + at, rng, tags=tag, **common, **changes) for at, tag in enumerate(tags)]

    one = flood("one", user_hash=1)
    claimed = flood("claimed", user_hash=7, flags=RecordFlag.CLAIMED, cluster=3)
    nobody = flood("nobody", user_hash=None)
    real = [exchange(now_us, rng, tags={"tenant": "acme", "plan": "gold"}, user_hash=at, **common) for at in (21, 22)]
    for records in (one[:20], one[20:], claimed, nobody, real):
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(records)))
    tags = await store.statistics.tags(1, 1)
    values = Counter(tag.partition("=")[2].rstrip("0123456789") for tag in tags if tag.startswith("tenant="))
    assert values == {"one": MOST_OF_ONE, "claimed": MOST_OF_ONE, "nobody": 5, "other": 1, "acme": 1}
    counted = {tag: tags[tag][Arm.CHAMPION] for tag in ("tenant=acme", "plan=gold", "plan=free", "tenant=other")}
    assert [stats.requests for stats in counted.values()] == [2, 2, 180, 180 - 2 * MOST_OF_ONE - 5]

    late = one[-1].tags["tenant"]  # somebody else brings the value that counted as "other" before
    bringer = exchange(now_us, rng, tags={"tenant": late}, user_hash=30, **common)
    again = exchange(now_us + 1, rng, tags={"tenant": late}, user_hash=1, **common)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(bringer, again)))
    votes = tuple(vote(record.id, now_us, rng) for record in (one[-1], again, bringer))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, votes=votes))
    tags = await store.statistics.tags(1, 1)
    assert tags[f"tenant={late}"][Arm.CHAMPION].requests == 1
    thumbs = {tag: metric_mean(tags[tag][Arm.CHAMPION].moments, Metric.POSITIVE) for tag in tags}
    found = [thumbs[tag] for tag in (f"tenant={late}", "tenant=other")]
    assert [mean and mean.observations for mean in found] == pytest.approx([1, 2 / 1.1]), "two of one user"


async def test_epochs_and_unknown_experiments_are_kept_apart(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now_us = random.Random(3), int(clock.now() * 1e6)
    record = exchange(now_us, rng, experiment_id=1, epoch=1, user_hash=1)
    others = (
        replace(record, id=exchange(now_us, rng).id, epoch=2),
        replace(record, id=exchange(now_us, rng).id, experiment_id=9),
    )
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(record, *others)))
    counted = {key: (await store.statistics.arms(*key))[Arm.CHAMPION].requests for key in ((1, 1), (1, 2), (9, 1))}
    assert counted == {(1, 1): 1, (1, 2): 1, (9, 1): 0}
