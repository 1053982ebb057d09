"""The hosts that share this store, as `/status` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from proxy.store.control import Replica
from proxy.store.dialect import upsert
from proxy.store.engine import Database
from proxy.store.rows import to_value
from proxy.store.schema import replicas

__all__ = ["Replicas"]


class Replicas:
    """The `replicas` table. `seen_us` is in the database's time on PostgreSQL, so that lags compare."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def seen(
        self, replica_id: str, *, host: str, version: str, started_us: int, detail: Mapping[str, Any]
    ) -> None:
        """This replica is alive; call it every few seconds."""
        async with self._db.write() as connection:
            row = {
                "id": replica_id,
                "host": host,
                "version": version,
                "started_us": started_us,
                "seen_us": await self._db.now_us(connection),
                "detail": dict(detail),
            }
            await upsert(connection, replicas, [row])

    async def now(self) -> float:
        """The time that all of them go by, Unix seconds: the database's on PostgreSQL, this host's on SQLite."""
        async with self._db.read() as connection:
            return await self._db.now_us(connection) / 1e6

    async def ages(self) -> dict[str, float]:
        """Seconds since each replica was last seen, by id."""
        async with self._db.read() as connection:
            now_us = await self._db.now_us(connection)
            rows = await connection.execute(sa.select(replicas.c.id, replicas.c.seen_us))
            return {row.id: max(0.0, (now_us - row.seen_us) / 1e6) for row in rows}

    async def list(self) -> list[Replica]:
        """By host."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(replicas).order_by(replicas.c.host, replicas.c.id))
            return [to_value(Replica, row) for row in rows]

    async def forget(self, before_us: int) -> None:
        """Drop replicas that were last seen before then."""
        async with self._db.write() as connection:
            await connection.execute(sa.delete(replicas).where(replicas.c.seen_us < before_us))
