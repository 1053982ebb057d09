"""Which settings were in force: every decision and record names one of these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.control import ConfigVersion
from proxy.store.dialect import insert_new
from proxy.store.engine import Database
from proxy.store.rows import to_value
from proxy.store.schema import configs

__all__ = ["Configs"]


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
