"""Votes under another system's id: changed, moved and taken back by it, in whichever order things come."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
import sqlalchemy as sa

from policies.ballots import FULL_TRUST, BallotTrust
from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig
from proxy.store.ingest.facts import VoteSummary
from proxy.store.store import Store
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.schema import conversation_votes, feedback, vote_names
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordView, VoteCounts
from tests.harness.exchanges import exchange, new_id

WRITER = "w0-1-1"
EXT = 77


class Clients:
    """What another system's clients send, and what comes of it."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.rng = random.Random(5)
        self.now_us = int(clock.now() * 1e6)
        self._offset = 0

    def record(self, *aliases: str, user: int = 5) -> NewRecord:
        self.now_us += 1000
        return exchange(self.now_us, self.rng, quality=0.5, quality_source="app", aliases=aliases, user_hash=user)

    def vote(self, alias: str | None = "turn-1", feedback: int | None = 1, **changes: object) -> NewVote:
        self.now_us += 1000
        made = NewVote(fid=new_id(self.now_us, self.rng), record_id=None, alias=alias, source="ann", feedback=feedback,
                       created_us=self.now_us, external=EXT)  # fmt: skip
        return replace(made, **changes)  # type: ignore[arg-type]

    def change(self, **says: object) -> NewVote:
        """A change of the vote: nobody says whose it is, or what it is on."""
        return self.vote(None, **{"feedback": None, "source": "anonymous", "amends": True, **says})  # type: ignore[arg-type]

    def removal(self) -> NewVote:
        return self.vote(None, None, retracted=True, source="anonymous")

    async def come(self, *things: NewRecord | NewVote) -> int:
        """All in one transaction; returns how many votes wait."""
        self._offset += 1
        batch = IngestBatch(
            writer=WRITER,
            segment=0,
            offset=self._offset,
            records=tuple(thing for thing in things if isinstance(thing, NewRecord)),
            votes=tuple(thing for thing in things if isinstance(thing, NewVote)),
        )
        return (await self.store.ingest.apply(batch)).parked

    async def come_one_by_one(self, things: Sequence[NewRecord | NewVote]) -> None:
        for thing in things:
            await self.come(thing)

    async def view(self, record: NewRecord) -> RecordView:
        found = await self.store.records.get(record.id)
        assert found is not None
        return found

    async def counted(self) -> VoteCounts:
        return (await self.store.traffic.totals()).votes


@pytest.fixture
def clients(store: Store, clock: ManualClock) -> Clients:
    return Clients(store, clock)


async def test_the_same_id_again_replaces_the_vote_whoever_it_says_has_voted(clients: Clients) -> None:
    record = clients.record("turn-1")
    await clients.come(record)
    await clients.come(clients.vote(source="score-1", correction="Bern", comment="old"))
    await clients.come(clients.vote(feedback=-1, source="bob"))
    view = await clients.view(record)
    assert (view.row.feedback, await clients.counted()) == (-1.0, VoteCounts(negative=1))
    assert [vote.effective for vote in view.votes] == [False, True]
    corrections = {sample.correction async for sample in clients.store.samples.judged()}
    assert corrections == {None}  # it was of the vote that is replaced


async def test_taking_one_vote_back_leaves_the_same_persons_others(clients: Clients) -> None:
    record = clients.record("turn-1")
    await clients.come(record, clients.vote(feedback=-1, external=1), clients.vote(feedback=1, external=2))
    assert await clients.counted() == VoteCounts(positive=1)
    await clients.come(replace(clients.removal(), external=2))
    assert await clients.counted() == VoteCounts(negative=1)
    await clients.come(replace(clients.removal(), external=2), replace(clients.removal(), external=1))
    assert ((await clients.view(record)).row.feedback, await clients.counted()) == (None, VoteCounts())
    await clients.come(clients.vote(external=2))
    assert await clients.counted() == VoteCounts(positive=1)


async def test_a_change_says_only_what_is_new_and_a_thumb_stays_a_thumb(clients: Clients) -> None:
    thumb, score, word = (clients.record(name) for name in ("t", "s", "w"))
    await clients.come(thumb, score, word)
    await clients.come(
        clients.vote("t", 1, external=1, correction="Bern"),
        clients.vote("s", None, external=2, quality_score=0.9),
        clients.vote("w", None, external=3, comment="verdict: good"),
    )
    await clients.come(*(replace(clients.change(feedback=-1, quality_score=0.0), external=key) for key in (1, 2, 3)))
    assert await clients.counted() == VoteCounts(negative=1)
    rows = [(await clients.view(record)).row for record in (thumb, score, word)]
    assert [(row.feedback, row.quality, row.quality_source) for row in rows] == [
        (-1.0, 0.5, "app"), (None, 0.0, "feedback"), (None, 0.5, "app"),
    ]  # fmt: skip
    kept = [(await clients.view(record)).votes[-1] for record in (thumb, score, word)]
    assert [(vote.feedback, vote.quality_score) for vote in kept] == [(-1, None), (None, 0.0), (None, None)]
    samples = {sample.record_id: sample.correction async for sample in clients.store.samples.judged()}
    assert samples[thumb.id] == "Bern"


async def test_any_order_of_record_vote_change_and_removal_ends_alike(clients: Clients) -> None:
    orders = list(permutations(range(4)))
    records = []
    for n, order in enumerate(orders):
        record = clients.record(f"turn-{n}")
        events = [record, clients.vote(f"turn-{n}"), clients.change(feedback=-1, comment="no")]
        events.append(clients.vote(f"turn-{n}", 0) if n % 2 else clients.removal())
        keyed = [replace(event, external=n) if isinstance(event, NewVote) else event for event in events]
        await clients.come_one_by_one([keyed[place] for place in order])
        records.append(record)
    means = [(await clients.view(record)).row.feedback for record in records]
    assert means == [0.0 if n % 2 else None for n in range(len(orders))]
    assert await clients.counted() == VoteCounts(neutral=len(orders) // 2)


async def test_changes_apply_in_the_order_in_which_they_were_made(clients: Clients) -> None:
    for n, order in enumerate(permutations(range(4))):
        record = clients.record(f"turn-{n}")
        changes = [clients.vote(f"turn-{n}", quality_score=0.5), clients.change(feedback=-1, quality_score=0.1),
                   clients.change(quality_score=0.7)]  # fmt: skip
        events = [record, *(replace(change, external=n) for change in changes)]
        await clients.come_one_by_one([events[place] for place in order])
        row = (await clients.view(record)).row
        assert (row.feedback, row.quality) == (-1.0, 0.7), order


async def test_a_change_that_nothing_is_known_of_waits_and_is_one_batch_with_what_it_waits_for(
    clients: Clients,
) -> None:
    record = clients.record("turn-1")
    assert await clients.come(clients.change(feedback=-1, quality_score=0.0)) == 1
    assert await clients.come(replace(clients.removal(), external=EXT + 1)) == 1  # of which nothing will ever come
    first = replace(clients.vote(), fid="0" * 32)
    assert await clients.come(record, first) == 0
    assert await clients.counted() == VoteCounts(negative=1)
    assert [(vote.feedback, vote.quality_score) for vote in (await clients.view(record)).votes] == [
        (1, None),
        (-1, None),
    ]
    assert (await clients.store.ingest.join_parked()).joined == ()


async def test_what_two_hosts_store_at_once_finds_together_later(clients: Clients) -> None:
    record, change = clients.record("turn-1"), clients.change(feedback=-1)
    await clients.come(change)
    await clients.come(record, replace(clients.vote(), fid="0" * 32, external=EXT + 1))
    async with clients.store._db.write() as connection:  # as if neither transaction had seen the other
        await connection.execute(sa.update(feedback).where(feedback.c.fid == "0" * 32).values(external=EXT))
    assert await clients.counted() == VoteCounts(positive=1)
    assert len((await clients.store.ingest.join_parked()).joined) == 1
    assert await clients.counted() == VoteCounts(negative=1)


@pytest.mark.parametrize("late", [False, True])
async def test_a_vote_that_comes_again_for_another_answer_has_moved(clients: Clients, late: bool) -> None:
    one, two = clients.record("turn-1"), clients.record("turn-2")
    first, second = clients.vote("turn-1"), clients.vote("turn-2", -1)
    await clients.come(one, two)
    await clients.come_one_by_one([second, first] if late else [first, second])
    assert [(await clients.view(record)).row.feedback for record in (one, two)] == [None, -1.0]
    assert await clients.counted() == VoteCounts(negative=1)
    await clients.come(clients.vote("turn-1"))
    assert [(await clients.view(record)).row.feedback for record in (one, two)] == [1.0, None]
    await clients.come(clients.removal())
    assert await clients.counted() == VoteCounts()


@pytest.mark.parametrize("removed", [False, True])
async def test_what_came_before_the_vote_that_it_is_about_goes_with_it_where_the_vote_has_moved(
    clients: Clients, removed: bool
) -> None:
    for n, order in enumerate(permutations(range(3))):
        one, two = clients.record(f"one-{n}"), clients.record(f"two-{n}")
        events = [
            clients.vote(f"one-{n}"),
            clients.vote(f"two-{n}"),
            clients.removal() if removed else clients.change(feedback=-1, comment="no"),
        ]
        await clients.come(one, two)
        await clients.come_one_by_one([replace(events[place], external=n) for place in order])
        await clients.come(replace(events[order[-1]], external=n))  # delivered again
        thumbs = [(await clients.view(record)).row.feedback for record in (one, two)]
        assert thumbs == [None, None if removed else -1.0], order
        said = [[vote.comment for vote in (await clients.view(r)).votes if vote.comment] for r in (one, two)]
        assert said == [[], [] if removed else ["no"]], order
    assert await clients.counted() == (VoteCounts() if removed else VoteCounts(negative=6))


async def test_the_next_answer_of_the_same_turn_takes_the_vote_with_it(clients: Clients) -> None:
    asked, answered = clients.record("the-turn"), clients.record("the-turn")
    await clients.come(asked, clients.vote("the-turn"))
    await clients.come(answered)
    await clients.come(clients.vote("the-turn", feedback=-1))
    assert [(await clients.view(record)).row.feedback for record in (asked, answered)] == [None, -1.0]


async def test_a_name_of_several_people_stays_nobodys_also_for_changes(clients: Clients) -> None:
    mine, theirs = clients.record("turn-1", user=5), clients.record("turn-1", user=6)
    await clients.come(mine, theirs, clients.vote(), clients.change(feedback=-1))
    await clients.come(clients.removal())
    assert await clients.counted() == VoteCounts()
    assert not (await clients.view(mine)).votes + (await clients.view(theirs)).votes


async def test_a_hashed_name_is_as_good_as_the_name(clients: Clients) -> None:
    record = clients.record("turn-1")
    await clients.come(clients.vote(None, hashed_alias=alias_hash("turn-1")))
    await clients.come(record)
    assert await clients.counted() == VoteCounts(positive=1)


async def test_a_vote_on_a_conversation_is_taken_back_too(clients: Clients) -> None:
    async def value() -> list[int | None]:
        async with clients.store._db.read() as connection:
            return list(await connection.scalars(sa.select(conversation_votes.c.value)))

    about = {"whole": True, "conversation": 9, "user_hash": 5}
    early = replace(clients.removal(), external=2)
    await clients.come(clients.vote(None, **about), early)
    assert await value() == [1]
    await clients.come(clients.removal())
    assert await value() == [None]
    late = clients.vote(None, -1, **about, external=2)
    await clients.come(replace(late, fid="0" * 32, conversation=10))
    assert sorted(await value(), key=str) == [None, None]


def test_what_is_not_believed_of_a_vote_is_not_believed_of_its_changes() -> None:
    thumb = NewVote(fid="1", record_id="r", feedback=1, correction="x", external=1, trust=BallotTrust.THUMB)
    change = NewVote(fid="2", record_id="r", feedback=-1, external=1, amends=True, trust=FULL_TRUST)
    summary = VoteSummary.of([change, thumb])
    assert (summary.negative, summary.positive, summary.correction) == (1, 0, None)
    assert VoteSummary.of([change]).count == 0


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_vote_that_has_moved_twice_is_on_the_last_answer_alone(clients: Clients, order: Sequence[int]) -> None:
    answers = [clients.record(f"turn-{n}") for n in range(3)]
    await clients.come(*answers)
    votes = [clients.vote(f"turn-{n}") for n in range(3)]
    await clients.come_one_by_one([votes[n] for n in order])
    assert [(await clients.view(record)).row.feedback for record in answers] == [None, None, 1.0]
    assert await clients.counted() == VoteCounts(positive=1)
    await clients.come(clients.removal())
    assert await clients.counted() == VoteCounts()


@pytest.mark.parametrize("order", list(permutations(range(2))))
async def test_a_removal_that_was_here_first_follows_the_newest_of_two_votes_that_come_together(
    clients: Clients, order: Sequence[int]
) -> None:
    one, other = clients.record("turn-1"), clients.record("turn-2")
    before, *votes = (clients.vote("turn-1"), clients.vote("turn-1"), clients.vote("turn-2"))
    await clients.come(one, other, clients.removal())
    await clients.come(before)
    await clients.come(*(votes[n] for n in order))
    assert [(await clients.view(record)).row.feedback for record in (one, other)] == [None, None]
    assert await clients.counted() == VoteCounts()


async def names_kept(store: Store) -> int:
    async with store._db.read() as connection:
        return int(await connection.scalar(sa.select(sa.func.count()).select_from(vote_names)) or 0)


async def test_of_several_names_the_first_that_is_known_is_meant_and_any_is_waited_for(clients: Clients) -> None:
    given = {"other_names": (alias_hash("the-span"), alias_hash("the-trace"))}
    traced, spanned = clients.record("the-trace"), clients.record("the-trace", "the-span")
    await clients.come(traced, spanned, clients.vote("answer-1", external=1, **given))
    assert [(await clients.view(record)).row.feedback for record in (traced, spanned)] == [None, 1.0]
    assert await names_kept(clients.store) == 0

    early = [clients.vote("answer-2", external=n, other_names=(alias_hash(f"trace-{n}"),)) for n in (2, 3)]
    change = replace(clients.change(feedback=-1, comment="no"), external=3)
    assert await clients.come(*early, change) == 3
    by_trace, by_name = clients.record("trace-3"), clients.record("answer-2")
    assert await clients.come(by_trace) == 0
    assert await clients.come(by_name) == 0
    assert [(await clients.view(record)).row.feedback for record in (by_trace, by_name)] == [-1.0, 1.0]
    assert await clients.counted() == VoteCounts(positive=2, negative=1)
    await clients.come(replace(clients.removal(), external=3))
    assert await clients.counted() == VoteCounts(positive=2)


async def test_a_records_own_id_is_a_name_as_any_that_whoever_takes_its_exported_trace_has(clients: Clients) -> None:
    here, late = clients.record(), clients.record()
    span = {"other_names": (alias_hash("00f067aa0ba902b7"),)}
    by_id = [
        clients.vote(r.id, external=10 * n + (r is late), own_id=r.id, **(span if n % 2 else {}))
        for n in range(4)
        for r in (here, late)
    ]
    await clients.come(here)
    assert await clients.come(*by_id) == 4
    assert await clients.come(late) == 0
    assert [len((await clients.view(record)).votes) for record in (here, late)] == [4, 4]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_record_of_a_chat_uis_own_is_known_by_its_own_id_in_any_order(
    clients: Clients, order: Sequence[int]
) -> None:
    """By its message's id it is not: that is the answer's."""
    title = replace(clients.record("turn-1"), kind="task")
    by_id = clients.vote(title.id, external=1, own_id=title.id, comment="short")
    things = [title, by_id, clients.vote(external=2)]
    await clients.come_one_by_one([things[n] for n in order])
    assert [vote.comment for vote in (await clients.view(title)).votes] == ["short"]


async def test_a_name_of_several_people_leaves_the_others_that_a_vote_gives(clients: Clients) -> None:
    names = {"other_names": (alias_hash("my-trace"),)}
    mine, theirs = clients.record("chatcmpl-0", "my-trace", user=5), clients.record("chatcmpl-0", user=6)
    await clients.come(mine, theirs, clients.vote("chatcmpl-0", **names))
    assert (await clients.view(mine)).row.feedback == 1.0
    later = clients.vote("chatcmpl-0", -1, external=2, other_names=(alias_hash("later-trace"),))
    assert await clients.come(later) == 1, "not one of several people's yet: the other name may still come"
    await clients.come(theirs := clients.record("later-trace", user=6))
    assert (await clients.view(theirs)).row.feedback == -1.0


async def test_votes_that_wait_for_any_of_several_names_go_with_the_user_who_has_one(clients: Clients) -> None:
    gone = clients.record("the-trace")
    waiting = clients.vote("answer-1", source="bob", other_names=(alias_hash("the-trace"),))
    assert await clients.come(waiting) == 1
    await clients.store.deletion.delete_user(5, at_us=clients.now_us)  # while its record is in a spool yet
    await clients.come(gone)
    async with clients.store._db.read() as connection:
        assert not (await connection.execute(sa.select(feedback.c.fid))).all()
    assert await names_kept(clients.store) == 0


async def test_names_are_kept_as_long_as_the_newest_vote_that_waits_for_them(
    clients: Clients, clock: ManualClock
) -> None:
    """One that comes later may be older: its host was away for long, or its clock is wrong."""
    names = {"other_names": (alias_hash("the-trace"),), "external": None}
    long_ago = f"{(clients.now_us // 1000 - 100 * 86_400_000):012x}7000800000000000000a"
    await clients.come(clients.vote("answer-1", **names))
    await clients.come(clients.vote("answer-1", -1, source="bob", fid=long_ago, **names))
    await clients.store.retention.prune(RetentionConfig())
    await clients.come(record := clients.record("the-trace"))
    assert (await clients.view(record)).row.feedback == 1.0


async def test_names_that_a_vote_gave_are_gone_with_the_user_whose_record_was_known_by_its_own_id(
    clients: Clients,
) -> None:
    record = clients.record()
    span = {"other_names": (alias_hash("00f067aa0ba902b7"),)}
    assert await clients.come(clients.vote(record.id, own_id=record.id, **span)) == 1
    assert await clients.come(record) == 0
    assert await names_kept(clients.store) == 2
    await clients.store.deletion.delete_user(5)
    assert await names_kept(clients.store) == 0


@pytest.mark.parametrize(("later", "counts"), [({"conversation": 8}, None), ({"conversation": 7}, 1.0)])
async def test_a_short_name_is_one_answers_until_another_conversation_has_it(
    clients: Clients, later: dict[str, int], counts: float | None
) -> None:
    """As of an application that numbers the messages of each conversation."""
    first = replace(clients.record("1"), conversation=7)
    await clients.come(first, clients.vote("1"))
    assert (await clients.view(first)).row.feedback == 1.0
    second = replace(clients.record("1"), **later)  # type: ignore[arg-type]
    await clients.come(second)
    await clients.come(clients.vote("1", external=2))
    assert (await clients.view(second)).row.feedback == counts
    assert await clients.store.ingest.ambiguous(["1"]) == (frozenset("1") if counts is None else frozenset())
