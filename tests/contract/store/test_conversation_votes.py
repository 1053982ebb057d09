"""A vote on a conversation counts once, where its last answer counts: in any order, twice, and after deletions."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.ballots import BallotTrust
from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.kinds import TASK
from policies.records import Arm, Outcome
from proxy.clock import ManualClock
from proxy.store.reading.conversations import ConversationCounts
from proxy.store.store import Store
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.contract.store.test_signals import batches
from tests.contract.store.test_statistics import start_experiment
from tests.harness.exchanges import exchange, new_id

AT = 2 * METRICS.index(Metric.CONVERSATION)
THUMB = 2 * METRICS.index(Metric.POSITIVE)


def said(at_s: float, rng: random.Random, **changes: Any) -> NewRecord:
    common = {"experiment_id": 1, "epoch": 1, "user_hash": 5, "conversation": 70, "aliases": (), "quality": None}
    return exchange(int(at_s * 1e6), rng, **common | changes)


def whole(at_s: float, rng: random.Random, record: NewRecord | None = None, **changes: Any) -> NewVote:
    """On the conversation of that record, else on the one that user and conversation name."""
    about: dict[str, Any] = (
        {"record_id": record.id} if record else {"record_id": None, "user_hash": 5, "conversation": 70}
    )
    return NewVote(**{"fid": new_id(int(at_s * 1e6), rng), "feedback": 1, "whole": True, **about, **changes})


async def store_all(store: Store, *parts: NewRecord | NewVote) -> None:
    records = tuple(p for p in parts if isinstance(p, NewRecord))
    votes = tuple(p for p in parts if isinstance(p, NewVote))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=records, votes=votes))


async def counted(store: Store, epoch: int = 1, arm: Arm = Arm.CHAMPION, experiment_id: int = 1) -> tuple[float, ...]:
    return (await store.statistics.arms(experiment_id, epoch))[arm].moments.sums[AT : AT + 2]


async def test_a_vote_by_hand(store: Store, clock: ManualClock) -> None:
    """Three answers, a vote on the whole: one observation. Then it is changed, made neutral, given again, retracted."""
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    first, second, third = (said(now + at, rng) for at in (0, 10, 20))
    await store_all(store, first, second)
    await store_all(store, whole(now + 30, rng, second))
    assert await counted(store) == (1, 1)
    sums = (await store.statistics.arms(1, 1))[Arm.CHAMPION].moments.sums
    assert sums[THUMB : THUMB + 2] == (0, 0), "it is never copied to the thumbs of records"
    view = await store.records.get(second.id)
    assert view is not None
    assert view.row.feedback is None
    assert [(vote.whole, vote.effective) for vote in view.votes] == [(True, False)]
    await store_all(store, third, whole(now + 40, rng, feedback=-1))
    assert await counted(store) == (0, 1), "the last vote wins, whoever it names the conversation by"
    await store_all(store, whole(now + 35, rng, first))
    assert await counted(store) == (0, 1), "an older one that comes late changes nothing"
    await store_all(store, whole(now + 50, rng, third, feedback=0))
    assert await counted(store) == (0, 0), "neutral is neither"
    await store_all(store, whole(now + 60, rng, third))
    await store_all(store, whole(now + 70, rng, third, feedback=None, retracted=True))
    assert await counted(store) == (0, 0)


async def test_a_later_answer_moves_it(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    await store_all(store, said(now, rng), whole(now + 10, rng))
    await store_all(store, said(now + 20, rng, epoch=2))
    assert await counted(store, 1) == (0, 0)
    assert await counted(store, 2) == (1, 1)
    await store_all(store, said(now + 15, rng))
    assert await counted(store, 2) == (1, 1), "one that comes late is not the last"
    await store_all(store, said(now + 30, rng, epoch=2, arm=Arm.CHALLENGER))
    assert await counted(store, 2) == (0, 0), "now it has answers of both arms"
    assert await counted(store, 2, Arm.CHALLENGER) == (0, 0)
    found = await store.conversations.counts(1)
    assert found == {(2, Arm.CHALLENGER): ConversationCounts(mixed=1)}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user_hash": 6}, "somebody else's conversation of that name"),
        ({"conversation": 71}, "another conversation"),
        ({"experiment_id": None, "epoch": 0}, "outside of a test"),
        ({"status": 503, "outcome": Outcome.UPSTREAM_ERROR}, "no answer"),
        ({"kind": TASK.name}, "a chat UI's own request"),
    ],
)
async def test_only_answers_of_that_user_and_conversation_count(
    store: Store, clock: ManualClock, changes: dict[str, Any], why: str
) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    await store_all(store, whole(now + 10, rng), said(now, rng, **changes))
    assert await counted(store) == (0, 0), why
    await store_all(store, said(now + 1, rng))
    assert await counted(store) == (1, 1)
    await store_all(store, said(now + 20, rng, arm=Arm.CHALLENGER, **changes))
    assert await counted(store) == (1, 1), why


async def test_a_record_of_another_conversation_proves_nothing(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    mine, other = said(now, rng), said(now, rng, user_hash=6)
    await store_all(store, mine, other)
    await store_all(store, whole(now + 10, rng, other, conversation=71))
    await store_all(store, whole(now + 10, rng, mine, trust=BallotTrust.NONE))
    assert await counted(store) == (0, 0)
    await store_all(store, whole(now + 10, rng, other, conversation=70))
    assert await counted(store) == (1, 1), "the one of its own user"


async def test_without_an_id_the_first_message_holds_it_together(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    talk = {"conversation": None, "thread_key": 70}
    first, second = said(now, rng, **talk), said(now + 10, rng, epoch=2, **talk)
    await store_all(store, whole(now + 20, rng, first), first)
    assert await counted(store, 1) == (1, 1)
    await store_all(store, second)
    assert await counted(store, 2) == (1, 1)


async def test_a_claimed_name_counts_for_its_cluster(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    talks = [said(now + at, rng, user_hash=at, flags=RecordFlag.CLAIMED, cluster=9) for at in (1, 2, 3)]
    await store_all(store, *talks, *(whole(now + 20, rng, talk) for talk in talks))
    assert await counted(store) == pytest.approx((3 / 1.2, 3 / 1.2)), "three votes of one cluster: w(3) = 3/1.2"


@pytest.mark.parametrize("first", [True, False])
async def test_a_stranger_who_guesses_both_names_moves_nothing(store: Store, clock: ManualClock, first: bool) -> None:
    """Anybody can write a user and a conversation into a request, and vote on the answer that they get."""
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    theirs = said(now, rng), whole(now + 30, rng)
    strange = [
        said(now + 40, rng, flags=RecordFlag.CLAIMED, cluster=9, arm=arm) for arm in (Arm.CHALLENGER, Arm.CHAMPION)
    ]
    votes = [whole(now + 50, rng, record, feedback=-1) for record in strange]
    for part in ((*theirs,), (*strange, *votes)) if first else ((*strange, *votes), (*theirs,)):
        await store_all(store, *part)
    assert await counted(store) == (1, 1), "it is mixed for the stranger alone"
    await store_all(store, said(now + 60, rng))
    assert await counted(store) == (1, 1)
    assert sum(found.mixed for found in (await store.conversations.counts(1)).values()) == 1


async def test_a_long_conversation_is_known_by_its_latest_answers(store: Store, clock: ManualClock) -> None:
    """And what comes while its vote is there counts exactly, however long it gets."""
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    long_ago = said(now, rng, arm=Arm.CHALLENGER)
    many = [said(now + 1 + n / 100, rng, body=None) for n in range(2100)]
    for at in range(0, 2100, 700):
        await store_all(store, *many[at : at + 700])
    await store_all(store, long_ago)
    await store_all(store, whole(now + 60, rng, many[3]))
    assert await counted(store) == (1, 1), "the other arm's answer is too far back to be seen"
    await store_all(store, said(now + 70, rng, arm=Arm.CHALLENGER))
    assert await counted(store) == (0, 0)
    await store_all(store, *(said(now + 80 + n, rng) for n in range(3)))
    assert await counted(store) == (0, 0), "mixed it stays"


async def test_deletion_takes_it_along(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    await store_all(store, said(now, rng), said(now, rng, user_hash=6), whole(now + 10, rng))
    await store_all(store, whole(now + 10, rng, user_hash=6))
    assert await counted(store) == (2, 2)
    clock.advance(60)
    await store.deletion.delete_user(5)
    assert await counted(store) == (1, 1)
    assert await store.conversations.counts(1) == {(1, Arm.CHAMPION): ConversationCounts(positive=1)}
    late = whole(now + 20, rng), said(now + 20, rng)
    await store_all(store, *late)
    assert await counted(store) == (1, 1), "what was in a spool when they were deleted is refused"
    await store_all(store, said(clock.now() + 5, rng), whole(clock.now() + 9, rng))
    assert await counted(store) == (2, 2), "they are back, and vote again"


def whose(record: NewRecord) -> tuple[Any, Any, Any]:
    return record.user_hash, record.conversation, record.cluster if record.flags & RecordFlag.CLAIMED else None


def slowly(records: list[NewRecord], votes: list[NewVote], epoch: int, arm: Arm) -> Moments:
    """The arm's sums of the metric in that epoch, from all that there is."""
    by_id = {record.id: record for record in records}
    given: defaultdict[tuple[Any, Any, Any], list[NewVote]] = defaultdict(list)
    for vote in votes:
        if vote.record_id is None:
            given[vote.user_hash, vote.conversation, None].append(vote)
        elif (of := by_id[vote.record_id]).user_hash is not None and vote.conversation in (None, of.conversation):
            given[whose(of)].append(vote)
    users: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for talked, ballots in given.items():
        last = max(ballots, key=lambda vote: vote.fid)
        value = None if last.retracted else last.feedback
        talk = [r for r in records if whose(r) == talked]
        talk = [r for r in talk if r.experiment_id and r.status == 200 and r.outcome == Outcome.OK and r.kind != "task"]
        if not talk or not value:
            continue
        end = max(talk, key=lambda r: r.id)
        arms = {r.arm for r in talk if r.experiment_id == end.experiment_id}
        if len(arms) == 1 and (end.epoch, end.arm) == (epoch, arm):
            unit = end.cluster if end.flags & RecordFlag.CLAIMED else end.user_hash
            assert unit is not None
            users[unit][0] += 1
            users[unit][1] += value > 0
    moments, place = Moments(), METRICS.index(Metric.CONVERSATION)
    for n, s in users.values():
        totals = [[0.0] * len(METRICS), [0.0] * len(METRICS)]
        totals[0][place], totals[1][place] = n, s
        moments = moments.replaced(None, UserTotals(n=tuple(totals[0]), s=tuple(totals[1])).vector(0.1))
    return moments


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10_000))
async def test_any_order_counts_the_same(store: Store, clock: ManualClock, seed: int) -> None:
    rng, now = random.Random(seed), clock.now()
    experiment_id = rng.getrandbits(30) + 2
    await start_experiment(store, experiment_id)
    users = [rng.getrandbits(40) for _ in range(3)]
    arms = {user: Arm(rng.randrange(2)) for user in users}
    records = [
        said(
            now + rng.uniform(0, 600),
            rng,
            experiment_id=rng.choice((experiment_id, experiment_id, experiment_id, None)),
            user_hash=(user := rng.choice((*users, None))),
            conversation=rng.choice((1, 1, 2)),
            epoch=rng.choice((1, 1, 2)),
            arm=arms[user] if user and rng.random() < 0.9 else Arm(rng.randrange(2)),
            status=rng.choice((200, 200, 200, 503)),
            kind=rng.choice(("chat", "chat", "chat", "task")),
            flags=rng.choice((RecordFlag.NONE, RecordFlag.NONE, RecordFlag.CLAIMED)),
            cluster=rng.choice((41, 42)),
            tags=rng.choice((None, {"plan": "free"})),
        )
        for _ in range(14)
    ]
    votes = [
        replace(
            whole(now + rng.uniform(0, 900), rng, rng.choice(records)),
            feedback=None if (retracted := rng.random() < 0.15) else rng.choice((1, 1, -1, 0)),
            retracted=retracted,
            conversation=rng.choice((None, None, 1)),
        )
        if rng.random() < 0.6
        else whole(now + rng.uniform(0, 900), rng, user_hash=rng.choice(users), conversation=rng.choice((1, 2, 3)))
        for _ in range(12)
    ]
    everything = [*records, *votes]
    await batches(store, rng.sample(everything, len(everything)), rng)
    await store.ingest.join_parked()
    await batches(store, everything, rng)
    tags = {epoch: await store.statistics.tags(experiment_id, epoch) for epoch in (1, 2)}
    for epoch in (1, 2):
        stats = await store.statistics.arms(experiment_id, epoch)
        for arm in (Arm.CHAMPION, Arm.CHALLENGER):
            want = slowly(records, votes, epoch, arm)
            got = stats[arm].moments
            assert got.sums[AT : AT + 2] == pytest.approx(want.sums[AT : AT + 2], abs=1e-9)
            squares = [(AT, AT), (AT, AT + 1), (AT + 1, AT + 1)]
            assert [got.product(*at) for at in squares] == pytest.approx([want.product(*at) for at in squares])
            assert got.sums[THUMB : THUMB + 2] == (0, 0)
            free = tags[epoch].get("plan=free", {}).get(arm)
            assert free is None or free.moments.sums[AT + 1] <= got.sums[AT + 1] + 1e-9


def link(at_s: float, rng: random.Random, name: int, goes_on_from: int | None, **changes: Any) -> NewRecord:
    """A Responses request; the provider keeps what was said before."""
    thread = 7000 if goes_on_from is None else alias_hash(f"resp_{goes_on_from:08}")
    facts = {"kind": "responses", "conversation": None, "thread_key": thread, "aliases": (f"resp_{name:08}",)}
    return said(at_s, rng, **facts | changes)


async def test_a_chain_of_answers_is_a_conversation(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    rng, now = random.Random(1), clock.now()
    first, second, third = (
        link(now, rng, 1, None),
        link(now + 9, rng, 2, 1, epoch=2),
        link(now + 19, rng, 3, 2, epoch=3),
    )
    await store_all(store, whole(now + 30, rng, first), first)
    assert await counted(store, 1) == (1, 1)
    await store_all(store, third)
    assert await counted(store, 1) == (1, 1), "nobody knows yet that it belongs here"
    await store_all(store, second)
    assert await counted(store, 3) == (1, 1)
    assert await counted(store, 1) == (0, 0)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 10_000))
async def test_a_chain_comes_together_in_any_order(store: Store, clock: ManualClock, seed: int) -> None:
    """Two chains that fork; whatever comes first, votes count as if each had one id."""
    rng, now = random.Random(seed), clock.now()
    experiment_id, base = rng.getrandbits(30) + 2, rng.getrandbits(60) << 8
    await start_experiment(store, experiment_id)
    user, arm = rng.getrandbits(40), Arm(rng.randrange(2))
    links: list[tuple[int, int | None]] = []
    roots: dict[int, int] = {}
    for name in range(9):
        parent = rng.choice([name for name, _ in links]) if name > 1 else None
        links.append((name, parent))
        roots[name] = name if parent is None else roots[parent]
    facts = {"experiment_id": experiment_id, "user_hash": user, "arm": arm}
    records = []
    for name, parent in links:
        at_s, epoch = now + 10 * name + rng.uniform(0, 5), rng.choice((1, 2))
        record = link(at_s, rng, base + name, None if parent is None else base + parent, epoch=epoch, **facts)
        records.append(replace(record, thread_key=base % 2**60 + name) if parent is None else record)
    votes = [
        whole(now + rng.uniform(0, 300), rng, rng.choice(records), feedback=rng.choice((1, -1, 0))) for _ in range(5)
    ]
    everything = [*records, *votes]
    await batches(store, rng.sample(everything, len(everything)), rng)
    await store.ingest.join_parked()
    await batches(store, everything, rng)
    plain = [
        replace(record, conversation=roots[name], thread_key=None)
        for record, (name, _) in zip(records, links, strict=True)
    ]
    for epoch in (1, 2):
        got = (await store.statistics.arms(experiment_id, epoch))[arm].moments
        assert got.sums[AT : AT + 2] == pytest.approx(slowly(plain, votes, epoch, arm).sums[AT : AT + 2], abs=1e-9)
