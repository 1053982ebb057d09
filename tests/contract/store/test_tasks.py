"""What a chat UI asks for itself is kept and found like any record; no statistic that decides has it, and no vote by
another name goes to it."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from policies.estimates import Moments
from policies.records import TESTED, Arm, Outcome
from policies.rows import Experiment
from policies.selection import DataGeneratorConfig
from proxy.cli.power import _look
from proxy.clock import ManualClock, SystemClock
from proxy.config import Config
from proxy.loop.act.maintenance import measured_baseline
from proxy.loop.look.supply import usable_at_most
from proxy.store.ingest import batch as ingest
from proxy.store.ingest.facts import Terms, flags_of
from proxy.store.reading.replay import Epoch
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFilter, RecordFlag, RecordRow, VoteCounts
from tests.harness.exchanges import exchange, vote

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
TERMS = Terms(l95_s=1.0, icc=0.2)
TURN = "5e55a6e0-0000-4000-8000-0000000000d1"


async def start_experiment(store: Store) -> None:
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    frozen = {"l95_s": TERMS.l95_s, "icc": TERMS.icc}
    made = Experiment(id=1, champion_model_id=1, challenger_model_id=2, salt="00", share=0.5, frozen=frozen)
    await store.journal.transition(LoopTransaction(fence=lease.fence, experiments=(made,)))


def traffic(now_us: int, seed: int, *, kind: str) -> tuple[list[NewRecord], list[NewVote]]:
    """Four hours of it, some of which failed, was refused, slow, scored, and voted on by the records' ids."""
    rng = random.Random(seed)
    records = [
        exchange(
            now_us - 4 * HOUR_US + i * MINUTE_US,
            rng,
            kind=kind,
            arm=Arm(i % 2),
            model_id=1 + i % 2,
            experiment_id=1,
            epoch=4,
            user_hash=rng.choice((None, 1, 2, 3, seed)),
            status=rng.choice((200, 200, 200, 404, 503)),
            outcome=rng.choice((Outcome.OK, Outcome.OK, Outcome.TIMEOUT)),
            duration_us=rng.choice((300_000, 900_000, 4_000_000)) * (9 if kind == "task" else 1),
            quality=rng.choice((None, 0.0, 0.5, 1.0)),
            flags=rng.choice((RecordFlag.NONE, RecordFlag.FALLBACK)),
        )
        for i in range(230)
    ]
    said = ({"feedback": 1}, {"feedback": -1}, {"feedback": None, "quality_score": 0.1}, {"retracted": True})
    votes = [vote(r.id, now_us - HOUR_US + i, rng, **rng.choice(said)) for i, r in enumerate(records[::2])]
    return records, votes


async def read(store: Store, clock: ManualClock) -> dict[str, Any]:
    """All that decisions are made of."""
    now_us = int(clock.now() * 1e6)
    replay = store.statistics.replay(
        Epoch(experiment_id=1, number=4, terms=TERMS, since_us=0, until_us=now_us), chunk=50
    )
    again = await replay.advance(now_us)
    await replay.aclose()
    stats = await store.statistics.arms(1, 4)
    totals = await store.traffic.totals()
    hour_us = now_us // HOUR_US * HOUR_US - HOUR_US
    return {
        "requests": {arm: stats[arm].requests for arm in TESTED},
        "moments": {arm: stats[arm].moments for arm in TESTED},
        "requests again": {arm: again[arm].requests for arm in TESTED},
        "moments again": {arm: again[arm].moments for arm in TESTED},
        "new samples": [await store.traffic.count_quality_samples(hour_us + 7, least) for least in (None, 0.5)],
        "quality": await store.traffic.quality_window(now_us - 3 * HOUR_US, now_us),
        "quality of a model": await store.traffic.quality_window(now_us - 3 * HOUR_US, now_us, 2),
        "baseline": await measured_baseline(store.traffic.quality_window, now_us),
        "votes": await store.traffic.feedback_window(now_us - 3 * HOUR_US, now_us),
        "users' requests": totals.of_users,
        "the rest of the sums": (totals.voted, totals.votes, totals.scored, totals.quality),
        "users' hours": sorted(round(mean, 9) for mean in await store.traffic.user_hour_means(hour_us)),
        "slow": [await store.traffic.duration_quantile(model, 0, 0.95) for model in (None, 1, 2)],
        "supply": [await usable_at_most(store, DataGeneratorConfig(format_type=form), 0, now_us)
                   for form in ("chatml", "dpo")],
        "samples": [sample.record_id async for sample in store.samples.iter()],
    }  # fmt: skip


async def test_the_same_traffic_with_and_without_tasks_decides_the_same(store: Store, clock: ManualClock) -> None:
    await start_experiment(store)
    now_us = int(clock.now() * 1e6)
    records, votes = traffic(now_us, 5, kind="chat")
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=tuple(votes)))
    without = await read(store, clock)
    assert min(without["requests"].values()) > 100
    assert Moments() not in without["moments"].values()

    tasks, on_tasks = traffic(now_us, 6, kind="task")
    early, late = on_tasks[::2], on_tasks[1::2]
    for offset, part in enumerate(({"votes": early}, {"records": tasks}, {"votes": late}), start=2):
        batch = IngestBatch(writer="w", segment=0, offset=offset, **{k: tuple(v) for k, v in part.items()})
        assert (await store.ingest.apply(batch)).parked == (len(early) if "votes" in part and offset == 2 else 0)
    assert await read(store, clock) == without

    totals = await store.traffic.totals()
    assert (totals.requests, totals.tasks) == (len(records) + len(tasks), len(tasks))
    points = await store.traffic.points(now_us - 5 * HOUR_US, now_us + HOUR_US, 3600)
    assert sum(point.requests for point in points) == totals.requests
    failed = [r for r in [*records, *tasks] if r.outcome is Outcome.TIMEOUT or r.status == 503]
    assert totals.errors == sum(point.errors for point in points) == len(failed)


async def test_a_vote_by_a_tasks_own_id_is_kept_on_it(store: Store, clock: ManualClock) -> None:
    now_us, rng = int(clock.now() * 1e6), random.Random(1)
    task = exchange(now_us, rng, kind="task", quality=0.5)
    ballot = replace(vote(task.id, now_us, rng, feedback=-1), correction="Screws", quality_score=0.0)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=(task,), votes=(ballot,)))
    view = await store.records.get(task.id)
    assert view is not None
    assert (view.row.feedback, view.row.quality, view.votes[0].correction) == (-1.0, 0.0, "Screws")
    assert (await store.traffic.totals()).votes == VoteCounts()
    await store.deletion.delete_user(task.user_hash or 0)
    assert (await store.traffic.totals()).tasks == 1


async def test_a_power_estimate_reckons_with_users_requests(store: Store, clock: ManualClock) -> None:
    now_us = int(SystemClock().now() * 1e6)  # the command asks about the last days before now
    records, votes = traffic(now_us, 5, kind="chat")
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=tuple(records), votes=tuple(votes)))
    without = await _look(store, Config())
    assert without.vote_rate is not None
    assert without.vote_rate > 0
    tasks, on_tasks = traffic(now_us, 6, kind="task")
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=2, records=tuple(tasks), votes=tuple(on_tasks)))
    assert await _look(store, Config()) == without


_STREAMED = RecordFlag.STREAMED


class Turn:
    """A turn of a chat UI, all of whose requests carry one message id: two of the answer, and the title."""

    def __init__(self, clock: ManualClock, number: int = 0) -> None:
        """`number`: another than those before it in the same store."""
        now_us, self.rng = int(clock.now() * 1e6) + 10_000 * number, random.Random(2 + number)
        self.name = f"{TURN[:-2]}{number:02}"
        kinds = {"round": "chat", "answer": "chat", "title": "task"}
        self.steps: dict[str, NewRecord | NewVote] = {
            name: exchange(now_us + 1000 * i, self.rng, kind=kind, aliases=(self.name,))
            for i, (name, kind) in enumerate(kinds.items())
        }
        self.steps["vote"] = replace(vote("", now_us, self.rng, feedback=-1), record_id=None, alias=self.name)
        self._offset = 10 * number

    async def happens(self, store: Store, *names: str) -> int:
        """One batch; how many votes wait."""
        self._offset += 1
        steps = [self.steps[name] for name in names]
        records = tuple(step for step in steps if isinstance(step, NewRecord))
        votes = tuple(step for step in steps if isinstance(step, NewVote))
        batch = IngestBatch(writer="w", segment=0, offset=self._offset, records=records, votes=votes)
        return (await store.ingest.apply(batch)).parked

    async def voted(self, store: Store) -> set[str]:
        rows = {row.id: row for row in (await store.records.list(RecordFilter(), limit=99)).rows}
        names = {step.id: name for name, step in self.steps.items() if isinstance(step, NewRecord)}
        return {name for record_id, name in names.items() if record_id in rows and rows[record_id].feedback is not None}


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_vote_by_a_messages_id_goes_to_the_answer_in_whichever_order_all_come(
    store: Store, clock: ManualClock, at_once: bool
) -> None:
    for number, order in enumerate(permutations(("answer", "title", "vote"))):
        turn = Turn(clock, number)
        for part in (order,) if at_once else [(name,) for name in order]:
            await turn.happens(store, *part)
        assert await turn.voted(store) == {"answer"}, order
        assert (await store.traffic.totals()).votes == VoteCounts(negative=number + 1), order
        found = await store.records.get(turn.name)
        assert found is not None, order
        assert found.row.kind == "chat", order


async def test_of_several_answers_it_goes_to_the_newest(store: Store, clock: ManualClock) -> None:
    turn = Turn(clock)
    await turn.happens(store, "round", "title", "answer")
    await turn.happens(store, "vote")
    assert await turn.voted(store) == {"answer"}


async def test_beside_a_streamed_answer_what_was_not_streamed_is_the_uis_own(store: Store, clock: ManualClock) -> None:
    """LibreChat's titles carry the answer's message id, and nothing says that they are titles."""
    turn = Turn(clock)
    for name, flags in (("round", _STREAMED), ("answer", _STREAMED), ("title", RecordFlag(0))):
        turn.steps[name] = replace(turn.steps[name], user_hash=5, kind="chat", flags=flags)
    await turn.happens(store, "round", "answer", "title")
    await turn.happens(store, "vote")
    assert await turn.voted(store) == {"answer"}


async def test_while_there_is_but_a_task_the_vote_waits(store: Store, clock: ManualClock) -> None:
    turn = Turn(clock)
    await turn.happens(store, "title")
    assert await turn.happens(store, "vote") == 1
    assert (await store.ingest.join_parked()).joined == ()
    assert await turn.voted(store) == set()
    found = await store.records.get(turn.name)
    assert found is not None
    assert found.row.kind == "task", "somebody who looks for it finds it"
    async with store._db.write() as connection:  # as another host's transaction wrote it
        answer = turn.steps["answer"]
        assert isinstance(answer, NewRecord)
        await ingest._insert(connection, [answer], [flags_of(answer)], {})
    assert len((await store.ingest.join_parked()).joined) == 1
    assert await turn.voted(store) == {"answer"}


async def test_lists_have_tasks_or_none_or_nothing_else(store: Store, clock: ManualClock) -> None:
    turn = Turn(clock)
    await turn.happens(store, "round", "title", "answer")

    async def kinds(**criteria: Any) -> list[str]:
        rows: tuple[RecordRow, ...] = (await store.records.list(RecordFilter(**criteria), limit=9)).rows
        return [row.kind for row in rows]

    assert await kinds() == ["task", "chat", "chat"]
    assert await kinds(kind="task") == ["task"]
    assert await kinds(other_than="task") == ["chat", "chat"]
    assert await kinds(other_than="chat") == ["task"]
