"""The statements that SQL leaves to each database: insert many, insert what is new, replace, and add up.

They run for hundreds of rows at a time and are most of what a batch costs, so each is compiled once per set of
columns, and values go through their column's type a column at a time (`proxy.store.engine.binding`): binding every row
anew, as SQLAlchemy does, takes longer than the insert itself. SQLite gets a row at a time, which costs it nothing;
PostgreSQL gets one statement with an array per column, or COPY, because there every execution costs as much as several
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.binding import Bind, binder
from proxy.store.engine.sqlite import at_hand

__all__ = [
    "Columns",
    "Rows",
    "among",
    "any_of",
    "for_update",
    "insert_all",
    "insert_new",
    "known",
    "pairs",
    "upsert",
    "upsert_sums",
    "upsert_sums_of",
]

Rows = Sequence[Mapping[str, Any]]
Columns = Mapping[str, Sequence[Any]]
"""The same rows as the values of each column: for a thousand rows that is made, and bound, in a third of the time."""
Insert = postgresql.Insert | sqlite.Insert
Prepared = tuple[str, tuple[tuple[str, Bind | None], ...]]
"""The statement's text, and its parameters in order: column and how its values reach the driver."""

_FEW: Final = 32
"""Rows in a range of ids that are looked at one by one."""
_MOST_PARAMETERS: Final = 10_000
"""In one statement; SQLite takes 32,766."""
_MOST_PREPARED: Final = 500
"""Of some hundred that there are usually; which columns of records are empty is for clients to say."""
_prepared: Final[dict[tuple[object, ...], Prepared]] = {}


async def insert_all(connection: AsyncConnection, table: sa.Table, rows: Rows | Columns) -> None:
    """Insert `rows`, which are new: one whose key is taken fails the transaction. All have the same columns."""
    if connection.dialect.name != "postgresql":
        await _run(connection, _plain, table, rows)
    elif columns := _by_column(rows):
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        if not driver.is_in_transaction():
            await connection.execute(sa.text("SELECT 1"))  # COPY by itself does not begin SQLAlchemy's transaction
        bound = _bound(columns, [(name, binder(connection.dialect, table.columns[name])) for name in columns])
        await driver.copy_records_to_table(table.name, records=zip(*bound, strict=True), columns=tuple(columns))


async def insert_new(connection: AsyncConnection, table: sa.Table, rows: Rows | Columns) -> None:
    """Insert `rows`, leaving those alone whose key is there already."""
    await _run(connection, _ignore, table, rows)


async def upsert(connection: AsyncConnection, table: sa.Table, rows: Rows) -> None:
    """Insert `rows`, replacing those with the same key. All rows have the same columns."""
    await _run(connection, _replace, table, rows)


async def upsert_sums(connection: AsyncConnection, table: sa.Table, rows: Rows) -> None:
    """Insert `rows`, or add every column that is no key to the row that is there."""
    await _run(connection, _add, table, rows)


async def upsert_sums_of(connection: AsyncConnection, table: sa.Table, query: sa.Select[Any]) -> None:
    """The same with the rows that `query` finds; its columns have the names of the table's."""
    names = [column.name for column in query.selected_columns]
    insert = _from_values(connection.dialect, table).from_select(names, query)
    await connection.execute(_add(insert, table, names))


def for_update(connection: AsyncConnection, query: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the rows that `query` finds until the end of the transaction; SQLite's writer has the whole file anyway."""
    return query.with_for_update() if connection.dialect.name == "postgresql" else query


def any_of(connection: AsyncConnection, column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """`column` IN `values`, for hundreds of them: on PostgreSQL one parameter, however many there are."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.bindparam(None, list(values), type_=postgresql.ARRAY(column.type)))
    return column.in_(values)


async def known(connection: AsyncConnection, column: sa.Column[str], ids: Sequence[str]) -> set[str]:
    """Those of `ids`, given in order, that the column `column` of records' ids holds."""
    if connection.dialect.name == "postgresql":
        query = sa.select(column).where(any_of(connection, column, ids), column.between(ids[0], ids[-1]))
        return set(await connection.scalars(query))
    select = f"SELECT {column.name} FROM {column.table} WHERE {column.name}"
    first, last = bytes.fromhex(ids[0]), bytes.fromhex(ids[-1])
    between = await _straight(connection, f"{select} BETWEEN ? AND ? LIMIT {_FEW + 1}", (first, last))
    if len(between) <= _FEW:  # nearly always none: to look for a thousand ids takes as long as a tenth of their insert
        return {row[0].hex() for row in between}.intersection(ids)
    found: set[str] = set()
    for start in range(0, len(ids), _MOST_PARAMETERS):
        some = [*map(bytes.fromhex, ids[start : start + _MOST_PARAMETERS])]
        rows = await _straight(connection, f"{select} IN ({','.join('?' * len(some))})", some)
        found.update(row[0].hex() for row in rows)
    return found


def among(connection: AsyncConnection, column: sa.ColumnElement[int], values: Sequence[int]) -> sa.ColumnElement[bool]:
    """The same of whole numbers, and one parameter on SQLite, too: for hundreds of values that takes a tenth."""
    if connection.dialect.name == "postgresql":
        return any_of(connection, column, values)
    numbers = sa.func.json_each(orjson.dumps(list(values)).decode()).table_valued("value")
    return column.in_(sa.select(numbers.c.value))


def pairs(
    connection: AsyncConnection, values: Sequence[tuple[int, int]]
) -> tuple[sa.FromClause, sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Pairs of whole numbers as rows to join with, one parameter or two however many there are; and their columns."""
    if connection.dialect.name == "postgresql":
        whole = postgresql.ARRAY(sa.BigInteger())
        arrays = (sa.bindparam(None, list(side), type_=whole) for side in zip(*values, strict=True))
        given = (
            sa.func.unnest(*arrays)
            .table_valued(sa.column("one", sa.BigInteger), sa.column("other", sa.BigInteger), name="pairs")
            .render_derived()
        )
        return given, given.c.one, given.c.other
    rows = sa.func.json_each(orjson.dumps(list(values)).decode()).table_valued(
        sa.column("value", sa.Text), name="pairs"
    )
    one, other = (sa.func.json_extract(rows.c.value, f"$[{at}]", type_=sa.BigInteger) for at in (0, 1))
    return rows, one, other


async def _straight(connection: AsyncConnection, text: str, parameters: Sequence[Any]) -> Sequence[Any]:
    """The rows of a query to SQLite's driver: for SQLAlchemy a thousand parameters are half as much work as the
    records' insert."""
    if (driver := at_hand(connection)) is not None:
        return driver.rows(text, parameters)
    return (await connection.exec_driver_sql(text, tuple(parameters))).all()


def _plain(insert: Insert, table: sa.Table, names: Sequence[str]) -> Insert:
    return insert


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
    connection: AsyncConnection,
    build: Callable[[Insert, sa.Table, Sequence[str]], Insert],
    table: sa.Table,
    rows: Rows | Columns,
) -> None:
    columns = _by_column(rows)
    if not columns:
        return
    names = tuple(columns)
    in_arrays = len(columns[names[0]]) > 1 and connection.dialect.name == "postgresql"
    key = (connection.dialect.name, build, table.name, names, in_arrays)
    if (prepared := _prepared.get(key)) is None:
        start = _from_arrays(table, names) if in_arrays else _from_values(connection.dialect, table)
        prepared = _prepare(connection.dialect, build(start, table, names), table, names)
        if len(_prepared) >= _MOST_PREPARED:  # other threads do so, too: what is put there may be gone at once
            _prepared.clear()
        _prepared[key] = prepared
    text, parameters = prepared
    bound = _bound(columns, parameters)
    if (driver := at_hand(connection)) is not None:
        driver.change_all(text, zip(*bound, strict=True))
    else:
        await connection.exec_driver_sql(text, tuple(bound) if in_arrays else list(zip(*bound, strict=True)))


def _from_values(dialect: Dialect, table: sa.Table) -> Insert:
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def _from_arrays(table: sa.Table, names: Sequence[str]) -> Insert:
    """An insert of rows that come as one array per column, in their order."""
    arrays = (sa.bindparam(name, type_=postgresql.ARRAY(table.columns[name].type)) for name in names)
    given = sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return postgresql.insert(table).from_select(names, sa.select(*(given.c[name] for name in names)))


def _prepare(dialect: Dialect, statement: Insert, table: sa.Table, names: Sequence[str]) -> Prepared:
    compiled = statement.compile(dialect=dialect, column_keys=list(names))
    order = compiled.positiontup or ()
    return compiled.string, tuple((name, binder(dialect, table.columns[name])) for name in order)


def _by_column(rows: Rows | Columns) -> Columns:
    """The rows as columns; none where there are no rows."""
    if isinstance(rows, Mapping):
        return rows if rows and all(map(len, rows.values())) else {}
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _bound(columns: Columns, parameters: Sequence[tuple[str, Bind | None]]) -> list[Sequence[Any]]:
    """The values as the driver takes them, a list per column."""
    return [columns[name] if bind is None else bind(columns[name]) for name, bind in parameters]
