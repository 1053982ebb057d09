"""Forgetting by age and by size, bodies before the rest, oldest first.

PostgreSQL drops whole days. SQLite deletes a thousand rows a transaction, in key order, so that ingest gets its turn
in between, and then gives freed pages back to the file system a few at a time. Nothing here ever runs long.

Where there is an archive, only whole days go, from the oldest on, and none before the archive has it and the day after
it: blocks of bodies that an earlier version wrote may begin before midnight and end behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.clock import Clock
from proxy.config.storage import RetentionConfig
from proxy.store.engine.database import Database
from proxy.store.reading.days import Days
from proxy.store.reading.traffic import MINUTES_KEPT_S
from proxy.store.tables import partitions
from proxy.store.tables.keys import block_floor, day_of, id_floor, id_of_block, id_time_us
from proxy.store.tables.partitions import DAY_S
from proxy.store.tables.schema import (
    HOUR_S,
    MINUTE_S,
    TEN_MINUTES_S,
    aliases,
    bodies,
    claimed_users,
    comparisons,
    conversation_votes,
    deleted_users,
    durations,
    experiments,
    feedback,
    judgements,
    preferences,
    quality_hours,
    records,
    scores,
    tag_users,
    traffic,
    user_past,
    user_stats,
    vote_names,
)
from proxy.store.tables.values import Pruned

__all__ = ["ALIAS_SLICES", "Archived", "Retention", "alias_slices"]

Archived = Callable[[int], Awaitable[bool]]
"""Whether the archive has all that the store has of a day (counted from the Unix epoch)."""

_CHUNK: Final = 1000
_CHUNK_BLOCKS: Final = 32
_WAITING_DAYS: Final = 90.0
"""Votes without a record, and the names of deleted users, are kept as long as a spool could still bring records in."""
_SPARE_PAGES: Final = 0.1
"""Share of free pages that the file may keep for new rows."""
_VACUUM_PAGES: Final = 500
ALIAS_SLICES: Final = 64
_PARTS: Final = 20
"""By how much SQLite shrinks at a time."""


@dataclass(slots=True)
class _Tally:
    bodies: int = 0
    records: int = 0
    votes: int = 0
    reason: Literal["age", "size", "nothing"] = "nothing"


class Retention:
    """What goes by itself: by age, and by the size of the database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def prune(self, config: RetentionConfig, archived: Archived | None = None) -> Pruned:
        """One pass in small transactions (SQLite) or by dropping days (PostgreSQL). Safe to stop anywhere: the next one
        goes on.

        `archived`, where given, is asked before a day goes: what the archive does not have is kept, whatever its age
        and the size of the database.
        """
        db, now = self._db, self._clock.now()
        tally = _Tally()
        if config.bodies_days > 0:
            before = await _droppable(db, bodies, _days_ago(now, config.bodies_days), archived)
            await _drop_bodies(db, before, tally)
            await _drop_comparisons(db, int((now - config.bodies_days * DAY_S) * 1e6))
        if config.records_days > 0:
            before = await _droppable(db, records, _days_ago(now, config.records_days), archived)
            await _drop_records(db, before, tally)
            await _drop_sums(db, int(now - config.records_days * DAY_S))
            await _drop_user_stats(db, int((now - config.records_days * DAY_S) * 1e6))
        await _drop_leftovers(db, now)
        if tally.bodies or tally.records:
            tally.reason = "age"
        if config.max_bytes > 0:
            await _shrink(db, config.max_bytes, now, tally, archived)
        await _give_back(db)
        await partitions.create_ahead(db)
        return Pruned(bodies=tally.bodies, records=tally.records, votes=tally.votes, reason=tally.reason)


def alias_slices() -> Iterable[sa.ColumnElement[bool]]:
    """Conditions that cut `aliases`, whose key is a hash, into parts that are each quick to walk."""
    width = 2**64 // ALIAS_SLICES
    for start in range(-(2**63), 2**63, width):
        yield aliases.c.hash.between(start, start + width - 1)


def _days_ago(now: float, days: float) -> str:
    return id_floor(int((now - days * DAY_S) * 1e6))


async def _droppable(db: Database, table: sa.Table, before: str, archived: Archived | None) -> str:
    """`before`, or the start of an earlier day where the archive does not have everything up to there."""
    if archived is None:
        return before
    days = Days(db)
    day = await _oldest_day(db, table)
    while day is not None and day <= day_of(before):
        if not await archived(day):
            return min(before, _day_start(day - 1))
        day = await days.next(day + 1)
    return _day_start(day_of(before))


async def _oldest_day(db: Database, table: sa.Table) -> int | None:
    """The day of the first row."""
    key = bodies.c.block if table is bodies else records.c.id
    async with db.read() as connection:
        first = (await connection.scalars(sa.select(key).order_by(key).limit(1))).first()
    if first is None:
        return None
    return day_of(id_of_block(first) if table is bodies else first)


async def _drop_bodies(db: Database, before: str, tally: _Tally) -> None:
    if db.dialect == "postgresql":
        tally.bodies += await _drop_days(db, "bodies", before)
        return
    old = bodies.c.block < block_floor(before)
    while True:
        oldest = sa.select(bodies.c.block).where(old).order_by(bodies.c.block).limit(_CHUNK_BLOCKS)
        async with db.write() as connection:
            gone = await connection.execute(sa.delete(bodies).where(bodies.c.block.in_(oldest)).returning(bodies.c.n))
            counts = list(gone.scalars())
        if not counts:
            return
        tally.bodies += sum(counts)


async def _drop_comparisons(db: Database, before_us: int) -> None:
    """What checks have compared has bodies of its own, and goes with the others; so does what people said of it."""
    old = comparisons.c.created_us < before_us
    oldest = sa.select(comparisons.c.created_us).where(old).order_by(comparisons.c.created_us).limit(1)
    while True:
        async with db.write() as connection:
            last = (await connection.scalars(oldest.offset(_CHUNK - 1))).first()
            upto = old if last is None else comparisons.c.created_us <= last
            if (await connection.execute(sa.delete(comparisons).where(upto))).rowcount == 0 or last is None:
                break
    await _drop_preferences(db)


async def _drop_preferences(db: Database) -> None:
    """Choices between answers that are gone: nobody can learn from them. They are few, for people make them."""
    there = sa.select(sa.literal(1)).where(
        comparisons.c.check_id == preferences.c.check_id, comparisons.c.item == preferences.c.item
    )
    async with db.write() as connection:
        await connection.execute(sa.delete(preferences).where(~there.exists()))


async def _drop_records(db: Database, before: str, tally: _Tally) -> None:
    """Records and all that hangs on them."""
    if db.dialect == "postgresql":
        await _drop_bodies(db, before, tally)
        tally.records += await _drop_days(db, "records", before)
        await _drop_days(db, "aliases", before)
        async with db.read() as connection:
            days = await partitions.existing(connection, "records")
        before = _day_start(days[0]) if days else before  # the day of `before` is still there
    else:
        await _drop_bodies(db, before, tally)
        while dropped := await _drop_oldest(db, records.c.id, before):
            tally.records += dropped
        for part in alias_slices():
            async with db.write() as connection:
                await connection.execute(sa.delete(aliases).where(part, aliases.c.id < before))
    while dropped := await _drop_oldest(db, feedback.c.record_id, before):
        tally.votes += dropped
    for key in (scores.c.record_id, judgements.c.record_id):
        while await _drop_oldest(db, key, before):
            pass


async def _drop_oldest(db: Database, key: sa.Column[str], before: str) -> int:
    """Delete some rows, those with the smallest keys below `before`; returns how many."""
    async with db.write() as connection:
        oldest = sa.select(key).where(key < before).order_by(key).limit(1).offset(_CHUNK - 1)
        last = (await connection.scalars(oldest)).first()
        upto = key <= last if last is not None else key < before
        return int((await connection.execute(sa.delete(key.table).where(upto))).rowcount)


async def _drop_days(db: Database, table: str, before: str) -> int:
    """Drop whole days that end before the id; returns how many rows, or bodies, that were."""
    async with db.read() as connection:
        old = [day for day in await partitions.existing(connection, table) if day < day_of(before)]
    dropped = 0
    for day in old:
        db.known_days.discard(day)  # first: where this is cancelled, the day may be gone all the same
        async with db.write() as connection:
            dropped += await partitions.drop(connection, table, day)
    return dropped


async def _drop_sums(db: Database, before_s: int) -> None:
    async with db.write() as connection:
        for table in (traffic, durations):
            await connection.execute(sa.delete(table).where(table.c.step_s == HOUR_S, table.c.at_s < before_s - HOUR_S))
        await connection.execute(sa.delete(quality_hours).where(quality_hours.c.at_s < before_s - HOUR_S))


async def _drop_user_stats(db: Database, before_us: int) -> None:
    """Of experiments that ended long ago; their arms' sums stay."""
    ended = sa.select(experiments.c.id).where(experiments.c.ended_us < before_us)
    async with db.read() as connection:
        ids = list(await connection.scalars(ended))
    for experiment_id in ids:
        async with db.write() as connection:
            placed = conversation_votes.c.experiment_id == experiment_id
            await connection.execute(sa.delete(conversation_votes).where(placed))
        for table in (user_stats, user_past, claimed_users, tag_users):
            mine = table.c.experiment_id == experiment_id
            keys = sa.select(table.c.user_key).where(mine).limit(_CHUNK)
            while True:
                async with db.write() as connection:
                    done = await connection.execute(sa.delete(table).where(mine, table.c.user_key.in_(keys)))
                if done.rowcount == 0:
                    break


async def _drop_leftovers(db: Database, now: float) -> None:
    """Minutes, and tens of them, older than two days; votes that never found a record; users deleted long ago."""
    minutes_end = int(now - MINUTES_KEPT_S)
    for table, step_s in ((traffic, MINUTE_S), (durations, MINUTE_S), (durations, TEN_MINUTES_S)):
        oldest = sa.select(sa.func.min(table.c.at_s)).where(table.c.step_s == step_s)
        while True:
            async with db.read() as connection:
                start = await connection.scalar(oldest)
            if start is None or start >= minutes_end:
                break
            end = min(start + HOUR_S, minutes_end)
            async with db.write() as connection:
                await connection.execute(sa.delete(table).where(table.c.step_s == step_s, table.c.at_s < end))
    waited = int((now - _WAITING_DAYS * DAY_S) * 1e6)
    async with db.write() as connection:
        parked = sa.and_(feedback.c.joined.is_(sa.false()), feedback.c.fid < id_floor(waited))
        await connection.execute(sa.delete(feedback).where(parked))
        unplaced = sa.and_(conversation_votes.c.experiment_id.is_(None), conversation_votes.c.fid < id_floor(waited))
        await connection.execute(sa.delete(conversation_votes).where(unplaced))
        named = sa.and_(feedback.c.user_hash.is_not(None), feedback.c.fid < id_floor(waited))
        await connection.execute(sa.delete(feedback).where(named))
        await connection.execute(sa.delete(deleted_users).where(deleted_users.c.at_us < waited))
        await connection.execute(sa.delete(vote_names).where(vote_names.c.created_us < waited))


async def _shrink(db: Database, max_bytes: int, now: float, tally: _Tally, archived: Archived | None) -> None:
    """Drop the oldest bodies, then the oldest records, until the database fits. PostgreSQL keeps today's."""
    for table, drop in ((bodies, _drop_bodies), (records, _drop_records)):
        while await _used(db) > max_bytes:
            before = await _after_oldest(db, table, now)
            if before is not None and archived is not None:
                before = await _next_archived(db, table, now, archived)
            if before is None:
                break
            await drop(db, before, tally)
            if table is bodies:
                await _drop_comparisons(db, id_time_us(before))
            tally.reason = "size"


async def _next_archived(db: Database, table: sa.Table, now: float, archived: Archived) -> str | None:
    """The end of the oldest day of `table`; None where that may not go."""
    day = await _oldest_day(db, table)
    if day is None or day >= int(now) // DAY_S:
        return None
    end = _day_start(day + 1)
    return end if await _droppable(db, table, end, archived) == end else None


async def _after_oldest(db: Database, table: sa.Table, now: float) -> str | None:
    """The end of the oldest part of `table`: a day on PostgreSQL, a twentieth on SQLite; None when nothing may go."""
    async with db.read() as connection:
        if db.dialect == "postgresql":
            days = await partitions.existing(connection, table.name)
            return _day_start(days[0] + 1) if days and days[0] < int(now) // DAY_S else None
        start, end = (await connection.execute(sa.select(sa.func.min(records.c.id), sa.func.max(records.c.id)))).one()
        if table is bodies:
            query = sa.select(sa.func.min(bodies.c.block))
            oldest = await connection.scalar(query)
            start = id_of_block(oldest) if oldest is not None else None
    if start is None or end is None:
        return None
    first, last = id_time_us(start), max(id_time_us(start), id_time_us(end))
    return id_floor(first + (last - first) // _PARTS + 1000)


def _day_start(day: int) -> str:
    return id_floor(day * DAY_S * 1_000_000)


async def _used(db: Database) -> int:
    async with db.read() as connection:
        if db.dialect == "postgresql":
            return int(await connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
        pages, free, size = [await _pragma(connection, name) for name in ("page_count", "freelist_count", "page_size")]
    return (pages - free) * size


async def _give_back(db: Database) -> None:
    """Return free pages of a SQLite file beyond the share that it may keep."""
    if db.dialect != "sqlite":
        return
    while True:
        async with db.outside_transaction() as connection:
            pages, free = [await _pragma(connection, name) for name in ("page_count", "freelist_count")]
            if free <= max(_VACUUM_PAGES / 10, pages * _SPARE_PAGES):
                return
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await raw.execute_fetchall(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")


async def _pragma(connection: AsyncConnection, name: str) -> int:
    value: Any = await connection.scalar(sa.text(f"PRAGMA {name}"))
    return int(value)
