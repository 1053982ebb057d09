"""PostgreSQL's days: one partition of `records`, `bodies` and `aliases` per UTC day of the id.

Created ahead, attached (which blocks nobody) and dropped whole. On SQLite there is nothing to do.

A query plans for, and locks, every day that its bounds do not rule out, with all indices: a year of them is 1,800
locks, and a few such queries at once are more than PostgreSQL has by default. So whoever walks back in time goes some
weeks at a time (`reach_back`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.database import Database
from proxy.store.tables.keys import block_floor, day_of, id_floor
from proxy.store.tables.schema import PARTITIONED

__all__ = ["DAYS_AT_ONCE", "DAY_S", "block_bound", "create", "create_ahead", "drop", "ensure", "existing", "id_bound",
           "reach_back"]  # fmt: skip

DAY_S: Final = 86_400
DAYS_AT_ONCE: Final = 40
"""Days of `records` that one query walks over."""
_AHEAD: Final = 3
_LOCK: Final = 0x72617463_68657402
_LAST_DAY: Final = 2_932_896
"""31 December 9999, the last that has a name."""


async def create_ahead(database: Database) -> None:
    """Partitions for today and the next days."""
    today = int(database.clock.now()) // DAY_S
    await create(database, range(today, today + _AHEAD))


async def create(database: Database, days: Iterable[int]) -> None:
    """Partitions for these days (counted from the Unix epoch), where they do not exist."""
    if database.dialect != "postgresql":
        return
    async with database.write() as connection:
        await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        there = {name: set(await existing(connection, name)) for name in PARTITIONED}
        for table in PARTITIONED:
            for day in sorted(set(days) - there[table]):
                await connection.execute(sa.text(f"CREATE TABLE {_name(table, day)} (LIKE {table} INCLUDING ALL)"))
                await connection.execute(
                    sa.text(
                        f"ALTER TABLE {table} ATTACH PARTITION {_name(table, day)} "
                        f"FOR VALUES FROM ({_bound(table, day)}) TO ({_bound(table, day + 1)})"
                    )
                )


async def ensure(database: Database, days: Iterable[int]) -> None:
    """Like `create`, but remembers what is there: cheap before every batch."""
    if database.dialect != "postgresql":
        return
    if missing := set(days) - database.known_days:
        await create(database, missing)
        database.known_days |= missing


async def existing(connection: AsyncConnection, table: str) -> list[int]:
    """Days that `table` has a partition for, oldest first."""
    names = await connection.scalars(
        sa.text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass(:table)"
        ),
        {"table": table},
    )
    return sorted(_day(name) for name in names)


async def reach_back(connection: AsyncConnection, before: str | None) -> str | None:
    """Where a walk from the id `before` (None: from the end) back in time stops to start anew; None where it may go to
    the first record."""
    if connection.dialect.name != "postgresql":
        return None
    last_day = _LAST_DAY if before is None else min(day_of(before), _LAST_DAY)
    names = await connection.scalars(
        sa.text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = to_regclass('records') AND c.relname <= :last ORDER BY c.relname DESC LIMIT :days"
        ),
        {"last": _name("records", last_day), "days": DAYS_AT_ONCE + 1},
    )
    found = list(names)
    return id_bound(_day(found[-2])) if len(found) > DAYS_AT_ONCE else None


async def drop(connection: AsyncConnection, table: str, day: int) -> int:
    """Drop one day; returns how many rows, or bodies, it held."""
    name = _name(table, day)
    held = await connection.scalar(sa.text(f"SELECT {'sum(n)' if table == 'bodies' else 'count(*)'} FROM {name}"))
    await connection.execute(sa.text(f"DROP TABLE {name}"))
    return int(held or 0)


def _name(table: str, day: int) -> str:
    return f"{table}_{datetime.fromtimestamp(day * DAY_S, UTC):%Y%m%d}"


def _day(name: str) -> int:
    return int(datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC).timestamp()) // DAY_S


def id_bound(day: int) -> str:
    """The smallest record id of a day."""
    return id_floor(day * DAY_S * 1_000_000)


def block_bound(day: int) -> int:
    """The smallest key of a block of bodies of a day."""
    return block_floor(id_bound(day))


def _bound(table: str, day: int) -> str:
    return str(block_bound(day)) if table == "bodies" else f"'{id_bound(day)}'"
