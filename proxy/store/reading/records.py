"""Reading records: one with everything about it, pages of a filtered list, or all of a stretch of time.

A list is walked by key, newest first, and each call looks at a bounded number of rows: a rare match in a large table
takes several pages instead of one slow query. A walk over everything is a series of short reads, a chunk each.
On PostgreSQL both go back some weeks at a time (`partitions.reach_back`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust, can_be_judged
from policies.records import Outcome
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.ingest.facts import VoteSummary
from proxy.store.ingest.words import hidden
from proxy.store.reading.cursor import KeysetCursor
from proxy.store.tables import partitions
from proxy.store.tables.columns import values_of_row
from proxy.store.tables.keys import (
    BLOCK_RECORDS,
    alias_hash,
    id_floor,
    id_time_us,
    is_record_id,
    task_alias_hash,
)
from proxy.store.tables.schema import WENT_WRONG, aliases, feedback, models, records, scores
from proxy.store.tables.values import BodyPayload, Page, RecordFilter, RecordFlag, RecordRow, RecordView, VoteView

__all__ = ["Records", "row_of", "with_model_names"]

_MAX_LIMIT: Final = 1000
_SCANNED_ROWS: Final = 20_000
"""Rows of metadata that one call looks at, where they lie beside each other."""
_SCANNED_SCATTERED: Final = 5_000
"""Where an index finds each of them somewhere else: a user's, the voted, the failed."""
_SCANNED_BODIES: Final = 1_000
"""Bodies that one call of a text search looks at."""
_SCANNED_BLOCKS: Final = 64
"""Blocks of bodies that it unpacks: neighbours share one, but a user's or the failed requests each have their own."""
_BEYOND: Final = "f" * 32


class Records:
    """The records of one database."""

    def __init__(self, db: Database, codec: BodyCodec) -> None:
        self._db = db
        self._codec = codec

    async def get(self, name: str) -> RecordView | None:
        """The record with this id (32 hex digits), or the newest with this alias (provider or client id); a task only
        where no answer has it."""
        async with self._db.read() as connection:
            record_id = name.lower() if is_record_id(name.lower()) else await _by_alias(connection, name)
            if record_id is None:
                return None
            query = with_model_names().where(records.c.id == record_id)
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            return (await _views(connection, self._codec, [row]))[0]

    async def ids_between(self, low: str, high: str, limit: int) -> list[str]:
        """Ids of records from `low` to `high`, both 32 hex digits: at most `limit`, the oldest first."""
        found = records.c.id.between(low, high)
        async with self._db.read() as connection:
            return list(
                await connection.scalars(sa.select(records.c.id).where(found).order_by(records.c.id).limit(limit))
            )

    async def rows_of(self, ids: Sequence[str]) -> dict[str, RecordRow]:
        """The records with these ids as lists show them, with their texts; those that are gone are left out."""
        found: dict[str, RecordRow] = {}
        for start in range(0, len(wanted := sorted(set(ids))), _MAX_LIMIT):
            part = wanted[start : start + _MAX_LIMIT]
            async with self._db.read() as connection:
                mine = any_of(connection, records.c.id, part) & records.c.id.between(part[0], part[-1])
                rows = (await connection.execute(with_model_names().where(mine))).all()
                said = await self._codec.read(connection, {row.id: row.body for row in rows})
            found |= {row.id: row_of(row, said.get(row.id)) for row in rows}
        return found

    async def votes_on(self, ids: Sequence[str]) -> dict[str, list[VoteView]]:
        """The votes on each of some records, oldest first; which of them count is not looked up."""
        found: dict[str, list[VoteView]] = {record_id: [] for record_id in ids}
        if not ids:
            return found
        async with self._db.read() as connection:
            wanted = sa.select(feedback).where(any_of(connection, feedback.c.record_id, sorted(ids)))
            rows = (await connection.execute(wanted.order_by(feedback.c.fid))).all()
        for record_id, on_it in groupby(sorted(rows, key=_of_record), key=_of_record):
            mine = list(on_it)
            silent = hidden(mine)
            found[record_id] = [_vote(row, effective=False, silent=row.fid in silent) for row in mine]
        return found

    async def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        newest_first: bool = False,
        chunk: int = 200,
    ) -> AsyncIterator[RecordView]:
        """Every record between two ids, both exclusive, with bodies, votes and scores, `chunk` of them at a time."""
        query = with_model_names().order_by(records.c.id.desc() if newest_first else records.c.id).limit(chunk)
        stretch = KeysetCursor(after_id, before_id, newest_first)
        while not stretch.done:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(*await stretch.bounds(connection)))).all()
                views = await _views(connection, self._codec, rows)
            for view in views:
                yield view
            stretch.walked(rows, chunk)

    async def claimed_clusters(self, limit: int) -> Counter[int]:
        """Of the newest `limit` records those whose user nobody vouches for, by cluster (0: it cannot be told)."""
        newest = sa.select(records.c.cluster, records.c.flags).order_by(records.c.id.desc()).limit(limit)
        async with self._db.read() as connection:
            rows = (await connection.execute(newest)).all()
        return Counter(row.cluster or 0 for row in rows if row.flags & RecordFlag.CLAIMED)

    async def list(
        self, filter: RecordFilter, *, cursor: str | None = None, limit: int = 50, texts: bool = True
    ) -> Page:
        """Records that match, newest first. `texts` adds query and response text. Looks at a bounded number of rows a
        call (see Page)."""
        limit = max(1, min(limit, _MAX_LIMIT))
        end: str | None = min(cursor or _BEYOND, id_floor(filter.until_us) if filter.until_us is not None else _BEYOND)
        left = _SCANNED_BODIES if filter.text else _SCANNED_SCATTERED if _indexed(filter) else _SCANNED_ROWS
        rows: list[Any] = []
        said: dict[str, BodyPayload] = {}
        while end is not None and left > 0 and len(rows) <= limit:
            async with self._db.read() as connection:
                found, end, left = await _walk(connection, filter, end, left, limit + 1 - len(rows))
                wanted = found if filter.text else found[: limit - len(rows)] if texts else []
                said |= await self._codec.read(connection, {row.id: row.body for row in wanted}, filter.text)
            rows += [row for row in found if row.id in said] if filter.text else found
        shown = rows[:limit]
        return Page(
            rows=tuple(row_of(row, said.get(row.id) if texts else None) for row in shown),
            cursor=shown[-1].id if len(rows) > limit else end,
        )


async def _walk(
    connection: AsyncConnection, filter: RecordFilter, before: str, scanned: int, wanted: int
) -> tuple[Sequence[Any], str | None, int]:
    """Go back in time from the id `before`, over a stretch that PostgreSQL can plan for at once.

    Returns the rows that match, `wanted` of them at most (but all that a search for words has to read); the id to go on
    from, None at the end of the records; and how many more rows this call may look at.
    """
    indexed = _indexed(filter)
    floor = await partitions.reach_back(connection, before)
    since = id_floor(filter.since_us) if filter.since_us is not None else None
    bounds = [records.c.id >= bound for bound in (floor, since) if bound is not None]
    scan = (
        sa.select(records).where(records.c.id < before, *bounds, *indexed).order_by(records.c.id.desc()).limit(scanned)
    )
    part = scan.subquery()
    query = with_model_names(part).where(*_conditions(part, filter)).order_by(part.c.id.desc())
    rows = (await connection.execute(query if filter.text else query.limit(wanted))).all()
    if filter.text and (within := _within_blocks(rows)) < len(rows):
        return rows[:within], rows[within - 1].id, 0
    if not filter.text and len(rows) == wanted:
        return rows, rows[-1].id, 0
    if (last := await _last(connection, scan, scanned)) is not None:
        return rows, last, 0
    if floor is None or (since is not None and floor <= since):
        return rows, None, 0
    seen = await connection.scalar(sa.select(sa.func.count()).select_from(part))
    return rows, floor, 0 if filter.text and rows else scanned - int(seen or 0)


async def _views(connection: AsyncConnection, codec: BodyCodec, rows: Sequence[Any]) -> list[RecordView]:
    """What hangs on these neighbouring records: a range of ids finds their votes and scores."""
    if not rows:
        return []
    ends = sorted((rows[0].id, rows[-1].id))
    found = await codec.read(connection, {row.id: row.body for row in rows})
    votes: defaultdict[str, list[Any]] = defaultdict(list)
    for vote in await connection.execute(sa.select(feedback).where(feedback.c.record_id.between(*ends))):
        votes[vote.record_id].append(vote)
    judged: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for score in await connection.execute(sa.select(scores).where(scores.c.record_id.between(*ends))):
        judged[score.record_id][score.scorer] = score.score
    views = []
    for row in rows:
        body, kept = found.get(row.id), judged[row.id]
        if row.quality is not None and row.quality_source is not None:
            kept[row.quality_source] = row.quality
        views.append(RecordView(row=row_of(row, body), body=body, votes=_votes(row, votes[row.id]), scores=kept))
    return views


async def _by_alias(connection: AsyncConnection, alias: str) -> str | None:
    for hashed in (alias_hash(alias), task_alias_hash(alias)):
        query = sa.select(aliases.c.id).where(aliases.c.hash == hashed).order_by(aliases.c.id.desc()).limit(1)
        found: str | None = (await connection.scalars(query)).first()
        if found is not None:
            return found
    return None


def _within_blocks(rows: Sequence[Any]) -> int:
    """How many of the rows, from the first on, have their bodies in as many blocks as one call unpacks."""
    blocks: set[int] = set()
    for position, row in enumerate(rows):
        if row.body is not None:
            blocks.add(row.body // BLOCK_RECORDS)
        if len(blocks) > _SCANNED_BLOCKS:
            return position
    return len(rows)


async def _last(connection: AsyncConnection, scan: sa.Select[Any], scanned: int) -> str | None:
    """The last id that a full scan saw; None when there were fewer rows."""
    last = scan.with_only_columns(records.c.id).limit(1).offset(scanned - 1)
    return (await connection.scalars(last)).first()


def with_model_names(source: sa.FromClause = records) -> sa.Select[Any]:
    """Rows of records, or of a part of them, each with the name of the model that answered."""
    name = models.c.name.label("model_name")
    return sa.select(source, name).join_from(source, models, models.c.id == source.c.model_id, isouter=True)


def _indexed(filter: RecordFilter) -> list[sa.ColumnElement[bool]]:
    """A condition that an index answers, so that the scan's bound is spent on rows that count."""
    if filter.conversation is not None:
        return [records.c.conversation == filter.conversation]
    if filter.user_hash is not None:
        return [records.c.user_hash == filter.user_hash]
    if filter.voted or filter.min_feedback is not None or filter.max_feedback is not None:
        return [records.c.feedback.is_not(None)]
    if (filter.status or 0) >= 400 or filter.status in (4, 5) or filter.outcome not in (None, Outcome.OK):
        return [WENT_WRONG]
    return []


def _conditions(part: sa.Subquery, filter: RecordFilter) -> list[sa.ColumnElement[bool]]:
    c = part.c
    exact = {
        "user_hash": filter.user_hash,
        "arm": filter.arm,
        "model_id": filter.model_id,
        "experiment_id": filter.experiment_id,
        "outcome": filter.outcome,
        "kind": filter.kind,
        **filter.equal,
    }
    where: list[sa.ColumnElement[bool]] = [c[name] == value for name, value in exact.items() if value is not None]
    if filter.tag is not None:
        name, value = filter.tag
        where.append(sa.or_(c.tags[name].as_string() == value, _given(c.id, name, value)))
    if filter.status is not None:
        low, high = (
            (filter.status, filter.status) if filter.status >= 100 else (filter.status * 100, filter.status * 100 + 99)
        )
        where.append(c.status.between(low, high))
    if filter.voted is not None:
        where.append(c.feedback.is_not(None) if filter.voted else c.feedback.is_(None))
    for column, low_value, high_value in (
        (c.quality, filter.min_quality, filter.max_quality),
        (c.feedback, filter.min_feedback, filter.max_feedback),
    ):
        if low_value is not None:
            where.append(column >= low_value)
        if high_value is not None:
            where.append(column <= high_value)
    if filter.other_than is not None:
        where.append(c.kind != filter.other_than)
    return where


def _given(record: sa.ColumnElement[str], name: str, value: str) -> sa.ColumnElement[bool]:
    """Whether somebody's latest vote on the record that has a tag of this name gives it this value."""
    vote, later = feedback.alias(), feedback.alias()
    superseded = sa.exists().where(
        later.c.record_id == vote.c.record_id,
        later.c.source == vote.c.source,
        later.c.fid > vote.c.fid,
        later.c.tags[name].as_string().is_not(None),
    )
    mine = vote.c.record_id == record, vote.c.tags[name].as_string() == value
    return sa.exists().where(*mine, ~superseded)


def _votes(record: Any, rows: Sequence[Any]) -> tuple[VoteView, ...]:
    judged = can_be_judged(Outcome(record.outcome), record.status)
    effective = VoteSummary.of(rows).fids if judged else frozenset()
    silent = hidden(rows)
    return tuple(
        _vote(row, row.fid in effective, row.fid in silent) for row in sorted(rows, key=lambda row: str(row.fid))
    )


def _of_record(row: Any) -> str:
    return str(row.record_id)


def _vote(row: Any, effective: bool, silent: bool) -> VoteView:
    return VoteView(
        fid=row.fid,
        source=row.source,
        feedback=row.feedback,
        retracted=row.retracted,
        comment=None if silent else row.comment or None,
        correction=row.correction,
        quality_score=row.quality_score,
        tags=row.tags or {},
        created_us=row.created_us,
        effective=effective,
        trust=BallotTrust(row.trust),
        whole=row.whole,
        copied=row.copied,
        external=row.external,
        amends=row.amends,
    )


def row_of(row: Any, body: BodyPayload | None) -> RecordRow:
    """A row of `with_model_names` as lists show it; `body`: what was said, where that is wanted."""
    values = values_of_row(row) | {
        "created_us": id_time_us(row.id),
        "query": body.query if body else None,
        "response_text": body.response_text if body else None,
    }
    return RecordRow(**values)
