"""What every user was served in a stretch of time, as counts and sums: the past that an experiment is adjusted by.

The database adds up scores and latencies (`measured`); what people said of an answer is read vote by vote (`said`), as
it stood at an instant: a vote that came later is no part of the past. Both go some hours at a time, in chunks that
whoever asks adds up, so that a long history takes no memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from policies.kinds import TASK
from policies.past import PastTotals
from policies.records import Outcome
from proxy.store.engine.database import Database
from proxy.store.ingest.facts import RecordFacts, VoteSummary
from proxy.store.ingest.past import totals_of_past
from proxy.store.ingest.recounts import BY_PEOPLE, FACTS, facts_of_row, own_scores, preferred, scores_of, votes_on
from proxy.store.tables.keys import HOUR_US, id_floor
from proxy.store.tables.schema import PAST_TOTALS, records
from proxy.store.tables.values import RecordFlag

__all__ = ["UNIT", "Stretch", "measured", "pasts", "said"]

_WINDOW_US: Final = 3 * HOUR_US
_CHUNK: Final = 200
"""Records with votes are worked on one by one."""
_CLAIMED: Final = records.c.flags.op("&")(int(RecordFlag.CLAIMED)) != 0
UNIT: Final = sa.case((_CLAIMED, sa.func.coalesce(records.c.cluster, 0)), else_=records.c.user_hash)
"""Whose evidence a record is; NULL where no user was named, who has no past."""
_ANSWERED: Final = sa.and_(
    records.c.outcome == int(Outcome.OK), records.c.status.between(200, 399), records.c.duration_us > 0
)
_SCORED: Final = sa.and_(records.c.quality.is_not(None), records.c.quality_source.is_distinct_from(BY_PEOPLE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Which records, and whose."""

    since_us: int
    until_us: int
    """Votes count that were given up to then."""
    one_in: int = 1
    """Of so many units one is looked at."""
    of: sa.ColumnElement[bool] | None = None
    """Only these records; None: all."""

    def windows(self) -> Iterator[tuple[str, str]]:
        """Ids between which its records are, some hours of them: from the first on, and before the second."""
        for start in range(self.since_us, self.until_us, _WINDOW_US):
            yield id_floor(start), id_floor(min(start + _WINDOW_US, self.until_us))

    def records(self, window: tuple[str, str]) -> list[sa.ColumnElement[bool]]:
        """What makes a record one of them."""
        mine = [records.c.id >= window[0], records.c.id < window[1], records.c.kind != TASK.name, UNIT.is_not(None)]
        if self.one_in > 1:
            mine.append(UNIT % self.one_in == 0)
        return mine if self.of is None else [*mine, self.of]


def measured(stretch: Stretch, window: tuple[str, str]) -> sa.Select[Any]:
    """Scores that no person gave, and latencies, by unit: with the names of the columns of `user_past`."""
    one, nothing = sa.literal_column("1.0", sa.Double), sa.literal_column("0.0", sa.Double)
    sums: dict[str, sa.ColumnElement[Any]] = {
        "n_quality": sa.case((_SCORED, one), else_=nothing),
        "s_quality": sa.case((_SCORED, records.c.quality), else_=nothing),
        "n_positive": nothing,
        "s_positive": nothing,
        "n_latency": sa.case((_ANSWERED, one), else_=nothing),
        "s_latency": sa.case((_ANSWERED, records.c.duration_us / sa.literal_column("1e6")), else_=nothing),
    }
    columns = [sa.cast(sa.func.sum(sums[name]), sa.Double).label(name) for name in PAST_TOTALS]
    return sa.select(UNIT.label("user_key"), *columns).where(*stretch.records(window)).group_by(UNIT)


async def said(db: Database, stretch: Stretch, window: tuple[str, str]) -> AsyncGenerator[Mapping[int, PastTotals]]:
    """Votes, and scores of records that people have scored."""
    judged = sa.or_(records.c.feedback.is_not(None), records.c.quality_source == BY_PEOPLE)
    page = sa.select(*FACTS).where(judged, *stretch.records(window)).order_by(records.c.id).limit(_CHUNK)
    before, rows = id_floor(stretch.until_us), None
    while rows is None or len(rows) == _CHUNK:
        async with db.read() as connection:
            rows = (await connection.execute(page if not rows else page.where(records.c.id > rows[-1].id))).all()
            ids = [row.id for row in rows]
            votes = await votes_on(connection, ids)
            kept = await scores_of(connection, ids)
        found: defaultdict[int, PastTotals] = defaultdict(PastTotals)
        for row in rows:
            record = facts_of_row(row)
            given = [vote for vote in votes[row.id] if vote.joined and vote.fid < before]
            found[record.unit] = found[record.unit].plus(_totals(record, VoteSummary.on(record, given), kept[row.id]))
        if found:
            yield found


async def pasts(db: Database, stretch: Stretch) -> AsyncGenerator[tuple[int, PastTotals]]:
    """All of it, unit by unit; one may come many times, and its totals add up."""
    for window in stretch.windows():
        async with db.read() as connection:
            rows = (await connection.execute(measured(stretch, window))).all()
        for row in rows:
            yield row.user_key, totals_of_past(row)
        async for chunk in said(db, stretch, window):
            for unit, totals in chunk.items():
                yield unit, totals


def _totals(record: RecordFacts, votes: VoteSummary, kept: list[Any]) -> PastTotals:
    """What people had said of a record; its score where that is theirs now, else the database has added it up."""
    quality: float | None = None
    if record.quality_source == BY_PEOPLE:
        quality = preferred(own_scores(record, kept))[1] if votes.score is None else votes.score
    n = (float(quality is not None), float(votes.positive + votes.negative), 0.0)
    return PastTotals(n=n, s=(quality or 0.0, float(votes.positive), 0.0))
