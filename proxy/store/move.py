"""Moving a whole store to another database: every row as it is, in one transaction, counted on both sides.

The rows are copied as values, so ids, keys, sums and spool positions are the same afterwards, and whoever goes on with
the new database continues where the old one was. The old one is then marked: it is never written again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.errors import PermanentError
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import insert_new
from proxy.store.tables import partitions
from proxy.store.tables.keys import day_of, id_of_block
from proxy.store.tables.schema import aliases, bodies, leases, loop_state, metadata, records, replicas, secrets

__all__ = ["MOVED", "copy_all", "mark_moved", "refuse_if_moved"]

MOVED: Final = "moved"
"""Entry of the table `secrets` in a database that was left."""
_ROWS: Final = 1000
_LEFT_BEHIND: Final = (replicas, secrets)

Progress = Callable[[str, int], None]
"""Called with a table's name and how many of its rows were copied so far."""


async def copy_all(source: Database, target: Database, progress: Progress) -> dict[str, int]:
    """Copy every row of `source` to the empty `target`; returns the rows by table.

    Nobody may write to `source` meanwhile. Raises PermanentError where `target` is not empty or a count differs, then
    nothing was copied, and where `source` is PostgreSQL, which other hosts may be writing to and which has tools of
    its own; TemporaryError where one of the databases went away.
    """
    if source.dialect == "postgresql":
        raise PermanentError(f"{source.name} is PostgreSQL already; move it with pg_dump and pg_restore")
    copied = {}
    async with source.read() as reading:
        await _make_days(reading, target)
        async with target.write() as writing:
            await _refuse_unless_empty(writing)
            for table in metadata.sorted_tables:
                if table not in _LEFT_BEHIND:
                    copied[table.name] = await _copy(reading, writing, table, progress)
            await writing.execute(sa.update(leases).values(expires_us=0))
            await _count_on(writing)
    return copied


async def mark_moved(source: Database, to: str) -> None:
    """From now on `source` is only history. `to` names the new database, without its password."""
    async with source.write() as connection:
        await insert_new(connection, secrets, [{"name": MOVED, "value": {"to": to}}])


async def refuse_if_moved(database: Database) -> None:
    """Raises PermanentError where the store has moved on."""
    async with database.read() as connection:
        row = (await connection.execute(sa.select(secrets.c.value).where(secrets.c.name == MOVED))).first()
    if row is not None:
        raise PermanentError(f"store: this database was moved to {row.value['to']}; set store.url to that one")


async def _refuse_unless_empty(connection: AsyncConnection) -> None:
    for table in (records, loop_state):
        if (await connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1))).first() is not None:
            raise PermanentError(f"the database to move to has rows in {table.name}; give an empty one")


async def _make_days(reading: AsyncConnection, target: Database) -> None:
    days = set()
    for column in (records.c.id, aliases.c.id):
        first = await reading.scalar(sa.select(sa.func.min(column)))
        while first is not None:  # from day to day: an index look-up each, however many rows there are
            days.add(day_of(first))
            first = await reading.scalar(sa.select(sa.func.min(column)).where(column >= _day_after(first)))
    first = await reading.scalar(sa.select(sa.func.min(bodies.c.block)))
    while first is not None:
        days.add(day_of(id_of_block(first)))
        behind = partitions.block_bound(day_of(id_of_block(first)) + 1)
        first = await reading.scalar(sa.select(sa.func.min(bodies.c.block)).where(bodies.c.block >= behind))
    await partitions.ensure(target, days)


def _day_after(record_id: str) -> str:
    return partitions.id_bound(day_of(record_id) + 1)


async def _copy(reading: AsyncConnection, writing: AsyncConnection, table: sa.Table, progress: Progress) -> int:
    copied = 0
    async for rows in _pages(reading, table):
        await insert_new(writing, table, rows)
        copied += len(rows)
        progress(table.name, copied)
    there = await writing.scalar(sa.select(sa.func.count()).select_from(table))
    if there != copied:
        raise PermanentError(f"{table.name}: {copied} rows were read, {there} arrived; nothing was moved")
    return copied


async def _pages(reading: AsyncConnection, table: sa.Table) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """All rows in the order of the primary key, by its values: constant memory, no row twice."""
    keys = list(table.primary_key)
    behind: sa.ColumnElement[bool] = sa.true()
    while True:
        query = sa.select(table).where(behind).order_by(*keys).limit(_ROWS)
        rows = [dict(row) for row in (await reading.execute(query)).mappings()]
        if not rows:
            return
        yield rows
        last = [sa.literal(rows[-1][key.name], key.type) for key in keys]
        behind = sa.tuple_(*keys) > sa.tuple_(*last) if len(keys) > 1 else keys[0] > last[0]


async def _count_on(connection: AsyncConnection) -> None:
    """PostgreSQL's counters go on behind the highest key that was copied; SQLite looks for itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        key = table.autoincrement_column
        if key is None:
            continue
        highest = await connection.scalar(sa.select(sa.func.max(key)))
        sequence = await connection.scalar(sa.select(sa.func.pg_get_serial_sequence(table.name, key.name)))
        if sequence is not None and highest is not None:
            await connection.execute(sa.select(sa.func.setval(sequence, highest)))
