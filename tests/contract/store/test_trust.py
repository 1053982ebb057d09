"""What counts of a vote: by who sent it, by what it is on, and by which name it gave its record."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from policies.ballots import FULL_TRUST, BallotTrust, can_be_judged
from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.records import Arm, Outcome
from policies.rows import Experiment
from proxy.clock import ManualClock
from proxy.store.ingest.facts import RecordFacts, Terms
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, JoinedVote, NewRecord, NewVote, RecordFlag, RecordView, VoteCounts
from tests.harness.exchanges import exchange, vote
from tests.harness.require import full

SECOND_US = 1_000_000
ANONYMOUS = BallotTrust.THUMB
NO_ANSWERS = [(200, outcome) for outcome in Outcome if outcome.failed] + [
    (401, Outcome.OK), (404, Outcome.REFUSED), (503, Outcome.OK), (0, Outcome.CLIENT_DISCONNECT),
]  # fmt: skip


class Log:
    """A store, and the batches that go into it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.rng = random.Random(3)
        self.now_us = int(clock.now() * 1e6)
        self._offset = 0

    def record(self, **changes: object) -> NewRecord:
        self.now_us += 1000
        return exchange(self.now_us, self.rng, **{"aliases": (), "user_hash": 1, "quality": 0.5} | changes)

    def vote(self, on: NewRecord | str, trust: BallotTrust = ANONYMOUS, **changes: object) -> NewVote:
        """On a record, or by an alias."""
        self.now_us += 1000
        names = {"record_id": None, "alias": on} if isinstance(on, str) else {"record_id": on.id}
        return replace(vote(None, self.now_us, self.rng, trust=trust), **names | changes)  # type: ignore[arg-type]

    async def apply(self, *parts: NewRecord | NewVote):  # type: ignore[no-untyped-def]
        self._offset += 1
        batch = IngestBatch(
            writer="w0-1-1",
            segment=0,
            offset=self._offset,
            records=tuple(part for part in parts if isinstance(part, NewRecord)),
            votes=tuple(part for part in parts if isinstance(part, NewVote)),
        )
        return await self.store.ingest.apply(batch)

    async def view(self, record: NewRecord) -> RecordView:
        found = await self.store.records.get(record.id)
        assert found is not None
        return found


@pytest.fixture
def log(store: Store, clock: ManualClock) -> Log:
    return Log(store, clock)


@pytest.mark.parametrize("first", ["record", "vote"])
async def test_a_vote_on_no_answer_is_kept_and_says_nothing(log: Log, first: str) -> None:
    for status, outcome in NO_ANSWERS:
        record = log.record(status=status, outcome=outcome, quality=None, quality_source=None)
        said = log.vote(record, FULL_TRUST, comment="so bad", quality_score=1.0, correction="Rome")
        steps = (record, said) if first == "record" else (said, record)
        joined = [seen for step in steps for seen in (await log.apply(step)).joined]
        assert joined == [JoinedVote(feedback=1, retracted=False, counts=False)], (status, outcome)
        view = await log.view(record)
        assert (view.row.feedback, view.row.quality, view.scores) == (None, None, {}), (status, outcome)
        [kept] = view.votes
        assert (kept.comment, kept.effective) == ("so bad", False), (status, outcome)
        assert (await log.store.traffic.totals()).votes == VoteCounts(), (status, outcome)
        assert [sample async for sample in log.store.samples.judged()] == [], (status, outcome)


async def test_who_stops_an_answer_has_seen_enough_to_vote(log: Log) -> None:
    record = log.record(outcome=Outcome.CLIENT_DISCONNECT)
    await log.apply(record, log.vote(record, feedback=-1))
    assert (await log.view(record)).row.feedback == -1


async def test_holders_of_the_id_are_one_voter_whatever_they_call_themselves(log: Log) -> None:
    record = log.record()
    await log.apply(record, *(log.vote(record, source=f"s{n}", feedback=1) for n in range(30)))
    view = await log.view(record)
    assert [vote.source for vote in view.votes if vote.effective] == ["s29"], "the last"
    assert (await log.store.traffic.totals()).votes == VoteCounts(positive=1)
    await log.apply(log.vote(record, source="other", feedback=-1))
    assert (await log.view(record)).row.feedback == -1
    await log.apply(*(log.vote(record, FULL_TRUST, source=f"s{n}", feedback=1) for n in range(3)))
    assert (await log.store.traffic.totals()).votes == VoteCounts(positive=3, negative=1)


async def test_who_has_no_token_takes_back_their_own_vote_alone(log: Log) -> None:
    record = log.record()
    await log.apply(record, log.vote(record, FULL_TRUST, source="ann", quality_score=0.9, correction="Rome"))
    await log.apply(log.vote(record, source="ann", feedback=-1))
    assert (await log.view(record)).row.feedback == 0
    await log.apply(log.vote(record, source="ann", feedback=None, retracted=True))
    view = await log.view(record)
    assert (view.row.feedback, view.row.quality) == (1, 0.9)
    assert (await corrections(log.store)) == ["Rome"]
    await log.apply(log.vote(record, FULL_TRUST, source="ann", feedback=None, retracted=True))
    view = await log.view(record)
    assert (view.row.feedback, view.row.quality) == (None, 0.5)
    assert (await corrections(log.store)) == []


async def test_what_does_not_count_is_kept_to_be_read(log: Log) -> None:
    record = log.record(quality=0.2)
    await log.apply(record, log.vote(record, quality_score=1.0, correction="buy at evil.example", feedback=-1))
    view = await log.view(record)
    assert (view.row.quality, view.row.feedback, view.votes[0].correction) == (0.2, -1, "buy at evil.example")
    assert await corrections(log.store) == []
    assert await log.store.traffic.count_corrections(0, 2 * log.now_us) == 0
    await log.apply(log.vote(record, BallotTrust.SCORE | BallotTrust.CORRECTION, quality_score=0.8, correction="Rome"))
    view = await log.view(record)
    assert (view.row.quality, view.row.feedback) == (0.8, -1), "what the setting allows now; the thumb stays as it was"
    assert await corrections(log.store) == ["Rome"]
    assert await log.store.traffic.count_corrections(0, 2 * log.now_us) == 1


async def corrections(store: Store) -> list[str]:
    found = [sample.correction async for sample in store.samples.iter() if sample.correction is not None]
    assert {sample.correction async for sample in store.samples.judged()} - {None} == set(found)
    return found


# By another name

WHO: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "the same user": ({}, {}, True),
    "another user": ({}, {"user_hash": 2}, False),
    "two without a user": ({"user_hash": None}, {"user_hash": None}, False),
    "a claimed name": ({}, {"flags": RecordFlag.CLAIMED, "cluster": 5}, False),
    "another cluster": (
        {"flags": RecordFlag.CLAIMED, "cluster": 5},
        {"flags": RecordFlag.CLAIMED, "cluster": 6},
        False,
    ),
    "the same cluster": (
        {"flags": RecordFlag.CLAIMED, "cluster": 5},
        {"flags": RecordFlag.CLAIMED, "cluster": 5},
        True,
    ),
    "a back end of several addresses": ({"cluster": 5}, {"cluster": 6}, True),
    "a task of the same turn": ({}, {"user_hash": 2, "kind": "task"}, True),
    "somebody who was refused": ({}, {"user_hash": 2, "status": 401, "outcome": Outcome.REFUSED}, True),
}


@pytest.mark.parametrize("order", ["vote last", "vote first", "vote between"])
async def test_a_name_of_several_people_is_nobodys(log: Log, order: str) -> None:
    """Each case is of users of its own: one of them is deleted in the end."""
    counted = 0
    for case, (who, (mine, theirs, one)) in enumerate(WHO.items()):
        name, mallory = f"request-{case}", 100 + case
        first = log.record(aliases=(name,), **{"user_hash": 10 + case} | mine)
        second = log.record(aliases=(name,), **{"user_hash": 10 + case} | theirs | _renamed(theirs, mallory))
        said = log.vote(name, FULL_TRUST, comment="thanks")
        if order == "vote between":
            await log.apply(first)
            await log.apply(said)
            await log.apply(second)
            assert (await log.view(first)).row.feedback == 1, f"{who}: it was joined, and stays so"
            assert (await log.view(second)).row.feedback is None, who
            continue
        steps = [(first, second), (said,)][:: 1 if order == "vote last" else -1]
        applied = [await log.apply(*part) for part in steps]
        assert sum(part.ambiguous for part in applied) == (not one), who
        votes = [(await log.view(record)).row.feedback for record in (first, second)]
        assert [value for value in votes if value is not None] == [1] * one, who
        await log.store.ingest.join_parked()
        await log.store.deletion.delete_user(mallory)
        await log.store.ingest.join_parked()
        counted += one
        now = (await log.store.traffic.totals()).votes
        assert now == VoteCounts(positive=counted), f"{who}: nor once the other is gone"


def _renamed(changes: dict[str, Any], user: int) -> dict[str, Any]:
    """The second user under the name that they have in this case."""
    return {"user_hash": user} if changes.get("user_hash") == 2 else {}


async def test_a_name_that_a_hundred_have_names_nobody(log: Log) -> None:
    await log.apply(*(log.record(aliases=("chatcmpl-123",)) for _ in range(101)))
    assert (await log.apply(log.vote("chatcmpl-123", FULL_TRUST))).ambiguous == 1


# Any order


def some_record(log: Log) -> NewRecord:
    rng = log.rng
    claimed = rng.choice((RecordFlag.NONE, RecordFlag.CLAIMED))
    status, outcome = rng.choice((*[(200, Outcome.OK)] * 4, *NO_ANSWERS, (200, Outcome.CLIENT_DISCONNECT)))
    quality = rng.choice((None, 0.25, 0.5))
    return log.record(
        status=status, outcome=outcome, quality=quality, quality_source=None if quality is None else "heuristic",
        user_hash=rng.choice((None, 1, 2, 3)), flags=claimed, cluster=rng.choice((8, 9)), arm=Arm(rng.randrange(2)),
        experiment_id=1, epoch=4,
    )  # fmt: skip


def some_vote(log: Log, record: NewRecord) -> NewVote:
    rng = log.rng
    said = rng.choice(({"feedback": rng.choice((1, 0, -1))}, {"feedback": None, "retracted": True}, {"feedback": None}))
    trust = rng.choice((FULL_TRUST, ANONYMOUS, ANONYMOUS, BallotTrust.NONE))
    score = rng.choice((None, None, 0.0, 0.75, 1.0))
    return log.vote(record, trust, source=rng.choice("ab"), quality_score=score, **said)


_OTHER = full("these orders on the other database")


@pytest.mark.parametrize(
    ("store_url", "seed"),
    [
        *(("sqlite", 0), ("sqlite", 1), ("postgresql", 2), ("postgresql", 3)),
        *(pytest.param("postgresql", seed, marks=_OTHER) for seed in (0, 1)),
        *(pytest.param("sqlite", seed, marks=_OTHER) for seed in (2, 3)),
    ],
    indirect=["store_url"],
)
async def test_sums_do_not_depend_on_the_order_and_no_stranger_moves_quality(log: Log, seed: int) -> None:
    lease = await log.store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    terms = Terms(l95_s=1.0, icc=0.2)
    frozen = {"l95_s": terms.l95_s, "icc": terms.icc}
    experiment = Experiment(id=1, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen=frozen)
    await log.store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(experiment,)))
    log.rng, since_us = random.Random(seed), log.now_us
    records = [some_record(log) for _ in range(40)]
    votes = [some_vote(log, log.rng.choice(records)) for _ in range(120)]
    parts: list[NewRecord | NewVote] = [*records, *votes]
    log.rng.shuffle(parts)
    while parts:
        n = log.rng.randint(1, 20)
        await log.apply(*parts[:n])
        parts = parts[n:]

    live = await log.store.statistics.arms(1, 4)
    epoch = Epoch(experiment_id=1, number=4, terms=terms, since_us=since_us, until_us=log.now_us + SECOND_US)
    replay = log.store.statistics.replay(epoch)
    again = await replay.advance(epoch.until_us)
    await replay.aclose()
    on = {record.id: counted(record, [vote for vote in votes if vote.record_id == record.id]) for record in records}
    for arm in Arm:
        expected = moments_of([record for record in records if record.arm == arm], on, terms.icc)
        for moments in (live[arm].moments, again[arm].moments):
            for metric in (Metric.QUALITY, Metric.POSITIVE, Metric.VOTED):
                row = 2 * METRICS.index(metric)
                assert moments.sums[row : row + 2] == pytest.approx(expected.sums[row : row + 2], abs=1e-9), metric
    for record in records:
        row = (await log.view(record)).row
        thumbs, score = on[record.id]
        assert row.quality == pytest.approx(score if score is not None else record.quality)
        assert row.feedback == pytest.approx(fmean(thumbs) if thumbs else None)
    all_thumbs = [thumb for thumbs, _ in on.values() for thumb in thumbs]
    sums = VoteCounts(positive=all_thumbs.count(1), negative=all_thumbs.count(-1), neutral=all_thumbs.count(0))
    assert (await log.store.traffic.totals()).votes == sums


def counted(record: NewRecord, votes: Sequence[NewVote]) -> tuple[list[int], float | None]:
    """The thumbs that count on a record, and the mean of its people's scores: told in another way than the store's."""
    if not can_be_judged(record.outcome, record.status):
        return [], None
    voters: defaultdict[str, list[NewVote]] = defaultdict(list)
    for ballot in sorted(votes, key=lambda ballot: ballot.fid):
        voters[ballot.source if BallotTrust.TOKEN in ballot.trust else "(without the token)"].append(ballot)
    thumbs, scores = [], []
    for ballots in voters.values():
        last = max((n for n, ballot in enumerate(ballots) if ballot.retracted), default=0)
        said = ballots[last:]
        given = [
            ballot.feedback for ballot in said if ballot.feedback is not None and BallotTrust.THUMB in ballot.trust
        ]
        judged = [b.quality_score for b in said if b.quality_score is not None and BallotTrust.SCORE in b.trust]
        thumbs += given[-1:]
        scores += judged[-1:]
    return thumbs, fmean(scores) if scores else None


def moments_of(records: Sequence[NewRecord], on: dict[str, tuple[list[int], float | None]], icc: float) -> Moments:
    totals: dict[int, UserTotals] = {}
    for record in records:
        thumbs, score = on[record.id]
        quality = score if score is not None else record.quality
        n, s = dict.fromkeys(METRICS, 0.0), dict.fromkeys(METRICS, 0.0)
        n[Metric.QUALITY], s[Metric.QUALITY] = float(quality is not None), quality or 0.0
        n[Metric.POSITIVE] = float(sum(thumb != 0 for thumb in thumbs))
        s[Metric.POSITIVE] = float(thumbs.count(1))
        n[Metric.VOTED], s[Metric.VOTED] = float(can_be_judged(record.outcome, record.status)), float(bool(thumbs))
        unit = RecordFacts.of(record).unit
        more = UserTotals(n=tuple(n.values()), s=tuple(s.values()))
        totals[unit] = totals.get(unit, UserTotals()).plus(more)
    moments = Moments()
    for known in totals.values():
        moments = moments.replaced(None, known.vector(icc))
    return moments
