"""Votes count once, in any order, and what they add up to does not depend on when they came."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import sqlalchemy as sa

from proxy.clock import ManualClock
from proxy.store.ingest import batch as ingest
from proxy.store.ingest.facts import flags_of
from proxy.store.store import Store
from proxy.store.tables.schema import feedback
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordView, VoteCounts
from tests.harness.exchanges import exchange, vote

WRITER = "w0-1-1"


class Story:
    """One record and the votes on it, applied step by step."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.rng = random.Random(5)
        self.now_us = int(clock.now() * 1e6)
        self.record: NewRecord = exchange(self.now_us, self.rng, quality=0.5, aliases=("chatcmpl-9",))
        self._offset = 0

    async def arrives(self) -> int:
        """The record arrives; returns how many votes are parked still."""
        return (await self._apply(records=(self.record,))).parked

    async def votes(self, *votes: NewVote) -> tuple[int, int]:
        """Apply votes; returns (new, parked)."""
        applied = await self._apply(votes=votes)
        return len(applied.votes), applied.parked

    def vote(self, source: str = "ann", feedback: int | None = 1, **changes: object) -> NewVote:
        self.now_us += 1000
        made = vote(self.record.id, self.now_us, self.rng, source=source, feedback=feedback)
        return replace(made, **changes)  # type: ignore[arg-type]

    async def view(self) -> RecordView:
        found = await self.store.records.get(self.record.id)
        assert found is not None
        return found

    async def counts(self) -> tuple[float | None, VoteCounts]:
        return (await self.view()).row.feedback, (await self.store.traffic.totals()).votes

    async def _apply(self, **parts: object):  # type: ignore[no-untyped-def]
        self._offset += 1
        batch = IngestBatch(writer=WRITER, segment=0, offset=self._offset)
        return await self.store.ingest.apply(replace(batch, **parts))  # type: ignore[arg-type]


@pytest.fixture
def story(store: Store, clock: ManualClock) -> Story:
    return Story(store, clock)


async def test_a_vote_is_joined_to_its_record(story: Story) -> None:
    await story.arrives()
    assert await story.votes(story.vote(comment="good", tags={"page": "chat"})) == (1, 0)
    assert await story.counts() == (1.0, VoteCounts(positive=1))
    (kept,) = (await story.view()).votes
    assert (kept.comment, kept.tags, kept.effective) == ("good", {"page": "chat"}, True)


async def test_feedback_before_ingest_is_kept(story: Story) -> None:
    assert await story.votes(story.vote(feedback=-1)) == (1, 1)
    assert (await story.store.traffic.totals()).votes == VoteCounts()
    assert await story.arrives() == 0
    assert await story.counts() == (-1.0, VoteCounts(negative=1))


async def test_the_same_vote_twice_counts_once(story: Story) -> None:
    await story.arrives()
    ballot = story.vote()
    assert await story.votes(ballot, ballot) == (1, 0)
    assert await story.votes(ballot) == (0, 0)
    assert await story.counts() == (1.0, VoteCounts(positive=1))


async def test_a_later_vote_of_the_same_source_replaces(story: Story) -> None:
    await story.arrives()
    await story.votes(story.vote(feedback=1))
    await story.votes(story.vote(feedback=-1))
    assert await story.counts() == (-1.0, VoteCounts(negative=1))
    assert [v.effective for v in (await story.view()).votes] == [False, True]


async def test_the_latest_vote_wins_in_whichever_order_they_come(story: Story) -> None:
    await story.arrives()
    first, second = story.vote(feedback=1), story.vote(feedback=-1)
    await story.votes(second)
    await story.votes(first)
    assert await story.counts() == (-1.0, VoteCounts(negative=1))


async def test_a_retracted_vote_does_not_count(story: Story) -> None:
    await story.arrives()
    await story.votes(story.vote(feedback=1, quality_score=0.9))
    await story.votes(story.vote(feedback=None, retracted=True))
    assert await story.counts() == (None, VoteCounts())
    assert (await story.store.traffic.totals()).voted == 0
    assert (await story.view()).row.quality == 0.5


async def test_sources_are_counted_apart(story: Story) -> None:
    await story.arrives()
    await story.votes(story.vote("ann", 1), story.vote("bob", -1), story.vote("cas", 0))
    assert await story.counts() == (0.0, VoteCounts(positive=1, negative=1, neutral=1))
    assert (await story.store.traffic.totals()).voted == 1


async def test_a_comment_that_is_replaced_or_taken_back_is_nowhere_any_more(story: Story) -> None:
    async def stored() -> list[str]:
        async with story.store._db.read() as connection:
            return sorted(text for text in await connection.scalars(sa.select(feedback.c.comment)) if text)

    async def shown() -> list[str | None]:
        return [vote.comment for vote in (await story.view()).votes if vote.comment]

    first, bobs = story.vote(comment="my phone is 555"), story.vote("bob", comment="fine")
    second, gone = story.vote(comment="in short"), story.vote(feedback=None, retracted=True)
    await story.votes(second)
    await story.arrives()
    await story.votes(first, bobs)
    assert await stored() == await shown() == ["fine", "in short"]
    async with story.store._db.write() as connection:  # as a version before this one has left it
        await connection.execute(sa.update(feedback).where(feedback.c.fid == first.fid).values(comment=first.comment))
    assert await shown() == ["fine", "in short"]
    await story.votes(gone)
    assert await stored() == await shown() == ["fine"]
    alone = NewVote(
        fid=gone.fid[:-1] + "0", record_id=None, user_hash=5, conversation=7, whole=True, feedback=1, comment="all well"
    )
    await story.votes(alone)
    assert await stored() == ["all well", "fine"]
    await story.votes(replace(alone, fid=gone.fid[:-1] + "f", feedback=None, comment=None, retracted=True))
    assert await stored() == ["fine"]


async def test_a_comment_alone_leaves_the_thumb(story: Story) -> None:
    await story.arrives()
    await story.votes(story.vote(feedback=1))
    await story.votes(story.vote(feedback=None, comment="why: because"))
    assert await story.counts() == (1.0, VoteCounts(positive=1))


async def test_a_score_of_a_person_wins_and_goes_back_when_withdrawn(story: Story) -> None:
    await story.arrives()
    await story.votes(story.vote("ann", None, quality_score=1.0), story.vote("bob", None, quality_score=0.8))
    view = await story.view()
    assert (view.row.quality, view.row.quality_source) == (pytest.approx(0.9), "feedback")
    assert view.scores == {"heuristic": 0.5, "feedback": pytest.approx(0.9)}
    assert (await story.store.traffic.totals()).quality == pytest.approx(0.9)
    await story.votes(story.vote("ann", None, retracted=True), story.vote("bob", None, retracted=True))
    view = await story.view()
    assert (view.row.quality, view.row.quality_source, view.scores) == (0.5, "heuristic", {"heuristic": 0.5})
    totals = await story.store.traffic.totals()
    assert (totals.scored, totals.quality) == (1, pytest.approx(0.5))


async def test_a_vote_by_the_providers_id_is_joined(story: Story) -> None:
    early = story.vote("ann", 1, record_id=None, alias="chatcmpl-9")
    assert await story.votes(early) == (1, 1)
    await story.arrives()
    late = story.vote("bob", -1, record_id=None, alias="chatcmpl-9")
    stranger = story.vote("cas", -1, record_id=None, alias="chatcmpl-none")
    assert await story.votes(late, stranger) == (2, 1)
    assert await story.counts() == (0.0, VoteCounts(positive=1, negative=1))


async def test_a_vote_in_the_same_batch_as_its_record_counts(story: Story) -> None:
    applied = await story._apply(records=(story.record,), votes=(story.vote(feedback=1),))
    assert (len(applied.records), len(applied.votes), applied.parked) == (1, 1, 0)
    assert await story.counts() == (1.0, VoteCounts(positive=1))


async def test_votes_that_another_replica_missed_are_joined_later(story: Story) -> None:
    """Two replicas commit at once: one parks the vote, the other does not see it. `join_parked` finds them."""
    await story.votes(story.vote(feedback=1), story.vote("bob", 1, record_id=None, alias="chatcmpl-9"))
    assert (await story.store.ingest.join_parked()).joined == ()
    async with story.store._db.write() as connection:  # the record, as the other replica's transaction wrote it
        await ingest._insert(connection, [story.record], [flags_of(story.record)], {})
    assert len((await story.store.ingest.join_parked()).joined) == 2
    assert (await story.store.ingest.join_parked()).joined == ()
    assert (await story.view()).row.feedback == 1.0


async def test_votes_that_never_find_a_record_keep_no_others_from_theirs(story: Story) -> None:
    """Their records were lost, or forgotten; they are many, and are asked about a few at a time."""
    for number in range(5):
        lost = exchange(story.now_us - number * 86_400_000_000, story.rng)
        await story.votes(
            story.vote("ann", -1, record_id=lost.id), story.vote("bob", record_id=None, alias=f"{number}")
        )
    await story.votes(story.vote("cas", feedback=1))
    async with story.store._db.write() as connection:
        await ingest._insert(connection, [story.record], [flags_of(story.record)], {})
    assert sum([len((await story.store.ingest.join_parked(limit=4)).joined) for _ in range(3)]) == 1
    assert (await story.view()).row.feedback == 1.0
    late = story.vote("dan", feedback=0)
    assert await story.votes(late) == (1, 0)
    assert sum([len((await story.store.ingest.join_parked(limit=4)).joined) for _ in range(4)]) == 0, "round and round"
