"""Secrets that every replica of an install needs: the key ring. Whoever may read the database may read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from proxy.store.dialect import for_update, insert_new, upsert
from proxy.store.engine import Database
from proxy.store.schema import secrets

__all__ = ["Secrets"]

Json = Mapping[str, Any]


class Secrets:
    """The `secrets` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, name: str) -> dict[str, Any] | None:
        """The value under `name`; None where there is none."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name))).first()
        return None if row is None else dict(row.value)

    async def put(self, name: str, value: Json) -> None:
        """Replace the value."""
        async with self._db.write() as connection:
            await upsert(connection, secrets, [{"name": name, "value": dict(value)}])

    async def merge(self, name: str, mine: Json, merge: Callable[[Json, Json], Json]) -> dict[str, Any]:
        """Replace the value by `merge(mine, value)`, or put `mine` where there is none; returns what is there now.

        One after the other: two replicas that do so at once both see the result of the first.
        """
        async with self._db.write() as connection:
            await insert_new(connection, secrets, [{"name": name, "value": dict(mine)}])
            query = sa.select(secrets.c.value).where(secrets.c.name == name)
            there = (await connection.execute(for_update(connection, query))).one().value
            merged = dict(merge(mine, there))
            if merged != there:
                await connection.execute(sa.update(secrets).where(secrets.c.name == name).values(value=merged))
        return merged
