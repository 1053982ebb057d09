"""The loop's own memory: a few named JSON values, written only by `Journal.transition`, under the fence.

A value and the rows that it names are read at one moment: read one after the other they may be of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from policies.rows import Check, Experiment, Model, Run
from proxy.store.engine.database import Database
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import checks, experiments, loop_state, models, runs

__all__ = ["Named", "Rows", "StateEntries"]


class StateEntries:
    """The `loop_state` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def get(self, name: str) -> Any:
        """The value under `name`; None where there is none."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(loop_state.c.value).where(loop_state.c.name == name))).first()
        return row.value if row is not None else None

    async def with_rows(self, name: str, names: Callable[[Any], Named]) -> Rows | None:
        """The value under `name` with the rows that `names` finds in it, as they are at one moment."""
        return await _with_rows(self._db, name, names)

    async def all(self) -> dict[str, Any]:
        """Every value by name."""
        async with self._db.read() as connection:
            rows = await connection.execute(sa.select(loop_state.c.name, loop_state.c.value))
            return {row.name: row.value for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Rows that are wanted, by id."""

    models: tuple[int, ...] = ()
    check: int | None = None
    experiment: int | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A value, and those of the rows it names that are there."""

    value: Any
    models: Mapping[int, Model] = field(default_factory=dict)
    check: Check | None = None
    experiment: Experiment | None = None
    run: Run | None = None


async def _with_rows(db: Database, name: str, names: Callable[[Any], Named]) -> Rows | None:
    """The value `name` of the loop's memory with the rows that `names` finds in it; None where there is no such value.
    No transition comes between them."""
    async with db.snapshot() as connection:
        row = (await connection.execute(sa.select(loop_state.c.value).where(loop_state.c.name == name))).first()
        if row is None:
            return None
        wanted = names(row.value)
        found = await connection.execute(sa.select(models).where(models.c.id.in_(wanted.models)))
        by_id = {model.id: to_value(Model, model) for model in found}
        check = experiment = run = None
        if wanted.check is not None:
            check = (await connection.execute(sa.select(checks).where(checks.c.id == wanted.check))).first()
        if wanted.experiment is not None:
            query = sa.select(experiments).where(experiments.c.id == wanted.experiment)
            experiment = (await connection.execute(query)).first()
        if wanted.run is not None:
            run = (await connection.execute(sa.select(runs).where(runs.c.id == wanted.run))).first()
    return Rows(
        value=row.value,
        models=by_id,
        check=None if check is None else to_value(Check, check),
        experiment=None if experiment is None else to_value(Experiment, experiment),
        run=None if run is None else to_value(Run, run),
    )
