"""What is finished, in an order that never goes back: for whoever passes on records, votes and judgements once each.

A record's id is when its request came, and it is stored when its answer has ended: behind faster ones that came later.
Two walks together see each record once. Those that were answered within `SLOW_US` are walked by id, up to so long ago
that all of them have ended; the few slower ones are walked by the instant of their end. Votes are walked by their id,
which is when they came, judgements by when the judge was asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from policies.ballots import BallotTrust
from policies.records import Outcome
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.reading.records import row_of, with_model_names
from proxy.store.tables.keys import HOUR_US, id_floor, id_time_us
from proxy.store.tables.schema import feedback, judgements, records, scores
from proxy.store.tables.values import RecordView

__all__ = ["LONGEST_US", "SLOW_US", "Finished", "FinishedRecord", "StoredJudgement", "StoredVote"]

SLOW_US: Final = 10_000_000
"""Answers that took so long or longer are walked by their end, which takes a look at the last hour."""
LONGEST_US: Final = HOUR_US
"""An exchange that lasted longer is seen by neither walk."""
_COUNTED: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRecord:
    """What decides whether a record is wanted."""

    id: str
    ended_us: int
    failed: bool
    """No answer, or a refusal."""
    kind: str
    bytes: int
    """Of both bodies, as they were; what is kept of them may be less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVote:
    """A vote as it was sent."""

    fid: str
    record_id: str | None
    conversation: int | None
    """Hash of the conversation's id, of a vote that names one."""
    created_us: int
    feedback: int | None
    retracted: bool
    quality_score: float | None
    comment: str | None
    correction: str | None
    whole: bool
    copied: bool
    trust: BallotTrust
    first: bool
    """Whether it is the first of its record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJudgement:
    """What came of asking a judge."""

    record_id: str
    scorer: str
    asked_us: int
    score: float | None
    reason: str | None
    """None with no score: not answered yet."""

    @property
    def open(self) -> bool:
        """Whether the answer is still to come."""
        return self.score is None and self.reason is None


class Finished:
    """Reads of one database; each is short."""

    def __init__(self, db: Database, codec: BodyCodec) -> None:
        self._db = db
        self._codec = codec

    async def quick(self, *, after_id: str, before_id: str, limit: int) -> list[FinishedRecord]:
        """Records between the two ids, both exclusive, that were answered within SLOW_US; by id."""
        query = _facts().where(records.c.id > after_id, records.c.id < before_id, records.c.duration_us < SLOW_US)
        async with self._db.read() as connection:
            rows = (await connection.execute(query.order_by(records.c.id).limit(limit))).all()
        return [_finished(row) for row in rows]

    async def slow(self, *, after: tuple[int, str], until_us: int, limit: int) -> list[FinishedRecord]:
        """Slower ones that ended after `after` (an end and an id) and not after `until_us`, in that order."""
        ended_us, _ = after
        between = records.c.id.between(id_floor(ended_us - LONGEST_US), id_floor(until_us))
        query = _facts().where(between, records.c.duration_us.between(SLOW_US, LONGEST_US))
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        found = sorted((_finished(row) for row in rows), key=lambda one: (one.ended_us, one.id))
        return [one for one in found if after < (one.ended_us, one.id) and one.ended_us <= until_us][:limit]

    async def count(self, *, after_id: str, before_id: str, kinds: Sequence[str]) -> int:
        """How many records of these kinds there are between the two ids; a million at most."""
        part = sa.select(records.c.id).where(records.c.id > after_id, records.c.id < before_id)
        return await self._counted(part.where(records.c.kind.in_(kinds)))

    async def count_votes(self, *, after: str, before: str) -> int:
        """The same for votes."""
        return await self._counted(sa.select(feedback.c.fid).where(feedback.c.fid > after, feedback.c.fid < before))

    async def _counted(self, query: sa.Select[Any]) -> int:
        part = query.limit(_COUNTED).subquery()
        async with self._db.read() as connection:
            return int(await connection.scalar(sa.select(sa.func.count()).select_from(part)) or 0)

    async def views(self, ids: Sequence[str]) -> dict[str, RecordView]:
        """The records with these ids, with their bodies and own scores, but no votes; those that are gone are left
        out."""
        if not ids:
            return {}
        own: defaultdict[str, dict[str, float]] = defaultdict(dict)
        async with self._db.read() as connection:
            mine = any_of(connection, records.c.id, ids) & records.c.id.between(min(ids), max(ids))
            rows = (await connection.execute(with_model_names().where(mine))).all()
            said = await self._codec.read(connection, {row.id: row.body for row in rows})
            for score in await connection.execute(sa.select(scores).where(any_of(connection, scores.c.record_id, ids))):
                own[score.record_id][score.scorer] = score.score
        for row in rows:
            if row.quality is not None and row.quality_source is not None:
                own[row.id].setdefault(row.quality_source, row.quality)
        return {
            row.id: RecordView(row=row_of(row, said.get(row.id)), body=said.get(row.id), votes=(), scores=own[row.id])
            for row in rows
        }

    async def votes(self, *, after: str, before: str, limit: int) -> list[StoredVote]:
        """Votes between the two ids, both exclusive, by id."""
        query = sa.select(feedback).where(feedback.c.fid > after, feedback.c.fid < before)
        async with self._db.read() as connection:
            rows = (await connection.execute(query.order_by(feedback.c.fid).limit(limit))).all()
            ids = sorted({row.record_id for row in rows if row.record_id is not None})
            first = set()
            if ids:
                place = sa.func.row_number().over(partition_by=feedback.c.record_id, order_by=feedback.c.fid)
                placed = sa.select(feedback.c.fid, place.label("place"))
                part = placed.where(any_of(connection, feedback.c.record_id, ids)).subquery()
                first = set(await connection.scalars(sa.select(part.c.fid).where(part.c.place == 1)))
        return [_vote(row, first=row.fid in first) for row in rows]

    async def judged(self, *, after: tuple[int, str, str], until_us: int, limit: int) -> list[StoredJudgement]:
        """What a judge was asked after `after` (when, record, scorer) and not after `until_us`, in that order."""
        c = judgements.c
        asked_us, record_id, scorer = after
        later = sa.or_(c.asked_us > asked_us, sa.and_(c.asked_us == asked_us, c.record_id > record_id),
                       sa.and_(c.asked_us == asked_us, c.record_id == record_id, c.scorer > scorer))  # fmt: skip
        query = sa.select(judgements).where(c.asked_us >= asked_us, c.asked_us <= until_us, later)
        async with self._db.read() as connection:
            rows = (await connection.execute(query.order_by(c.asked_us, c.record_id, c.scorer).limit(limit))).all()
        names = ("record_id", "scorer", "asked_us", "score", "reason")
        return [StoredJudgement(**{name: getattr(row, name) for name in names}) for row in rows]


def _facts() -> sa.Select[Any]:
    names = ("id", "duration_us", "status", "outcome", "kind", "request_bytes", "response_bytes")
    return sa.select(*(records.c[name] for name in names))


def _finished(row: Any) -> FinishedRecord:
    outcome = Outcome(row.outcome).with_status(row.status)
    return FinishedRecord(
        id=row.id,
        ended_us=id_time_us(row.id) + row.duration_us,
        failed=outcome.failed or outcome.refused,
        kind=row.kind,
        bytes=row.request_bytes + row.response_bytes,
    )


def _vote(row: Any, *, first: bool) -> StoredVote:
    names = ("fid", "record_id", "conversation", "created_us", "feedback", "retracted", "quality_score", "comment",
             "correction", "whole", "copied")  # fmt: skip
    said = {name: getattr(row, name) for name in names}
    said["comment"] = said["comment"] or None
    return StoredVote(**said, trust=BallotTrust(row.trust), first=first)
