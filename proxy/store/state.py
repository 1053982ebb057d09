"""The loop's own memory: a few named JSON values. Written only by `Store.transition`, under the fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from proxy.store.engine import Database
from proxy.store.schema import loop_state
from proxy.store.standing import Named, Rows, read_standing

__all__ = ["LoopState"]


class LoopState:
    """The `loop_state` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, name: str) -> Any:
        """The value under `name`; None where there is none."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(loop_state.c.value).where(loop_state.c.name == name))).first()
        return row.value if row is not None else None

    async def standing(self, name: str, names: Callable[[Any], Named]) -> Rows | None:
        """The value under `name` with the rows that `names` finds in it, as they are at one moment."""
        return await read_standing(self._db, name, names)

    async def all(self) -> dict[str, Any]:
        """Every value by name."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(loop_state.c.name, loop_state.c.value))
            return {row.name: row.value for row in rows}
