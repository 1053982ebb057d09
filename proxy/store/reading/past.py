"""What every user was served in a stretch of time, as counts and sums: the past that an experiment is adjusted by.

The database adds up scores and latencies, some hours at a time; what people said of an answer is read vote by vote, as
it stood at an instant: a vote that came later is no part of the past. Both come in chunks that the reader adds up, so
that a long history takes no memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.kinds import TASK
from policies.past import PastTotals
from policies.records import Outcome
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of
from proxy.store.ingest.facts import RecordFacts, VoteSummary
from proxy.store.ingest.votes import BY_PEOPLE, FACTS, facts_of_row, grouped, own_scores, preferred
from proxy.store.tables.keys import HOUR_US, id_floor
from proxy.store.tables.schema import feedback, records, scores
from proxy.store.tables.values import RecordFlag

__all__ = ["pasts"]

_WINDOW_US: Final = 6 * HOUR_US
_CHUNK: Final = 500
_VOTED_CHUNK: Final = 200
"""Records with votes are worked on one by one."""
_CLAIMED: Final = records.c.flags.op("&")(int(RecordFlag.CLAIMED)) != 0
_UNIT: Final = sa.case((_CLAIMED, sa.func.coalesce(records.c.cluster, 0)), else_=records.c.user_hash)
"""Whose evidence a record is; NULL where no user was named, who has no past."""
_ANSWERED: Final = sa.and_(
    records.c.outcome == int(Outcome.OK), records.c.status.between(200, 399), records.c.duration_us > 0
)
_SCORED: Final = sa.and_(records.c.quality.is_not(None), records.c.quality_source.is_distinct_from(BY_PEOPLE))
_OF_NOBODY: Final = PastTotals()


async def pasts(
    db: Database, since_us: int, until_us: int, *, one_in: int = 1, of: sa.ColumnElement[bool] | None = None
) -> AsyncGenerator[Mapping[int, PastTotals]]:
    """Totals by unit of evidence, of what was served from `since_us` up to `until_us` (Unix microseconds) and of the
    votes given up to then; a unit may come many times, and its totals add up. `one_in`: of so many units one is read.
    `of`: only these records."""
    for start in range(since_us, until_us, _WINDOW_US):
        bounds = id_floor(start), id_floor(min(start + _WINDOW_US, until_us))
        mine = [records.c.kind != TASK.name, _UNIT.is_not(None), *([] if of is None else [of])]
        if one_in > 1:
            mine.append(_UNIT % one_in == 0)
        async for chunk in _measured(db, bounds, mine):
            yield chunk
        async for chunk in _said(db, bounds, mine, id_floor(until_us)):
            yield chunk


async def _measured(
    db: Database, bounds: tuple[str, str], mine: list[sa.ColumnElement[bool]]
) -> AsyncGenerator[Mapping[int, PastTotals]]:
    """Scores that no person gave, and latencies, added up by the database."""
    query = (
        sa.select(
            _UNIT.label("unit"),
            sa.func.sum(sa.case((_SCORED, 1), else_=0)).label("scored"),
            sa.func.sum(sa.case((_SCORED, records.c.quality), else_=0.0)).label("quality"),
            sa.func.sum(sa.case((_ANSWERED, 1), else_=0)).label("answered"),
            sa.func.sum(sa.case((_ANSWERED, records.c.duration_us), else_=0)).label("duration_us"),
        )
        .where(records.c.id >= bounds[0], records.c.id < bounds[1], *mine)
        .group_by(_UNIT)
    )
    async with db.read() as connection:
        rows = (await connection.execute(query)).all()
    for start in range(0, len(rows), _CHUNK):
        yield {
            row.unit: PastTotals(
                n=(float(row.scored), 0.0, float(row.answered)),
                s=(float(row.quality), 0.0, float(row.duration_us) / 1e6),
            )
            for row in rows[start : start + _CHUNK]
            if row.scored or row.answered
        }


async def _said(
    db: Database, bounds: tuple[str, str], mine: list[sa.ColumnElement[bool]], before_fid: str
) -> AsyncGenerator[Mapping[int, PastTotals]]:
    """Votes, and scores of records that people have scored."""
    after, end = bounds
    first = sa.select(feedback.c.record_id).where(feedback.c.joined.is_(sa.true()), feedback.c.record_id < end)
    page = first.distinct().order_by(feedback.c.record_id).limit(_VOTED_CHUNK)
    more, inclusive = True, True
    while more:
        async with db.read() as connection:
            later = feedback.c.record_id >= after if inclusive else feedback.c.record_id > after
            ids = list(await connection.scalars(page.where(later)))
            yield await _of_voted(connection, ids, mine, before_fid)
        more, inclusive = len(ids) == _VOTED_CHUNK, False
        after = ids[-1] if ids else after


async def _of_voted(
    connection: AsyncConnection, ids: list[str], mine: list[sa.ColumnElement[bool]], before_fid: str
) -> Mapping[int, PastTotals]:
    found: defaultdict[int, PastTotals] = defaultdict(lambda: _OF_NOBODY)
    if not ids:
        return found
    query = sa.select(*FACTS).where(any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1]), *mine)
    rows = (await connection.execute(query)).all()
    known = [row.id for row in rows]
    votes = await grouped(connection, feedback, feedback.c.record_id, known)
    kept = await grouped(connection, scores, scores.c.record_id, known)
    for row in rows:
        record = facts_of_row(row)
        given = [vote for vote in votes[row.id] if vote.joined and vote.fid < before_fid]
        found[record.unit] = found[record.unit].plus(_totals(record, VoteSummary.on(record, given), kept[row.id]))
    return found


def _totals(record: RecordFacts, votes: VoteSummary, kept: list[Any]) -> PastTotals:
    """What people had said of a record; its score where that is theirs now, else the database has added it up."""
    quality: float | None = None
    if record.quality_source == BY_PEOPLE:
        quality = preferred(own_scores(record, kept))[1] if votes.score is None else votes.score
    n = (float(quality is not None), float(votes.positive + votes.negative), 0.0)
    return PastTotals(n=n, s=(quality or 0.0, float(votes.positive), 0.0))
