"""Statements that every batch sends: made once for each kind of database, and on SQLite compiled once, too.

SQLAlchemy makes, looks up and executes a statement in ten times the time that SQLite takes for most of ours. What is
kept here goes straight to SQLite's driver where that is at hand (`Database.transact`); everywhere else SQLAlchemy
executes it, as any other.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

from proxy.store.engine.sqlite import at_hand

__all__ = ["Given", "KeptStatement"]

_Convert = Callable[[Any], Any]


class _Numbers(TypeDecorator[Sequence[int]]):
    """Whole numbers as one parameter: SQLite has no arrays, but JSON."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> str:
        """The JSON."""
        return orjson.dumps(list(value or ())).decode()


class Given:
    """The parameters of a statement that is being made, by the names under which they are given."""

    def __init__(self, dialect: str) -> None:
        self._postgresql = dialect == "postgresql"

    def value(self, name: str, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """A value of that column."""
        return sa.bindparam(name, type_=column.type)

    def among(self, name: str, column: sa.Column[Any]) -> sa.ColumnElement[bool]:
        """`column` is one of many."""
        if self._postgresql:
            return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(column.type)))
        if not isinstance(column.type, sa.Integer):
            return column.in_(sa.bindparam(name, type_=column.type, expanding=True))
        numbers = sa.func.json_each(sa.bindparam(name, type_=_Numbers)).table_valued("value")
        return column.in_(sa.select(numbers.c.value))


Statement = sa.Select[Any] | sa.Update


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """For SQLite's driver."""

    text: str
    parameters: tuple[tuple[str, _Convert | None], ...]
    """In order: name, and what makes of the value what the driver takes."""
    lists: frozenset[str]
    """Parameters of which each value is one of the driver's."""
    constants: Mapping[str, Any]
    """Parameters that the statement has itself."""
    results: tuple[tuple[int, _Convert], ...]
    """Place of a column whose values are other ones for the driver, and what makes them ours."""
    row: Callable[[Iterable[Any]], Any]
    """Makes a row whose values have the names of their columns."""

    def sent(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Text and parameters as the driver takes them."""
        given = {**self.constants, **values}
        text, bound = self.text, []
        try:
            for name, bind in self.parameters:
                value = given[name]
                if name not in self.lists:
                    bound.append(value if bind is None else bind(value))
                    continue
                text = text.replace(f"__[POSTCOMPILE_{name}]", ",".join("?" * len(value)))
                bound += value if bind is None else map(bind, value)
        except Exception as exc:  # what is no value of its column: SQLAlchemy would say so like this
            raise StatementError(str(exc), text, values, exc) from exc
        return text, bound


class KeptStatement:
    """One of them. `make` is told its parameters; each is given by its name when it is executed."""

    def __init__(self, make: Callable[[Given], Statement]) -> None:
        self._make: Final = make
        self._statements: Final[dict[str, Statement]] = {}
        self._compiled: _Compiled | None = None

    async def rows(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """The rows of a query, each its values in order."""
        if (driver := at_hand(connection)) is None:
            return (await connection.execute(self._statement(connection.dialect), values)).all()
        compiled = self._for_driver(connection.dialect)
        rows = driver.rows(*compiled.sent(values))
        if not rows or not compiled.results:
            return rows
        ours = [list(row) for row in rows]
        for row in ours:
            for at, convert in compiled.results:
                row[at] = convert(row[at])
        return ours

    async def named(self, connection: AsyncConnection, **values: Any) -> Sequence[Any]:
        """The same rows, whose values have the names of their columns, too."""
        rows = await self.rows(connection, **values)
        if at_hand(connection) is None:
            return rows
        return list(map(self._for_driver(connection.dialect).row, rows))

    async def changed(self, connection: AsyncConnection, **values: Any) -> int:
        """How many rows an update has changed."""
        if (driver := at_hand(connection)) is None:
            return (await connection.execute(self._statement(connection.dialect), values)).rowcount
        compiled = self._for_driver(connection.dialect)
        return driver.changed(*compiled.sent(values))

    async def change_all(self, connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute an update for each of these rows of values; none of them is a list."""
        if not rows:
            return
        if (driver := at_hand(connection)) is None:
            await connection.execute(self._statement(connection.dialect), rows)
            return
        compiled = self._for_driver(connection.dialect)
        driver.change_all(compiled.text, [compiled.sent(row)[1] for row in rows])

    def _statement(self, dialect: Dialect) -> Statement:
        if (made := self._statements.get(dialect.name)) is None:
            made = self._statements[dialect.name] = self._make(Given(dialect.name))
        return made

    def _for_driver(self, dialect: Dialect) -> _Compiled:
        if self._compiled is None:
            self._compiled = _compile(self._statement(dialect), dialect)
        return self._compiled


def _compile(statement: Statement, dialect: Dialect) -> _Compiled:
    compiled = statement.compile(dialect=dialect)
    binds: dict[str, _Convert | None] = {
        name: parameter.type.dialect_impl(dialect).bind_processor(dialect) for name, parameter in compiled.binds.items()
    }
    columns = list(statement.selected_columns) if isinstance(statement, sa.Select) else []
    reads = (
        (at, column.type.dialect_impl(dialect).result_processor(dialect, None)) for at, column in enumerate(columns)
    )
    row: Any = namedtuple("Row", [column.name for column in columns], rename=True)  # type: ignore[misc]
    return _Compiled(
        text=str(compiled),
        parameters=tuple((name, binds[name]) for name in compiled.positiontup or ()),
        lists=frozenset(name for name, parameter in compiled.binds.items() if parameter.expanding),
        constants={name: parameter.value for name, parameter in compiled.binds.items() if not parameter.required},
        results=tuple((at, read) for at, read in reads if read is not None),
        row=row._make,
    )
