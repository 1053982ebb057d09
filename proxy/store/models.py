"""Models: every one that ever served or was trained, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.control import Model, ModelState
from proxy.store.dialect import insert_new
from proxy.store.engine import Database
from proxy.store.rows import to_value
from proxy.store.schema import models

__all__ = ["Models"]


class Models:
    """The `models` table. What the loop changes goes through `Store.transition`."""

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
