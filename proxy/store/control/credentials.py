"""API keys that people gave for their challengers, by name, among the install's secrets.

A name is made up here and stands wherever the key itself must not: commands, journal, models, route table.
"""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.config.serving import ChampionConfig
from proxy.credentials import CHAMPION, NO_CREDENTIAL, Credential, UnknownCredentialError, configured_header
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import upsert
from proxy.store.tables.schema import secrets

__all__ = ["Credentials", "KeptCredential"]

_PREFIX: Final = "credential:"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCredential:
    """A key, and since when it is here."""

    credential: Credential
    created_us: int


class Credentials:
    """Entries `credential:…` of the `secrets` table."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def add(self, credential: Credential) -> str:
        """Keep it; returns its name."""
        name = f"challenger-{randomness.token_hex(6)}"
        value: dict[str, Any] = {**credential.as_json(), "created_us": int(self._clock.now() * 1e6)}
        async with self._db.write() as connection:
            await upsert(connection, secrets, [{"name": _PREFIX + name, "value": value}])
        return name

    async def get(self, name: str) -> Credential | None:
        """By name; None where there is none."""
        return found.credential if (found := (await self.all()).get(name)) is not None else None

    async def header(self, name: str | None, url: str, champion: ChampionConfig) -> tuple[str, str] | None:
        """Name and value of the header for a request of our own to the model at `url` whose credential is `name`; None
        where it goes without. Raises `proxy.credentials.UnknownCredentialError`."""
        if name is None or name in (CHAMPION, NO_CREDENTIAL):
            return configured_header(champion, url) if name == CHAMPION else None
        if (found := await self.get(name)) is None:
            raise UnknownCredentialError(f"the API key {name} is not kept any more; bring the challenger again")
        return found.for_url(url)

    async def all(self) -> dict[str, KeptCredential]:
        """By name."""
        query = sa.select(secrets).where(secrets.c.name.startswith(_PREFIX, autoescape=True))
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return {
            row.name.removeprefix(_PREFIX): KeptCredential(
                credential=Credential.from_json(row.value), created_us=row.value["created_us"]
            )
            for row in rows
        }

    async def forget(self, names: Iterable[str]) -> None:
        """Remove them; those that are not there, too."""
        entries = [_PREFIX + name for name in names]
        if entries:
            async with self._db.write() as connection:
                await connection.execute(sa.delete(secrets).where(secrets.c.name.in_(entries)))
