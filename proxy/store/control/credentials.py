"""API keys that people gave for their challengers, by name, among the install's secrets.

A name is made up here and stands wherever the key itself must not: commands, journal, models, route table.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.credentials import Credential
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import upsert
from proxy.store.tables.schema import secrets

__all__ = ["Credentials", "keep"]

_PREFIX: Final = "credential:"


async def keep(connection: AsyncConnection, credential: Credential) -> str:
    """Keep a key, within the transaction that writes the command which it comes with; returns its name."""
    name = f"challenger-{randomness.token_hex(6)}"
    await upsert(connection, secrets, [{"name": _PREFIX + name, "value": credential.as_json()}])
    return name


class Credentials:
    """Entries `credential:…` of the `secrets` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, name: str) -> Credential | None:
        """By name; None where there is none."""
        return (await self.all()).get(name)

    async def all(self) -> dict[str, Credential]:
        """By name."""
        query = sa.select(secrets).where(secrets.c.name.startswith(_PREFIX, autoescape=True))
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row.name.removeprefix(_PREFIX): Credential.from_json(row.value) for row in rows}

    async def forget(self, names: Iterable[str]) -> None:
        """Remove them; those that are not there, too."""
        entries = [_PREFIX + name for name in names]
        if entries:
            async with self._db.write() as connection:
                await connection.execute(sa.delete(secrets).where(secrets.c.name.in_(entries)))
