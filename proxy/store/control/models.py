"""Every model that ever served or was trained, by name; the runs that trained them, and whose records each had."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from policies.rows import Model, ModelState, Run
from policies.triggers import Trigger
from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of, insert_new
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import models, run_users, runs

__all__ = ["Models", "Runs"]


class Models:
    """The `models` table. What the loop changes goes through `Journal.transition`."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def add(
        self,
        name: str,
        *,
        path: str | None = None,
        url: str | None = None,
        model: str | None = None,
        credential: str | None = None,
        rewrite: Mapping[str, Any] | None = None,
        state: ModelState = ModelState.REGISTERED,
        run_id: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Model:
        """Register a model; one that has this name already is returned as it is."""
        row = {
            "name": name,
            "path": path,
            "url": url,
            "model": model,
            "credential": credential,
            "rewrite": None if rewrite is None else dict(rewrite),
            "state": state.value,
            "run_id": run_id,
            "created_us": int(self._clock.now() * 1e6),
            "retired_us": None,
            "detail": dict(detail or {}),
        }
        async with self._db.write() as connection:
            await insert_new(connection, models, [row])
            found = (await connection.execute(sa.select(models).where(models.c.name == name))).one()
        return to_value(Model, found)

    async def get(self, model_id: int) -> Model | None:
        """By id."""
        return await self._one(models.c.id == model_id)

    async def named(self, name: str) -> Model | None:
        """By name."""
        return await self._one(models.c.name == name)

    async def list(self, states: Iterable[ModelState] | None = None) -> list[Model]:
        """Oldest first; only those in one of `states`, where given."""
        query = sa.select(models).order_by(models.c.id)
        if states is not None:
            query = query.where(models.c.state.in_([state.value for state in states]))
        async with self._db.read() as connection:
            return [to_value(Model, row) for row in await connection.execute(query)]

    async def _one(self, where: sa.ColumnElement[bool]) -> Model | None:
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(models).where(where))).first()
        return to_value(Model, row) if row is not None else None


_CHUNK: Final = 5000


class Runs:
    """The `runs` and `run_users` tables. What the loop changes goes through `Journal.transition`."""

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

    async def starts(self, since_us: int, *, limit: int) -> tuple[int, ...]:
        """When triggers, and not a person, have started trainings since then, oldest first: the newest `limit` of them.

        A dataset that could not be written, or was too small, was no training.
        """
        query = (
            sa.select(runs.c.started_us)
            .where(runs.c.started_us > since_us, runs.c.trigger != Trigger.MANUAL.value)
            .where(runs.c.manifest.is_not(sa.null()), runs.c.state != "too_small")
            .order_by(runs.c.started_us.desc())
            .limit(limit)
        )
        async with self._db.read() as connection:
            return tuple(reversed((await connection.scalars(query)).all()))

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

    async def trained_on(self, run_id: str, user_hashes: Iterable[int]) -> set[int]:
        """Those of the users whose samples went into the run's data."""
        found: set[int] = set()
        rest = iter(user_hashes)
        async with self._db.read() as connection:
            while chunk := list(islice(rest, _CHUNK)):
                mine = any_of(connection, run_users.c.user_hash, chunk)
                query = sa.select(run_users.c.user_hash).where(run_users.c.run_id == run_id, mine)
                found.update(await connection.scalars(query))
        return found

    async def users(self, run_id: str) -> int:
        """How many users' samples went into the run's data."""
        query = sa.select(sa.func.count()).select_from(run_users).where(run_users.c.run_id == run_id)
        async with self._db.read() as connection:
            return int(await connection.scalar(query) or 0)
