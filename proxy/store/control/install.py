"""What the hosts of an install have in common: settings by version, secrets, and who of them is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import for_update, insert_new, upsert
from proxy.store.tables.control import ConfigVersion, Replica
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import configs, replicas, secrets

__all__ = ["Configs", "Replicas", "Secrets"]


class Configs:
    """The `configs` table."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def add(self, fingerprint: str, content: Mapping[str, Any]) -> ConfigVersion:
        """Remember settings (hand them over without secrets); the same fingerprint is the same version."""
        row = {"fingerprint": fingerprint, "content": dict(content), "created_us": int(self._clock.now() * 1e6)}
        async with self._db.write() as connection:
            await insert_new(connection, configs, [row])
            query = sa.select(configs).where(configs.c.fingerprint == fingerprint)
            return to_value(ConfigVersion, (await connection.execute(query)).one())

    async def get(self, config_id: int) -> ConfigVersion | None:
        """By id."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(configs).where(configs.c.id == config_id))).first()
        return to_value(ConfigVersion, row) if row is not None else None

    async def find(self, fingerprint: str) -> ConfigVersion | None:
        """By fingerprint, as a dataset's manifest names it."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(configs).where(configs.c.fingerprint == fingerprint))).first()
        return to_value(ConfigVersion, row) if row is not None else None


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
