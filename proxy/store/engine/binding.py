"""How the values of a column reach the driver, a thousand at a time.

SQLAlchemy's types bind one value a call, through two or three functions each. What a type of ours (`proxy.store.tables.
types`) can bind all at once, it says itself; of the others each value goes through SQLAlchemy's own function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

__all__ = ["Bind", "Bulk", "binder"]

Bind = Callable[[Sequence[Any]], Sequence[Any]]


@runtime_checkable
class Bulk(Protocol):
    """A type that binds many values at once."""

    def binds(self, dialect: Dialect) -> Bind | None:
        """What makes of values what the driver takes; None: it takes them as they are."""
        ...


def binder(dialect: Dialect, column: sa.Column[Any]) -> Bind | None:
    """What binds the values of that column; None where they go to the driver as they are."""
    if isinstance(column.type, Bulk):
        return column.type.binds(dialect)
    bind = column.type.dialect_impl(dialect).bind_processor(dialect)
    if bind is None:
        return None
    if isinstance(column.type, sa.JSON) and column.type.none_as_null:
        return lambda values: [None if value is None else bind(value) for value in values]
    return lambda values: list(map(bind, values))
