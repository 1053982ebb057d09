"""How far each spool has been read: moved in the same transaction as what was read, so that nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.dialect import for_update, insert_new
from proxy.store.engine import Database
from proxy.store.schema import spool_positions

__all__ = ["Spools", "advance"]


class Spools:
    """Positions by writer: (segment, offset) where reading goes on."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def positions(self) -> dict[str, tuple[int, int]]:
        """All that is known."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(spool_positions))
            return {row.writer: (row.segment, row.offset) for row in rows}

    async def forget(self, writers: Iterable[str]) -> None:
        """Drop the positions of spools that are gone."""
        async with self._db.write() as connection:
            await connection.execute(sa.delete(spool_positions).where(spool_positions.c.writer.in_(list(writers))))


async def advance(connection: AsyncConnection, writer: str, segment: int, offset: int) -> bool:
    """Move to the position, unless the spool has been read that far; holds other readers of it off until the commit."""
    await insert_new(connection, spool_positions, [{"writer": writer, "segment": -1, "offset": 0}])
    where = spool_positions.c.writer == writer
    row = (await connection.execute(for_update(connection, sa.select(spool_positions).where(where)))).one()
    if (segment, offset) <= (row.segment, row.offset):
        return False
    await connection.execute(sa.update(spool_positions).where(where).values(segment=segment, offset=offset))
    return True
