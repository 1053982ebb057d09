"""What a judge was asked and said: once for each record, whoever is killed, and what it amounts to beside votes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from policies.agreement import Agreement
from policies.judging import Spent
from policies.records import Outcome
from policies.rows import Check, CheckKind
from proxy.clock import ManualClock
from proxy.errors import PermanentError
from proxy.store.control.judgements import Disagreement
from proxy.store.store import Store
from proxy.store.tables.control import Lease
from proxy.store.tables.keys import id_floor
from proxy.store.tables.rows import to_row
from proxy.store.tables.schema import checks, comparisons, preferences
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from tests.harness.exchanges import exchange, vote

SCORER = "openai:m:00000000"


class Shelf:
    """Records of a store, and who may judge them."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.rng = random.Random(8)
        self.first_us = int(clock.now() * 1e6)
        self._made = 0

    def make(self, **changes: Any) -> NewRecord:
        self._made += 1
        changes = {"user_hash": self._made, **changes}
        return exchange(self.first_us + self._made * 1000, self.rng, **changes)

    def vote(self, record: NewRecord, feedback: int) -> NewVote:
        self._made += 1
        return vote(record.id, self.first_us + self._made * 1000, self.rng, feedback=feedback)

    async def keep(self, *records: NewRecord, votes: Sequence[NewVote] = ()) -> None:
        await self.store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=records, votes=tuple(votes)))

    async def lease(self, holder: str = "one") -> Lease:
        lease = await self.store.leases.acquire("judge", holder, ttl_s=30)
        assert lease is not None
        return lease

    async def waiting(self, scorer: str = SCORER, limit: int = 100) -> tuple[str, ...]:
        ends = id_floor(self.first_us - 1000), id_floor(self.first_us + 10**9)
        found = await self.store.judgements.waiting(scorer, after_id=ends[0], before_id=ends[1], limit=limit)
        assert found.done == (self._made < limit)
        return found.ids

    async def judge(self, record: NewRecord, score: float | None, reason: str = "so", tokens: int = 5) -> None:
        await self.store.judgements.ask(await self.lease(), SCORER, [record.id])
        assert await self.store.judgements.answer(record.id, SCORER, score=score, tokens=tokens, reason=reason)


@pytest.fixture
def shelf(store: Store, clock: ManualClock) -> Shelf:
    return Shelf(store, clock)


async def test_whole_answers_that_may_be_used_wait_for_a_judge(shelf: Shelf) -> None:
    good, again = shelf.make(), shelf.make()
    await shelf.keep(
        good,
        again,
        shelf.make(flags=RecordFlag.NO_TRAIN),
        shelf.make(status=500, outcome=Outcome.UPSTREAM_ERROR),
        shelf.make(outcome=Outcome.CLIENT_DISCONNECT),
        shelf.make(kind="task"),
        shelf.make(kind="embeddings"),
    )
    assert await shelf.waiting() == (good.id, again.id)


async def test_a_record_is_asked_about_once(shelf: Shelf) -> None:
    records = [shelf.make() for _ in range(3)]
    await shelf.keep(*records)
    ids = [record.id for record in records]
    lease = await shelf.lease()
    first = await shelf.store.judgements.ask(lease, SCORER, ids[:2])
    assert [sample.record_id for sample in first] == ids[:2]
    assert first[0].exchange.request == records[0].body.request  # type: ignore[union-attr]
    assert await shelf.waiting() == (ids[2],)
    again = await shelf.store.judgements.ask(lease, SCORER, ids)
    assert [sample.record_id for sample in again] == [ids[2]]
    assert await shelf.waiting() == ()
    assert await shelf.waiting("another") == tuple(ids)


async def test_what_a_killed_process_has_asked_is_lost_and_not_asked_again(shelf: Shelf) -> None:
    record = shelf.make()
    await shelf.keep(record)
    early = await shelf.lease("one")
    await shelf.store.judgements.ask(early, SCORER, [record.id])
    await shelf.store.leases.release(early)
    later = await shelf.lease("two")
    assert await shelf.store.judgements.lose(later) == 1
    assert not await shelf.store.judgements.answer(record.id, SCORER, score=1.0, tokens=1, reason="late")
    assert await shelf.store.judgements.ask(later, SCORER, [record.id]) == []
    assert await shelf.store.judgements.lose(later) == 0
    sums = await shelf.store.judgements.sums(SCORER, since_us=0)
    assert (sums.judged, sums.failed, sums.open) == (0, {"lost": 1}, 0)


async def test_who_lost_the_lease_asks_nothing(shelf: Shelf) -> None:
    record = shelf.make()
    await shelf.keep(record)
    early = await shelf.lease("one")
    await shelf.store.leases.release(early)
    await shelf.lease("two")
    with pytest.raises(PermanentError, match="fenced"):
        await shelf.store.judgements.ask(early, SCORER, [record.id])
    assert await shelf.waiting() == (record.id,)


async def test_an_answer_is_kept_once(shelf: Shelf) -> None:
    record = shelf.make()
    await shelf.keep(record)
    await shelf.judge(record, 0.75, "brief and right")
    assert not await shelf.store.judgements.answer(record.id, SCORER, score=0.1, tokens=5, reason="again")
    (kept,) = await shelf.store.judgements.of_record(record.id)
    assert (kept.scorer, kept.score, kept.reason, kept.tokens) == (SCORER, 0.75, "brief and right", 5)


async def test_a_score_counts_once_also_where_a_process_ended_before_it_was_counted(shelf: Shelf) -> None:
    record = shelf.make()
    await shelf.keep(record)
    await shelf.judge(record, 0.75)
    await shelf.store.ingest.judged({record.id: None})  # as it is between the two transactions
    for _ in range(2):
        await shelf.store.judgements.recount(since_us=0)
        view = await shelf.store.records.get(record.id)
        assert view is not None
        assert view.row.judged == 0.75


async def test_the_budget_counts_what_was_asked_in_the_last_hour_and_day(shelf: Shelf) -> None:
    for hours in (20, 3, 0.5, 0):
        record = shelf.make()
        await shelf.keep(record)
        await shelf.judge(record, None, "busy: 429")
        shelf.clock.advance(hours * 3600)
    assert await shelf.store.judgements.spent() == Spent(hour=2, day=4)
    shelf.clock.advance(2 * 3600)
    assert await shelf.store.judgements.spent() == Spent(hour=0, day=3)


async def test_the_sums_tell_scores_failures_and_cost(shelf: Shelf) -> None:
    said: list[tuple[float | None, str]] = [(0.5, ""), (1.0, ""), (None, "unreadable: what?"), (None, "busy: 429")]
    for score, reason in said:
        record = shelf.make()
        await shelf.keep(record)
        await shelf.judge(record, score, reason)
    open_one = shelf.make()
    await shelf.keep(open_one)
    await shelf.store.judgements.ask(await shelf.lease(), SCORER, [open_one.id])
    sums = await shelf.store.judgements.sums(SCORER, since_us=0)
    assert (sums.judged, sums.mean, sums.open, sums.tokens) == (2, 0.75, 1, 20)
    assert sums.failed == {"unreadable": 1, "busy": 1}


async def test_agreement_counts_the_first_answer_of_each_user(shelf: Shelf) -> None:
    """Liked and called good; liked and called bad; disliked and called bad; a neutral vote; a second of the first
    user's; two of one address that makes up names; and one without a judgement."""
    cases = [
        (1, 0.9, {}),
        (1, 0.2, {}),
        (-1, 0.1, {}),
        (0, 0.9, {}),
        (-1, 0.9, {"user_hash": 1}),
        (-1, 0.4, {"user_hash": 71, "cluster": 5, "flags": RecordFlag.CLAIMED}),
        (1, 0.4, {"user_hash": 72, "cluster": 5, "flags": RecordFlag.CLAIMED}),
        (1, None, {}),
    ]
    for feedback, score, changes in cases:
        record = shelf.make(**changes)
        await shelf.keep(record, votes=[shelf.vote(record, feedback)])
        await shelf.judge(record, score, "unreadable: what?" if score is None else "so")
    assert await shelf.store.judgements.agreement(SCORER) == Agreement(liked=2, called_good=1, disliked=2, called_bad=2)
    assert await shelf.store.judgements.agreement("another") == Agreement()


async def _prefer(shelf: Shelf, terms: dict[str, Any], said: list[tuple[str, Any, int | None]]) -> None:
    """Compared answers of a check, what its judge said of them, and which one a person preferred."""
    async with shelf.store._db.write() as connection:
        newest = int(await connection.scalar(sa.select(sa.func.max(checks.c.id))) or 0)
        check = Check(id=newest + 1, kind=CheckKind.GATE, challenger_id=2, champion_id=1, started_us=0, terms=terms)
        await connection.execute(sa.insert(checks).values(to_row(check)))
        for at, (choice, judge, user) in enumerate(said):
            item = f"golden:{at}"
            row = {"check_id": check.id, "item": item, "user_hash": user, "facts": {"judge": judge}, "data": b""}
            await connection.execute(sa.insert(comparisons).values(**row, created_us=0))
            voted = {"check_id": check.id, "item": item, "who": "ann", "choice": choice, "at_us": at}
            await connection.execute(sa.insert(preferences).values(voted))


async def test_preferences_of_people_are_labels_where_the_scorer_read_both_answers(shelf: Shelf) -> None:
    """It agrees in two of four; a tie of the person, another's word on a user who has a label, and what the judge did
    not say are none."""
    scores = {"by": "scores", "champion": 0.9, "challenger": 0.4}
    pairs = {"by": "pairs", "straight": "challenger", "turned": "challenger"}
    undecided = {"by": "pairs", "straight": "challenger", "turned": "champion"}
    said = [
        ("champion", scores, 1),
        ("challenger", pairs, None),
        ("challenger", scores, 2),
        ("champion", undecided, 3),
        ("tie", scores, 4),
        ("champion", scores, 1),
        ("champion", {"by": "none"}, 5),
        ("champion", None, 6),
    ]
    await _prefer(shelf, {"judge": SCORER}, said)
    await _prefer(shelf, {"judge": "another"}, said)
    found = await shelf.store.judgements.agreement(SCORER)
    assert found.labels == 4
    assert found.called_good + found.called_bad == 2


async def test_disagreements_are_there_to_be_read_newest_first(shelf: Shelf) -> None:
    records = []
    for feedback, score in ((1, 0.9), (1, 0.2), (-1, 0.8), (-1, 0.3), (0, 0.9)):
        record = shelf.make()
        records.append(record)
        await shelf.keep(record, votes=[shelf.vote(record, feedback)])
        await shelf.judge(record, score, "so it is")
    assert await shelf.store.judgements.disagreements(SCORER) == [
        Disagreement(record_id=records[2].id, feedback=-1.0, score=0.8, reason="so it is"),
        Disagreement(record_id=records[1].id, feedback=1.0, score=0.2, reason="so it is"),
    ]
    assert len(await shelf.store.judgements.disagreements(SCORER, limit=1)) == 1


async def test_a_deleted_user_is_judged_no_more_and_what_was_said_of_them_is_gone(shelf: Shelf) -> None:
    mine, other = shelf.make(user_hash=3), shelf.make(user_hash=4)
    await shelf.keep(mine, other)
    await shelf.judge(other, 0.5)
    await shelf.store.judgements.ask(await shelf.lease(), SCORER, [mine.id])
    await shelf.store.deletion.delete_user(3)
    assert await shelf.store.judgements.of_record(mine.id) == []
    assert not await shelf.store.judgements.answer(mine.id, SCORER, score=1.0, tokens=1, reason="late")
    assert len(await shelf.store.judgements.of_record(other.id)) == 1


async def test_old_judgements_go_with_their_records(shelf: Shelf) -> None:
    from proxy.config.storage import RetentionConfig

    record = shelf.make()
    await shelf.keep(record)
    await shelf.judge(record, 0.5)
    shelf.clock.advance(40 * 86_400)
    await shelf.store.retention.prune(RetentionConfig(records_days=30, bodies_days=7))
    assert await shelf.store.judgements.of_record(record.id) == []


async def test_a_record_without_its_texts_is_not_asked_about_and_not_left_open(shelf: Shelf) -> None:
    record = replace(shelf.make(), user_hash=9)
    await shelf.keep(record)
    shelf.clock.advance(10 * 86_400)
    from proxy.config.storage import RetentionConfig

    await shelf.store.retention.prune(RetentionConfig(records_days=30, bodies_days=2))
    assert await shelf.store.judgements.ask(await shelf.lease(), SCORER, [record.id]) == []
    (kept,) = await shelf.store.judgements.of_record(record.id)
    assert (kept.score, kept.reason) == (None, "lacking: its texts are gone")
