"""Records by the UTC day of their id, as the archive asks for them: which days there are, and what changed in one."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from proxy.store.engine.database import Database
from proxy.store.tables.keys import day_of, id_floor
from proxy.store.tables.partitions import DAY_S
from proxy.store.tables.schema import deleted_users, feedback, records

__all__ = ["DayCounts", "Days", "day_bounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCounts:
    """How much the store holds of one day. Only retention and deleting a user make it less."""

    records: int = 0
    votes: int = 0

    def grew_since(self, earlier: DayCounts) -> bool:
        """Whether something came in late."""
        return self.records > earlier.records or self.votes > earlier.votes


class Days:
    """Questions about whole days; a day is counted from the Unix epoch."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def next(self, day: int) -> int | None:
        """The first day from `day` on that holds a record."""
        query = sa.select(records.c.id).where(records.c.id >= id_floor(_start_us(day))).order_by(records.c.id).limit(1)
        async with self._db.read() as connection:
            first = (await connection.scalars(query)).first()
        return None if first is None else day_of(first)

    async def counts(self, day: int) -> DayCounts:
        """What there is of `day`, votes on its records included, whenever they were given."""
        first, end = id_floor(_start_us(day)), id_floor(_start_us(day + 1))
        counts = []
        async with self._db.read() as connection:
            for column in (records.c.id, feedback.c.record_id):
                query = sa.select(sa.func.count()).select_from(column.table).where(column >= first, column < end)
                counts.append(int(await connection.scalar(query) or 0))
        return DayCounts(records=counts[0], votes=counts[1])

    async def deleted_users(self) -> dict[int, int]:
        """Users deleted in the last 90 days: their hash, and when (Unix µs)."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(deleted_users.c.user_hash, deleted_users.c.at_us))
            return {row.user_hash: row.at_us for row in rows}


def day_bounds(day: int) -> tuple[str | None, str]:
    """Ids around `day`, both exclusive."""
    first = int(id_floor(_start_us(day)), 16)
    return (f"{first - 1:032x}" if first else None), id_floor(_start_us(day + 1))


def _start_us(day: int) -> int:
    return day * DAY_S * 1_000_000
