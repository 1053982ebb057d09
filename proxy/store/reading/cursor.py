"""A walk over many records in chunks, each a short read, cut where PostgreSQL has days enough for one query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.tables import partitions
from proxy.store.tables.schema import records

__all__ = ["KeysetCursor"]


class KeysetCursor:
    """What is left of a walk between two ids, both exclusive: ask for its `bounds`, read a chunk, say how far it went.

    A walk forwards is not cut: whoever makes one (the archive) has both ends of a day.
    """

    def __init__(self, after_id: str | None, before_id: str | None, newest_first: bool) -> None:
        self.done = False
        self._after = after_id
        self._before = before_id
        self._newest_first = newest_first
        self._floor: str | None = None

    async def bounds(self, connection: AsyncConnection) -> list[sa.ColumnElement[bool]]:
        """Conditions on the next chunk, which may come out short, even empty, before the walk is done."""
        self._floor = await partitions.reach_back(connection, self._before) if self._newest_first else None
        bounds = [records.c.id >= self._floor] if self._floor is not None else []
        bounds += [records.c.id > self._after] if self._after is not None else []
        return bounds + ([records.c.id < self._before] if self._before is not None else [])

    def walked(self, rows: Sequence[Any], chunk: int) -> None:
        """These rows came; fewer than `chunk` are the last that there are within the bounds."""
        if len(rows) == chunk:
            self._after, self._before = (
                (self._after, rows[-1].id) if self._newest_first else (rows[-1].id, self._before)
            )
        elif self._floor is None or (self._after is not None and self._floor <= self._after):
            self.done = True
        else:
            self._before = self._floor
