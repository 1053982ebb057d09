"""The answers that checks have compared: what a check goes on from, and what people read side by side.

A row is written when both answers are there, and gets its outcome when that is known: whoever is killed in between asks
nothing again that stands here. The texts are compressed, for nobody searches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import insert_new
from proxy.store.ingest.answers import packed, unpacked
from proxy.store.tables.keys import id_time_us
from proxy.store.tables.schema import comparisons, deleted_users

__all__ = ["ComparedRow", "Comparisons", "row_of"]

_BRIEF: Final = ("check_id", "item", "record_id", "user_hash", "tags", "outcome", "facts", "created_us")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """Two answers to one question."""

    check_id: int
    item: str
    """The record's id (32 hex digits), or `golden:<line>`."""
    record_id: str | None = None
    user_hash: int | None = None
    tags: tuple[str, ...] = ()
    outcome: float | None = None
    """X, -1 (the champion's is better) to 1; None: not known yet."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What was seen of both: see `proxy.checks.facts`. No words of users or models."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`target`, `request`, `champion` and `challenger` (each with `text` and `body`); empty where it was not read."""
    created_us: int = 0


class Comparisons:
    """The `comparisons` table."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def add(self, row: ComparedRow) -> None:
        """Keep a comparison; where its item stands there already, that one stays. Nothing is kept of a user who was
        deleted meanwhile."""
        values = {name: getattr(row, name) for name in _BRIEF} | {
            "tags": list(row.tags) or None,
            "facts": dict(row.facts),
            "data": await asyncio.to_thread(packed, row.data),
            "created_us": row.created_us or int(self._clock.now() * 1e6),
        }
        gone = sa.select(deleted_users.c.user_hash).where(deleted_users.c.user_hash == row.user_hash)
        if row.record_id is not None:
            gone = gone.where(deleted_users.c.at_us >= id_time_us(row.record_id))
        async with self._db.write() as connection:
            if row.user_hash is None or (await connection.execute(gone)).first() is None:
                await insert_new(connection, comparisons, [values])

    async def settle(self, check_id: int, item: str, outcome: float | None, facts: Mapping[str, Any]) -> None:
        """Write down what is known by now of an item that stands here."""
        mine = sa.and_(comparisons.c.check_id == check_id, comparisons.c.item == item)
        async with self._db.write() as connection:
            await connection.execute(sa.update(comparisons).where(mine).values(outcome=outcome, facts=dict(facts)))

    async def pair(self, row: ComparedRow) -> None:
        """Put the champion's answer beside the challenger's that stands here: all of `row` but when it was made."""
        mine = sa.and_(comparisons.c.check_id == row.check_id, comparisons.c.item == row.item)
        values = {
            "user_hash": row.user_hash,
            "tags": list(row.tags) or None,
            "outcome": row.outcome,
            "facts": dict(row.facts),
            "data": await asyncio.to_thread(packed, row.data),
        }
        async with self._db.write() as connection:
            await connection.execute(sa.update(comparisons).where(mine).values(values))

    async def drop(self, check_id: int, item: str) -> None:
        """Forget an item."""
        mine = sa.and_(comparisons.c.check_id == check_id, comparisons.c.item == item)
        async with self._db.write() as connection:
            await connection.execute(sa.delete(comparisons).where(mine))

    async def of_check(self, check_id: int) -> list[ComparedRow]:
        """All of a check, without their texts, in the order in which they were compared."""
        query = sa.select(*(comparisons.c[name] for name in _BRIEF)).where(comparisons.c.check_id == check_id)
        async with self._db.read() as connection:
            rows = await connection.execute(query.order_by(comparisons.c.created_us, comparisons.c.item))
            return [row_of(row) for row in rows]

    async def get(self, check_id: int, item: str) -> ComparedRow | None:
        """One of them, with its texts."""
        mine = sa.and_(comparisons.c.check_id == check_id, comparisons.c.item == item)
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(comparisons).where(mine))).first()
        return None if row is None else row_of(row, await asyncio.to_thread(unpacked, row.data))


def row_of(row: Any, data: Mapping[str, Any] | None = None) -> ComparedRow:
    """From a row of the table, with its texts where they were read."""
    values = {name: getattr(row, name) for name in _BRIEF}
    return ComparedRow(**values | {"tags": tuple(row.tags or ()), "data": data or {}})
