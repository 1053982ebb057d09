"""What users show without voting is counted exactly: in any order, in any batches, twice, and after deletions."""

from __future__ import annotations

import pickle
import random
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.records import Arm
from policies.signals import MOST_ALIKE, SPAN_S, Signal, UserRequest, few_enough, shown, signal_words, span_of
from proxy.clock import ManualClock
from proxy.store.ingest import statistics
from proxy.store.retention.forgotten import announce
from proxy.store.store import Store
from proxy.store.tables.keys import alias_hash, id_time_us
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.contract.store.test_statistics import close, start_experiment
from tests.harness.exchanges import exchange, new_id

PERSON = int(Signal.JUDGEABLE | Signal.ANSWER | Signal.AWAITED)
SHOWN = (Metric.REGENERATED, Metric.REPHRASED, Metric.RETRIED, Metric.ABANDONED, Metric.COPIED)


def asked(at_s: float, rng: random.Random, prompt: int, signals: int = PERSON, **changes: Any) -> NewRecord:
    common = {"experiment_id": 1, "epoch": 1, "user_hash": 5, "duration_us": 2_000_000, "quality": None}
    facts = {"prompt_key": prompt, "signals": signals, "aliases": (), **common}
    return exchange(int(at_s * 1e6), rng, **facts | changes)


def copied(record: NewRecord, rng: random.Random) -> NewVote:
    return NewVote(fid=new_id(id_time_us(record.id) + 5_000_000, rng), record_id=record.id, copied=True)


def slowly(
    records: list[NewRecord], votes: list[NewVote], arm: Arm, *, only_tagged: bool = False
) -> tuple[dict[str, int], Moments]:
    """Every record's signals, and the arm's sums of them, from all that there is."""
    groups: defaultdict[tuple[Any, ...], list[UserRequest]] = defaultdict(list)
    complaints: defaultdict[tuple[Any, ...], list[UserRequest]] = defaultdict(list)
    spans: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for r in records:
        spans["asked", r.user_hash, r.prompt_key].append(span_of(id_time_us(r.id)))
        spans["complained", r.user_hash, r.answers_key].append(span_of(id_time_us(r.id)))
    few = {key: few_enough(times) for key, times in spans.items()}
    for r in records:
        span = span_of(id_time_us(r.id))
        claimed = bool(r.flags & RecordFlag.CLAIMED)
        who = r.user_hash, r.cluster if claimed else None
        began = id_time_us(r.id) / 1e6
        one = UserRequest(r.id, began, began + r.duration_us / 1e6, r.signals or 0)
        if span in few["asked", r.user_hash, r.prompt_key]:
            groups[*who, r.prompt_key].append(one)
        if r.answers_key is not None and span in few["complained", r.user_hash, r.answers_key]:
            complaints[*who, r.answers_key].append(one)
    revealed: dict[str, int] = {}
    for key, copies in groups.items():
        revealed |= shown(copies, complaints[key])
    bits = {r.id: (r.signals or 0) | revealed.get(r.id, 0) for r in records}
    taken = {vote.record_id for vote in votes if vote.copied}
    users: defaultdict[int, dict[Metric, list[float]]] = defaultdict(lambda: {m: [0.0, 0.0] for m in METRICS})
    for r in records:
        if r.arm != arm or (only_tagged and not r.tags):
            continue
        seen = {
            Metric.REGENERATED: (Signal.JUDGEABLE, bits[r.id] & Signal.REGENERATED),
            Metric.REPHRASED: (Signal.JUDGEABLE, bits[r.id] & Signal.REPHRASED),
            Metric.RETRIED: (Signal.TELLS_RETRIES, bits[r.id] & Signal.RETRIED),
            Metric.ABANDONED: (Signal.AWAITED, bits[r.id] & Signal.ABANDONED),
            Metric.COPIED: (Signal.ANSWER, r.id in taken),
        }
        unit = r.cluster if r.flags & RecordFlag.CLAIMED else r.user_hash
        assert unit is not None
        for metric, (where, was) in seen.items():
            if bits[r.id] & where:
                users[unit][metric][0] += 1
                users[unit][metric][1] += bool(was)
    moments = Moments()
    for totals in users.values():
        n, s = (tuple(totals[metric][at] for metric in METRICS) for at in (0, 1))
        moments = moments.replaced(None, UserTotals(n=n, s=s).vector(0.1))
    return bits, moments


def only_signals(moments: Moments) -> Moments:
    """The sums of the signals alone."""
    rows = {2 * METRICS.index(metric) + side for metric in SHOWN for side in (0, 1)}
    sums = tuple(value if at in rows else 0.0 for at, value in enumerate(moments.sums))
    return Moments(users=moments.users, sums=sums)


async def batches(store: Store, parts: list[Any], rng: random.Random) -> None:
    """Store them in this order, a few at a time, some of them twice."""
    while parts:
        size = rng.randint(1, 6)
        part, parts = parts[:size], parts[rng.randint(max(1, size - 2), size) :]
        await store.ingest.apply(
            IngestBatch(
                writer="",
                segment=0,
                offset=0,
                records=tuple(p for p in part if isinstance(p, NewRecord)),
                votes=tuple(p for p in part if isinstance(p, NewVote)),
            )
        )


async def words_of(store: Store, record: NewRecord) -> list[str]:
    view = await store.records.get(record.id)
    assert view is not None
    assert view.row.signals is not None
    return signal_words(view.row.signals)


async def test_a_regeneration_by_hand(store: Store, clock: ManualClock) -> None:
    """Asked, again ten seconds later, and copied: one answer of two is regenerated, one copied; w(2) = 2/1.1."""
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    first, second = asked(now, rng, 7), asked(now + 10, rng, 7)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(first,)))
    assert await words_of(store, first) == []
    votes = (copied(second, rng),)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, records=(second,), votes=votes))
    assert await words_of(store, first) == ["regenerated"]
    sums = (await store.statistics.arms(1, 1))[Arm.CHAMPION].moments.sums
    w = 2 / 1.1
    at = 2 * METRICS.index(Metric.REGENERATED)
    assert sums[at : at + 10] == pytest.approx((w / 2, w, 0, w, 0, 0, 0, w, w / 2, w))


async def test_outside_of_tests_nobody_looks(store: Store, clock: ManualClock) -> None:
    rng, now = random.Random(1), clock.now()
    pair = tuple(asked(now + at, rng, 7, experiment_id=None, epoch=0) for at in (0, 10))
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=pair))
    assert await words_of(store, pair[0]) == []


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10_000))
async def test_any_order_counts_the_same(store: Store, clock: ManualClock, seed: int) -> None:
    rng, now = random.Random(seed), clock.now()
    experiment_id = rng.getrandbits(30) + 2
    await start_experiment(store, experiment_id)
    tells, retry = PERSON | Signal.TELLS_RETRIES, PERSON | Signal.TELLS_RETRIES | Signal.RETRY
    users = [rng.getrandbits(40) for _ in range(3)]  # an example's own: its neighbours are in the same store
    arms = {user: Arm(rng.randrange(2)) for user in users}
    records = []
    for _ in range(14):
        user, claimed = rng.choice((*users, users[0])), rng.random() < 0.2
        complains = rng.random() < 0.3
        records.append(
            asked(
                now + rng.choice((rng.uniform(0, 60), rng.uniform(0, 4000))),
                rng,
                rng.choice((7, 8)) + 100 * complains,
                int(rng.choice((PERSON, PERSON, tells, retry, Signal.NONE, PERSON | Signal.ABANDONED))),
                experiment_id=experiment_id,
                user_hash=user,
                arm=arms[user],
                answers_key=rng.choice((7, 8)) if complains else None,
                duration_us=rng.choice((500_000, 3_000_000, 30_000_000, 700_000_000)),
                flags=RecordFlag.CLAIMED if claimed else RecordFlag.NONE,
                cluster=rng.choice((41, 42)),
                tags=rng.choice((None, {"plan": "free"})),
            )
        )
    votes = [copied(record, rng) for record in rng.choices(records, k=4)]
    everything = [*records, *votes]
    await batches(store, rng.sample(everything, len(everything)), rng)
    await batches(store, everything, rng)
    stats = await store.statistics.arms(experiment_id, 1)
    tags = await store.statistics.tags(experiment_id, 1)
    for arm in Arm:
        bits, moments = slowly(records, votes, arm)
        assert only_signals(stats[arm].moments).sums == pytest.approx(moments.sums, abs=1e-9)
        if any(record.tags for record in records):
            _, tagged = slowly(records, votes, arm, only_tagged=True)
            assert only_signals(tags["plan=free"][arm].moments).sums == pytest.approx(tagged.sums, abs=1e-9)
    for record in records:
        assert await words_of(store, record) == signal_words(bits[record.id])


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10_000))
async def test_what_no_person_asks_says_nothing_in_any_order(store: Store, clock: ManualClock, seed: int) -> None:
    """A program fills one span of time, or the two beside it, with the same; what a person asked there is looked at."""
    rng = random.Random(seed)
    experiment_id, user = rng.getrandbits(30) + 2, rng.getrandbits(40)
    await start_experiment(store, experiment_id)
    begin = (span_of(int(clock.now() * 1e6)) + 1) * SPAN_S
    facts = {"experiment_id": experiment_id, "user_hash": user}
    full = [rng.choice((2, 7, MOST_ALIKE, MOST_ALIKE + 1, MOST_ALIKE + 9)) for _ in range(3)]
    records = [
        asked(begin + SPAN_S * (span + rng.random()), rng, 7, **facts) for span, n in enumerate(full) for _ in range(n)
    ]
    records += [
        asked(begin + SPAN_S * 3 * rng.random(), rng, 107, answers_key=7, **facts)
        for _ in range(rng.choice((3, MOST_ALIKE + 25)))
    ]
    order: list[Any] = rng.sample(records, len(records))
    while order:
        size = rng.choice((1, 5, 40))
        part, order = order[:size], order[size:]
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(part)))
    bits, moments = slowly(records, [], Arm.CHAMPION)
    stats = await store.statistics.arms(experiment_id, 1)
    assert only_signals(stats[Arm.CHAMPION].moments).sums == pytest.approx(moments.sums, abs=1e-9)
    for record in records:
        assert await words_of(store, record) == signal_words(bits[record.id])


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_no_query_goes_through_all_that_a_user_asked(store: Store, clock: ManualClock) -> None:
    """Every look at records in a batch is by id, or by what they share with the new ones: whatever one user sends."""
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    asked_for: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if " records" in statement and not statement.startswith("INSERT"):
            asked_for.append((statement, parameters[0] if many else parameters))

    talk = {"thread_key": 8, "conversation": None, "kind": "responses"}
    first, second = (asked(now + at, rng, 7, **talk, aliases=(f"resp_{at:08}",)) for at in (0, 10))
    vote = NewVote(fid=new_id(int(now * 1e6), rng), record_id=first.id, whole=True, feedback=1)
    complaint = asked(now + 20, rng, 9, answers_key=7, **talk | {"thread_key": alias_hash("resp_00000010")})
    engine = store._db._writer.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    for part in ((first,), (second,), (complaint,)):
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=part, votes=(vote,)))
    sa.event.remove(engine, "before_cursor_execute", note)
    assert len(asked_for) > 8
    async with store._db.read() as connection:
        for statement, parameters in asked_for:
            for *_, step in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)):
                assert "SCAN records" not in step, statement
                assert "ix_records_user " not in step, statement
                assert not step.endswith(("PRIMARY KEY (id>?)", "PRIMARY KEY (id>? AND id<?)")), statement


async def test_a_loop_that_asks_every_half_minute_regenerates_nothing(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), (span_of(int(clock.now() * 1e6)) + 1) * SPAN_S
    records = [asked(now + 30 * n, rng, 7) for n in range(40)]
    for record in records:
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(record,)))
    assert [await words_of(store, record) for record in records] == [[]] * 40


async def test_a_deleted_user_takes_the_signals_along(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(3), clock.now()
    records = [asked(now + 10 * at, rng, 7, user_hash=at % 2) for at in range(6)]
    votes = [copied(record, rng) for record in records]
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=tuple(votes)))
    await store.deletion.delete_user(1)
    rest = [record for record in records if record.user_hash == 0]
    _, moments = slowly(rest, votes, Arm.CHAMPION)
    stats = (await store.statistics.arms(1, 1))[Arm.CHAMPION]
    assert close(only_signals(stats.moments), only_signals(moments))


async def test_who_is_back_before_their_deletion_is_done_counts_anew(store: Store, clock: ManualClock) -> None:
    """Sums go first, then records, some at a time; the deletion may be killed in between."""
    await start_experiment(store)
    rng, now = random.Random(3), clock.now()
    old = asked(now, rng, 7)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(old,)))
    async with store._db.write() as connection:
        await announce(connection, int((now + 5) * 1e6), 5)
        await statistics.forget_user(connection, 5)
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(asked(now + 10, rng, 7),)))
    at = 2 * METRICS.index(Metric.REGENERATED)
    assert (await store.statistics.arms(1, 1))[Arm.CHAMPION].moments.sums[at : at + 2] == (0, 1)


async def test_the_signals_stand_where_they_belong_when_shares_move(store: Store, clock: ManualClock) -> None:
    """The first was answered by the champion in stage one; that it is made anew in stage two by the challenger is a
    fact of the champion's answer."""
    await start_experiment(store)
    rng, now = random.Random(3), clock.now()
    first = asked(now, rng, 7)
    second = asked(now + 10, rng, 7, epoch=2, arm=Arm.CHALLENGER)
    for part in ((second,), (first,)):
        await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=part))
    at = 2 * METRICS.index(Metric.REGENERATED)
    found = {epoch: await store.statistics.arms(1, epoch) for epoch in (1, 2)}
    assert found[1][Arm.CHAMPION].moments.sums[at : at + 2] == (1, 1)
    assert found[2][Arm.CHALLENGER].moments.sums[at : at + 2] == (0, 1)


KILLED = """
import asyncio, pickle, sys
from proxy.clock import SystemClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch

async def main(url, batches):
    store = await Store.open(url, clock=SystemClock())
    for at, (records, votes) in enumerate(pickle.load(open(batches, "rb"))):
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=at + 1, records=records, votes=votes))
        print(at, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_kill_loses_and_doubles_nothing(store_url: str, tmp_path: Path, clock: ManualClock) -> None:
    """The process that stores is killed again and again; the next one goes through all from the start."""
    store = await Store.open(store_url, clock=clock)
    await start_experiment(store)
    await store.close()
    rng, now = random.Random(7), clock.now()
    talk = {"conversation": 70, "duration_us": 500_000}
    records = [asked(now + 7 * at, rng, rng.choice((7, 8)), user_hash=rng.choice((1, 2)), **talk) for at in range(24)]
    votes = [copied(record, rng) for record in records[::3]]
    whole = [
        NewVote(fid=new_id(int((now + 400 + at) * 1e6), rng), record_id=record.id, whole=True, feedback=1)
        for at, record in enumerate(records[::5])
    ]
    parts: list[Any] = [*records, *votes, *whole]
    rng.shuffle(parts)
    split = [((p,), ()) if isinstance(p, NewRecord) else ((), (p,)) for p in parts]
    (tmp_path / "batches").write_bytes(pickle.dumps(split))
    command = [sys.executable, "-c", KILLED, store_url, str(tmp_path / "batches")]
    for lines in (3, 11, 23, None):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for n, _ in enumerate(child.stdout):
            if n == lines:
                child.kill()
        child.stdout.close()
        assert child.wait() == (0 if lines is None else -signal.SIGKILL)
    store = await Store.open(store_url, clock=clock)
    stats = (await store.statistics.arms(1, 1))[Arm.CHAMPION]
    _, moments = slowly(records, votes, Arm.CHAMPION)
    assert only_signals(stats.moments).sums == pytest.approx(moments.sums, abs=1e-9)
    at = 2 * METRICS.index(Metric.CONVERSATION)
    assert stats.moments.sums[at : at + 2] == (2, 2), "one of each user"
    await store.close()
