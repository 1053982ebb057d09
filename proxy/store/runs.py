"""Training runs, and whose records each was trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from proxy.store.control import Run
from proxy.store.dialect import insert_new
from proxy.store.engine import Database
from proxy.store.rows import to_value
from proxy.store.schema import run_users, runs

__all__ = ["Runs"]

_CHUNK: Final = 5000


class Runs:
    """The `runs` and `run_users` tables. What the loop changes goes through `Store.transition`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, run_id: str) -> Run | None:
        """By id."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(runs).where(runs.c.id == run_id))).first()
        return to_value(Run, row) if row is not None else None

    async def list(self, limit: int = 100) -> list[Run]:
        """Newest first."""
        query = sa.select(runs).order_by(runs.c.started_us.desc(), runs.c.id.desc()).limit(limit)
        async with self._db.read() as connection:
            return [to_value(Run, row) for row in await connection.execute(query)]

    async def add_users(self, run_id: str, user_hashes: Iterable[int]) -> None:
        """Remember whose samples went into the run's data, so that deleting a user can name the models. Idempotent."""
        rest = iter(user_hashes)

        def some() -> list[dict[str, Any]]:
            return [{"user_hash": user, "run_id": run_id} for user in islice(rest, _CHUNK)]

        while chunk := await asyncio.to_thread(some):  # they may come from a file
            async with self._db.write() as connection:
                await insert_new(connection, run_users, chunk)

    async def correct(self, run_id: str, manifest: Mapping[str, Any] | None) -> None:
        """Replace the manifest of a run, if there is such a run: users were taken out of its data."""
        if manifest is not None:
            async with self._db.write() as connection:
                await connection.execute(sa.update(runs).where(runs.c.id == run_id).values(manifest=dict(manifest)))

    async def users(self, run_id: str) -> int:
        """How many users' samples went into the run's data."""
        query = sa.select(sa.func.count()).select_from(run_users).where(run_users.c.run_id == run_id)
        async with self._db.read() as connection:
            return int(await connection.scalar(query) or 0)
