"""How far each spool has been read: moved in the same transaction as what was read, so that nothing counts twice.

A batch says from which position it was read, and is refused where the database has another one: it was restored, or a
standby took over that had not heard of everything, or another reader was quicker. Whoever reads a spool then asks for
the positions again and goes on from there, so that all gets in that this very database does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.errors import TemporaryError
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import for_update, insert_new
from proxy.store.engine.kept import Given, KeptStatement
from proxy.store.tables.schema import spool_positions
from proxy.store.tables.values import NO_POSITION, IngestBatch, SpoolPosition

__all__ = ["PositionError", "Spools", "advance"]

_START: Final = {"segment": NO_POSITION[0], "offset": NO_POSITION[1], "frames": 0, "at_us": 0}


def _move(given: Given) -> sa.Update:
    columns = spool_positions.c
    here = (
        columns.writer == given.value("who", columns.writer),
        columns.segment == given.value("was_segment", columns.segment),
        columns.offset == given.value("was_offset", columns.offset),
    )
    return (
        sa.update(spool_positions)
        .where(*here)
        .values(
            segment=given.value("now_segment", columns.segment),
            offset=given.value("now_offset", columns.offset),
            frames=columns.frames + given.value("more", columns.frames),
            at_us=given.value("now_us", columns.at_us),
        )
    )


_MOVE: Final = KeptStatement(_move)
"""Where the database stands where the batch begins: that is looked for, and locked, by the very statement that moves
it."""


class PositionError(TemporaryError):
    """A batch does not begin where the database stands: read the positions again, and go on from there."""


class Spools:
    """Positions by writer: (segment, offset) where reading goes on."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def positions(self) -> dict[str, tuple[int, int]]:
        """All that is known."""
        return {writer: position.place for writer, position in (await self.counted()).items()}

    async def counted(self) -> dict[str, SpoolPosition]:
        """All that is known, with what was counted up to there."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(spool_positions))
            return {
                row.writer: SpoolPosition(segment=row.segment, offset=row.offset, frames=row.frames, at_us=row.at_us)
                for row in rows
            }

    async def forget(self, writers: Iterable[str]) -> None:
        """Drop the positions of spools that are gone."""
        async with self._db.write() as connection:
            await connection.execute(sa.delete(spool_positions).where(spool_positions.c.writer.in_(list(writers))))


async def advance(connection: AsyncConnection, batch: IngestBatch, now_us: int) -> bool:
    """Move to the batch's end; holds other readers of the spool off until the commit.

    False where a batch that names no position has been read already. Raises PositionError where the position is not the
    one that the batch names.
    """
    writer, end = batch.writer, (batch.segment, batch.offset)
    if batch.after is not None:
        moved = await _MOVE.changed(
            connection, who=writer, was_segment=batch.after[0], was_offset=batch.after[1], now_segment=end[0],
            now_offset=end[1], more=batch.frames, now_us=now_us,
        )  # fmt: skip
        if moved:
            return True
    await insert_new(connection, spool_positions, [{"writer": writer, **_START}])
    where = spool_positions.c.writer == writer
    row = (await connection.execute(for_update(connection, sa.select(spool_positions).where(where)))).one()
    if batch.after is None:
        if end <= (row.segment, row.offset):
            return False
    elif batch.after != (row.segment, row.offset):
        raise PositionError(
            f"store: the spool {writer} was read from segment {batch.after[0]} at {batch.after[1]}, and the database "
            f"has it up to segment {row.segment} at {row.offset}",
            retry_after_s=0.0,
        )
    values = {"segment": end[0], "offset": end[1], "frames": row.frames + batch.frames, "at_us": now_us}
    await connection.execute(sa.update(spool_positions).where(where).values(values))
    return True
