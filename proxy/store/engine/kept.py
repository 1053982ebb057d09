"""Statements that every batch sends: made once for each kind of database, and on SQLite compiled once, too.

SQLAlchemy makes, looks up and executes a statement in ten times the time that SQLite takes for most of ours. What is
kept here goes straight to SQLite's driver where that is at hand (`Database.transact`); everywhere else SQLAlchemy
executes it, as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect
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

    def among(self, name: str, column: sa.Column[int]) -> sa.ColumnElement[bool]:
        """`column`, of whole numbers, is one of many."""
        if self._postgresql:
            return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(column.type)))
        numbers = sa.func.json_each(sa.bindparam(name, type_=_Numbers)).table_valued("value")
        return column.in_(sa.select(numbers.c.value))


Statement = sa.Select[Any] | sa.Update


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """For SQLite's driver."""

    text: str
    parameters: tuple[tuple[str, _Convert | None], ...]
    """In order: name, and what makes of the value what the driver takes."""
    constants: Mapping[str, Any]
    """Parameters that the statement has itself."""
    results: tuple[tuple[int, _Convert], ...]
    """Place of a column whose values are other ones for the driver, and what makes them ours."""

    def bound(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters as the driver takes them."""
        given = {**self.constants, **values}
        return [given[name] if bind is None else bind(given[name]) for name, bind in self.parameters]


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
        rows = driver.rows(compiled.text, compiled.bound(values))
        if not rows or not compiled.results:
            return rows
        ours = [list(row) for row in rows]
        for row in ours:
            for at, convert in compiled.results:
                row[at] = convert(row[at])
        return ours

    async def changed(self, connection: AsyncConnection, **values: Any) -> int:
        """How many rows an update has changed."""
        if (driver := at_hand(connection)) is None:
            return (await connection.execute(self._statement(connection.dialect), values)).rowcount
        compiled = self._for_driver(connection.dialect)
        return driver.changed(compiled.text, compiled.bound(values))

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
    return _Compiled(
        text=str(compiled),
        parameters=tuple((name, binds[name]) for name in compiled.positiontup or ()),
        constants={name: parameter.value for name, parameter in compiled.binds.items() if not parameter.required},
        results=tuple((at, read) for at, read in reads if read is not None),
    )
