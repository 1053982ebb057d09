"""What a record counts as: by which of its scores, and by the votes on it.

All of it follows from the rows of `feedback` and `scores`: whoever reads them again, a replay or a look into the past,
finds the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.records import Arm, Outcome
from proxy.store.engine.dialect import any_of, for_update, upsert
from proxy.store.engine.kept import KeptStatement
from proxy.store.ingest.facts import RecordFacts, Recount, VoteSummary
from proxy.store.tables.schema import feedback, records, scores
from proxy.store.tables.values import RecordFlag

__all__ = ["BY_PEOPLE", "FACTS", "facts_of_row", "lock_records", "own_scores", "preferred", "recount", "scores_of",
           "votes_on", "write_recounts"]  # fmt: skip

BY_PEOPLE: Final = "feedback"
"""Scorer of the mean of the scores that people gave; it wins over all others."""
_PREFERENCE: Final = (BY_PEOPLE, "pointer", "judge")
"""Which score counts, best first; any other scorer comes after these."""
FACTS: Final = tuple(records.c[name] for name in RecordFacts._fields)
_VOTES_ON: Final = KeptStatement(lambda given: sa.select(feedback).where(given.among("ids", feedback.c.record_id)))
_SCORES_OF: Final = KeptStatement(lambda given: sa.select(scores).where(given.among("ids", scores.c.record_id)))
_COUNTED: Final = KeptStatement(
    lambda given: (
        sa.update(records)
        .where(records.c.id == given.value("key", records.c.id))
        .values(
            {name: given.value(f"new_{name}", records.c[name]) for name in ("feedback", "quality", "quality_source")}
        )
    )
)


def recount(record: RecordFacts, votes: Sequence[Any], kept: Sequence[Any]) -> Recount:
    """What a record counts as by all of its votes and scores, rows of `feedback` and of `scores`, beside what it did by
    those of the votes that are joined."""
    after = VoteSummary.on(record, votes)
    known = own_scores(record, kept)
    if after.score is not None:
        known[BY_PEOPLE] = after.score
    source, quality = preferred(known)
    return Recount(
        record=record,
        before=VoteSummary.on(record, (row for row in votes if row.joined)),
        after=after,
        scores=known,
        quality=quality,
        quality_source=source,
    )


def own_scores(record: RecordFacts, kept: Sequence[Any]) -> dict[str, float]:
    """The record's scores by scorer, but for what people gave; `kept` are its rows of `scores`."""
    known = {row.scorer: row.score for row in kept}
    if record.quality is not None and record.quality_source is not None:
        known[record.quality_source] = record.quality
    known.pop(BY_PEOPLE, None)
    return known


def preferred(known: Mapping[str, float]) -> tuple[str | None, float | None]:
    """Whose score counts, and the score."""
    source = min(known, key=_rank, default=None)
    return source, None if source is None else known[source]


def _rank(scorer: str) -> tuple[int, str]:
    return (_PREFERENCE.index(scorer) if scorer in _PREFERENCE else len(_PREFERENCE), scorer)


async def write_recounts(connection: AsyncConnection, recounts: Sequence[Recount]) -> None:
    """Have the records say so."""
    rows = [
        {
            "key": change.record.id,
            "new_feedback": change.after.mean,
            "new_quality": change.quality,
            "new_quality_source": change.quality_source,
        }
        for change in recounts
    ]
    await _COUNTED.change_all(connection, rows)
    several = [change for change in recounts if len(change.scores) > 1]
    given = [
        {"record_id": change.record.id, "scorer": scorer, "score": score}
        for change in several
        for scorer, score in change.scores.items()
    ]
    await upsert(connection, scores, given)
    withdrawn = [c.record.id for c in recounts if c.before.score is not None and c.after.score is None]
    if withdrawn:
        await connection.execute(
            sa.delete(scores).where(scores.c.record_id.in_(withdrawn), scores.c.scorer == BY_PEOPLE)
        )


async def votes_on(connection: AsyncConnection, ids: Sequence[str]) -> defaultdict[str, list[Any]]:
    """Rows of `feedback` by the record that they are on."""
    return await _grouped(connection, _VOTES_ON, ids)


async def scores_of(connection: AsyncConnection, ids: Sequence[str]) -> defaultdict[str, list[Any]]:
    """Rows of `scores` by record."""
    return await _grouped(connection, _SCORES_OF, ids)


async def _grouped(
    connection: AsyncConnection, statement: KeptStatement, ids: Sequence[str]
) -> defaultdict[str, list[Any]]:
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await statement.named(connection, ids=ids) if ids else ():
        groups[row.record_id].append(row)
    return groups


async def lock_records(connection: AsyncConnection, ids: list[str]) -> dict[str, RecordFacts]:
    """Those of the records, given in order, that exist; locked until the end of the transaction."""
    if not ids:
        return {}
    query = (
        sa.select(*FACTS)
        .where(any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1]))
        .order_by(records.c.id)
    )
    rows = await connection.execute(for_update(connection, query))
    return {row.id: facts_of_row(row) for row in rows}


def facts_of_row(row: Any) -> RecordFacts:
    """From a row of `records` with at least the columns FACTS."""
    values = {column.name: getattr(row, column.name) for column in FACTS}
    outcome = Outcome(row.outcome).with_status(row.status)
    return RecordFacts(**values | {"arm": Arm(row.arm), "outcome": outcome, "flags": RecordFlag(row.flags)})
