"""The three statements that SQL leaves to each database: insert what is new, replace, and add up.

They run for hundreds of rows at a time and are most of what a batch costs, so each is compiled once per set of
columns, and values go through their column's type a column at a time: binding every row anew, as SQLAlchemy does,
takes longer than the insert itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["Rows", "for_update", "insert_new", "upsert", "upsert_sums"]

Rows = Sequence[Mapping[str, Any]]
Insert = postgresql.Insert | sqlite.Insert
Process = Callable[[Any], Any]
Prepared = tuple[str, tuple[tuple[str, Process | None], ...]]
"""The statement's text, and its parameters in order: column and how its values reach the driver."""

_prepared: Final[dict[tuple[object, ...], Prepared]] = {}


async def insert_new(connection: AsyncConnection, table: sa.Table, rows: Rows) -> None:
    """Insert `rows`, leaving those alone whose key is there already."""
    await _run(connection, _ignore, table, rows)


async def upsert(connection: AsyncConnection, table: sa.Table, rows: Rows) -> None:
    """Insert `rows`, replacing those with the same key. All rows have the same columns."""
    await _run(connection, _replace, table, rows)


async def upsert_sums(connection: AsyncConnection, table: sa.Table, rows: Rows) -> None:
    """Insert `rows`, or add every column that is no key to the row that is there."""
    await _run(connection, _add, table, rows)


def for_update(connection: AsyncConnection, query: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the rows that `query` finds until the end of the transaction; SQLite's writer has the whole file anyway."""
    return query.with_for_update() if connection.dialect.name == "postgresql" else query


def _ignore(insert: Insert, table: sa.Table, names: Sequence[str]) -> Insert:
    return insert.on_conflict_do_nothing()


def _replace(insert: Insert, table: sa.Table, names: Sequence[str]) -> Insert:
    keys = [column.name for column in table.primary_key]
    values = {name: insert.excluded[name] for name in names if name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=values)


def _add(insert: Insert, table: sa.Table, names: Sequence[str]) -> Insert:
    keys = [column.name for column in table.primary_key]
    sums = {name: table.columns[name] + insert.excluded[name] for name in names if name not in keys}
    return insert.on_conflict_do_update(index_elements=keys, set_=sums)


async def _run(
    connection: AsyncConnection, build: Callable[[Insert, sa.Table, Sequence[str]], Insert], table: sa.Table, rows: Rows
) -> None:
    if not rows:
        return
    names = tuple(rows[0])
    key = (connection.dialect.name, build, table.name, names)
    if key not in _prepared:
        kind = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        _prepared[key] = _prepare(connection.dialect, build(kind(table), table, names), table, names)
    text, parameters = _prepared[key]
    columns = [
        [row[name] for row in rows] if process is None else [process(row[name]) for row in rows]
        for name, process in parameters
    ]
    await connection.exec_driver_sql(text, list(zip(*columns, strict=True)))


def _prepare(dialect: Dialect, statement: Insert, table: sa.Table, names: Sequence[str]) -> Prepared:
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    order = compiled.positiontup or ()
    types = (table.columns[name].type.dialect_impl(dialect) for name in order)
    return compiled.string, tuple(zip(order, (kind.bind_processor(dialect) for kind in types), strict=True))
