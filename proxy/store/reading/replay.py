"""An epoch's statistics as they stood at any moment, worked out again from the records and votes that are stored.

It counts with the functions that ingest counts with (`facts.py`), in the order of time: a record when it was asked, a
vote when it was given, a score as it was before people gave theirs. What a judge says of a record, and what later
requests reveal of it, counts from the record on. A vote on a conversation counts from when it was given, where it
counts now; of several only the last is known. Sums by tag are left out. Records and votes stream by, a chunk at a time,
so memory grows with the users alone: a row of counts and sums each, as in `user_stats`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from policies.estimates import METRICS, Metric, Moments, UserTotals, Vector
from policies.experiment import ArmStats
from policies.kinds import TASK
from policies.past import PastChange, PastMoments, PastVector, past_gain
from policies.records import TESTED, Arm
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of
from proxy.store.ingest.conversations import placed_record
from proxy.store.ingest.facts import (
    RecordFacts,
    Terms,
    VoteSummary,
    count_arrival,
    count_conversation,
    count_score,
    count_votes,
)
from proxy.store.ingest.recounts import BY_PEOPLE, FACTS, facts_of_row, own_scores, preferred, scores_of, votes_on
from proxy.store.tables.keys import HOUR_US, id_floor, id_time_us
from proxy.store.tables.partitions import DAYS_AT_ONCE
from proxy.store.tables.schema import conversation_votes, feedback, records

__all__ = ["Epoch", "EpochReplay"]

_STEP_US: Final = DAYS_AT_ONCE * 24 * HOUR_US
_CLOCKS_DIFFER_US: Final = 60_000_000
"""A host whose clock is behind may have named a request of this epoch as if it came before its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Which traffic to count, and how."""

    experiment_id: int
    number: int
    further: tuple[int, ...] = ()
    """Epochs whose traffic counts as this one's: who looks at a watch without a control knows no parts of it."""
    terms: Terms
    since_us: int
    until_us: int
    """Its records end here."""
    votes_until_us: int | None = None
    """Votes on them count until then: evidence that goes on in a later stage goes on in this one, too. None: until its
    records end."""
    pasts: Mapping[int, PastVector] | None = None
    """What the units did before the experiment, as `store.pasts.all_of` has it; None: it is not used."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all traffic that counts."""
        return self.number, *self.further


@dataclass(frozen=True, slots=True)
class _Event:
    """A record came, or the votes on one changed."""

    at_us: int
    record: RecordFacts
    """With the score that counts where no person has given one."""
    votes: tuple[VoteSummary, VoteSummary] | None = None
    """Before and after; None: the record has just come."""


class _Ahead:
    """A stream of events whose first can be looked at."""

    def __init__(self, events: AsyncGenerator[_Event]) -> None:
        self._events = events
        self._begun = False
        self.head: _Event | None = None

    async def begin(self) -> None:
        """Read the first event, once."""
        if not self._begun:
            self._begun = True
            await self.move_on()

    async def move_on(self) -> None:
        """The next event becomes the head; None at the end."""
        self.head = await anext(self._events, None)

    async def aclose(self) -> None:
        """Read no more."""
        await self._events.aclose()


class EpochReplay:
    """Walks through an epoch once: `advance` from moment to moment, never back; `aclose` at the end."""

    def __init__(self, db: Database, epoch: Epoch, chunk: int) -> None:
        self._db = db
        self._epoch = epoch
        self._chunk = chunk
        self._arrivals = _Ahead(self._read_records())
        self._ballots = _Ahead(self._read_votes())
        self._users: dict[Arm, dict[int, tuple[list[float], list[float]]]] = {arm: {} for arm in Arm}
        self._talks: list[tuple[int, RecordFacts, int]] | None = None
        """Votes on conversations that are still to come, the next one last: when, where, and the vote."""
        self._changed: dict[Arm, dict[int, Vector | None]] = {arm: {} for arm in Arm}
        """Vectors as they were when the moments were last worked out, of the users that changed since."""
        self._arms = {arm: ArmStats(arm=arm, requests=0, moments=Moments()) for arm in Arm}
        self._requests = dict.fromkeys(Arm, 0)
        self._claimed: dict[Arm, set[int]] = {arm: set() for arm in Arm}
        self._clusters: dict[Arm, set[int]] = {arm: set() for arm in Arm}

    async def advance(self, until_us: int) -> dict[Arm, ArmStats]:
        """All arms as they stood at `until_us` (Unix microseconds)."""
        await self._arrivals.begin()
        await self._ballots.begin()
        while (stream := self._earlier()) is not None and (event := stream.head) is not None:
            if event.at_us > until_us:
                break
            self._count(event)
            await stream.move_on()
        if self._talks is None:
            self._talks = await self._read_talks()
        while self._talks and self._talks[-1][0] <= until_us:
            _, record, value = self._talks.pop()
            count_conversation(self._totals(record), value, 1)
        for arm in Arm:
            moments, past = self._sums(arm)
            self._arms[arm] = ArmStats(
                arm=arm,
                requests=self._requests[arm],
                moments=moments,
                claimed_users=len(self._claimed[arm]),
                clusters=len(self._clusters[arm]),
                past=past,
            )
        return dict(self._arms)

    async def voters(self, metrics: Iterable[Metric]) -> AsyncGenerator[tuple[Arm, int, dict[int, UserTotals], bool]]:
        """The units as they stand that have an observation of any of `metrics`; as `Statistics.voters` of one epoch."""
        rows = [METRICS.index(metric) for metric in metrics]
        for arm in TESTED:
            for key, (n, s) in self._users[arm].items():
                if any(n[row] > 0 for row in rows):
                    yield arm, key, {0: UserTotals(n=tuple(n), s=tuple(s))}, key in self._clusters[arm]

    async def aclose(self) -> None:
        """Read no more."""
        await self._arrivals.aclose()
        await self._ballots.aclose()

    def _earlier(self) -> _Ahead | None:
        """The stream whose head is next; a record before the votes on it."""
        arrival, ballot = self._arrivals.head, self._ballots.head
        if arrival is None or ballot is None:
            return self._arrivals if arrival else self._ballots if ballot else None
        return self._arrivals if arrival.at_us <= ballot.at_us else self._ballots

    def _count(self, event: _Event) -> None:
        record = event.record
        totals = self._totals(record)
        if event.votes is None:
            self._requests[record.arm] += 1
            if record.claimed:
                self._claimed[record.arm].add(record.user_key)
                self._clusters[record.arm].add(record.unit)
            count_arrival(totals, record, self._epoch.terms)
            return
        before, after = event.votes
        count_votes(totals, before, after, record)
        scores = (record.score if votes.score is None else (votes.score, BY_PEOPLE) for votes in event.votes)
        count_score(totals, *scores)

    def _totals(self, record: RecordFacts) -> tuple[list[float], list[float]]:
        """Of the record's unit, about to change."""
        changed = self._changed[record.arm]
        if record.unit not in changed:
            changed[record.unit] = self._vector(record.arm, record.unit)
        return self._users[record.arm].setdefault(record.unit, ([0.0] * len(METRICS), [0.0] * len(METRICS)))

    def _sums(self, arm: Arm) -> tuple[Moments, PastMoments | None]:
        """Of the test, and of the past where that is used, with what has changed since they were last worked out."""
        moments, past, changed = self._arms[arm].moments, self._arms[arm].past, self._changed[arm]
        pasts, moves = self._epoch.pasts, list[PastChange]()
        for user_key, old in changed.items():
            new = self._vector(arm, user_key)
            moments = moments.replaced(old, new)
            if pasts is not None and user_key in pasts:
                moves.append(PastChange(pasts[user_key], old, new))
        changed.clear()
        return moments, None if pasts is None else (past or PastMoments()) + past_gain(moves)

    def _vector(self, arm: Arm, user_key: int) -> Vector | None:
        totals = self._users[arm].get(user_key)
        if totals is None:
            return None
        return UserTotals(n=tuple(totals[0]), s=tuple(totals[1])).vector(self._epoch.terms.icc)

    async def _read_records(self) -> AsyncGenerator[_Event]:
        """Some weeks at a time, so that PostgreSQL plans for a bounded number of days."""
        first, last = self._bounds()
        query = sa.select(*FACTS).where(*self._mine()).order_by(records.c.id).limit(self._chunk)
        while first < last:
            before = min(last, id_floor(id_time_us(first) + _STEP_US))
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(records.c.id > first, records.c.id < before))).all()
                by_people = [row.id for row in rows if row.quality_source == BY_PEOPLE]
                kept = await scores_of(connection, by_people)
            for row in rows:
                yield _Event(id_time_us(row.id), _as_it_came(facts_of_row(row), kept[row.id]))
            first = rows[-1].id if len(rows) == self._chunk else before

    async def _read_votes(self) -> AsyncGenerator[_Event]:
        """Votes that count (they found their record), each with all that were on its record before."""
        after, last = self._bounds()
        if self._epoch.votes_until_us is not None:
            last = max(last, _behind(self._epoch.votes_until_us))
        query = sa.select(feedback).where(feedback.c.joined.is_(sa.true()), feedback.c.fid < last)
        query = query.order_by(feedback.c.fid).limit(self._chunk)
        while after < last:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(feedback.c.fid > after))).all()
                found = await self._find({row.record_id for row in rows}, connection)
                said = await votes_on(connection, list(found))
                kept = await scores_of(connection, list(found))
            for row in rows:
                if row.record_id in found:
                    record = _as_it_came(found[row.record_id], kept[row.record_id])
                    yield _ballot(row.fid, record, [vote for vote in said[row.record_id] if vote.joined])
            after = rows[-1].fid if len(rows) == self._chunk else last

    async def _read_talks(self) -> list[tuple[int, RecordFacts, int]]:
        """All at once: of each conversation there is one, and few have any."""
        table = conversation_votes
        mine = table.c.experiment_id == self._epoch.experiment_id, table.c.epoch.in_(self._epoch.numbers)
        counts = table.c.mixed.is_(sa.false()), table.c.value != 0
        async with self._db.read() as connection:
            rows = (await connection.execute(sa.select(table).where(*mine, *counts))).all()
        found = [
            (max(id_time_us(row.fid), id_time_us(row.record_id)), placed_record(row._asdict()), row.value)
            for row in rows
        ]
        return sorted(found, key=lambda talk: talk[0], reverse=True)

    async def _find(self, ids: set[str], connection: Any) -> dict[str, RecordFacts]:
        """Those of the records that are this epoch's."""
        first, last = self._bounds()
        wanted = sorted(record_id for record_id in ids if first < record_id < last)
        if not wanted:
            return {}
        query = sa.select(*FACTS).where(
            any_of(connection, records.c.id, wanted), records.c.id.between(wanted[0], wanted[-1]), *self._mine()
        )
        return {row.id: facts_of_row(row) for row in await connection.execute(query)}

    def _bounds(self) -> tuple[str, str]:
        """Ids between which the epoch's records are, both exclusive."""
        return id_floor(self._epoch.since_us - _CLOCKS_DIFFER_US), _behind(self._epoch.until_us)

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        """The epoch's records, but for tasks."""
        return (
            records.c.experiment_id == self._epoch.experiment_id,
            records.c.epoch.in_(self._epoch.numbers),
            records.c.kind != TASK.name,
        )


def _behind(at_us: int) -> str:
    """An id behind all of the millisecond that `at_us` falls into."""
    return id_floor(at_us + 1000)


def _as_it_came(record: RecordFacts, kept: list[Any]) -> RecordFacts:
    """The record with the score that counted before people gave theirs."""
    source, quality = preferred(own_scores(record, kept))
    return record._replace(quality=quality, quality_source=source)


def _ballot(fid: str, record: RecordFacts, votes: list[Any]) -> _Event:
    """What a vote changed. One that seems older than its record came from a host whose clock was behind."""
    before = VoteSummary.on(record, (vote for vote in votes if vote.fid < fid))
    after = VoteSummary.on(record, (vote for vote in votes if vote.fid <= fid))
    return _Event(max(id_time_us(fid), id_time_us(record.id)), record, (before, after))
