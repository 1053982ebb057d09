"""What a loop stands on, read at one moment: a value of its memory, and the rows that the value names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from proxy.store.control import Experiment, Model, Run
from proxy.store.engine import Database
from proxy.store.rows import to_value
from proxy.store.schema import experiments, loop_state, models, runs

__all__ = ["Named", "Rows", "read_standing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Rows that are wanted, by id."""

    models: tuple[int, ...] = ()
    experiment: int | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A value, and those of the rows it names that are there."""

    value: Any
    models: Mapping[int, Model] = field(default_factory=dict)
    experiment: Experiment | None = None
    run: Run | None = None


async def read_standing(db: Database, name: str, names: Callable[[Any], Named]) -> Rows | None:
    """The value `name` of the loop's memory with the rows that `names` finds in it; None where there is no such value.
    No transition comes between them."""
    async with db.snapshot() as connection:
        row = (await connection.execute(sa.select(loop_state.c.value).where(loop_state.c.name == name))).first()
        if row is None:
            return None
        wanted = names(row.value)
        found = await connection.execute(sa.select(models).where(models.c.id.in_(wanted.models)))
        by_id = {model.id: to_value(Model, model) for model in found}
        experiment = run = None
        if wanted.experiment is not None:
            query = sa.select(experiments).where(experiments.c.id == wanted.experiment)
            experiment = (await connection.execute(query)).first()
        if wanted.run is not None:
            run = (await connection.execute(sa.select(runs).where(runs.c.id == wanted.run))).first()
    return Rows(
        value=row.value,
        models=by_id,
        experiment=None if experiment is None else to_value(Experiment, experiment),
        run=None if run is None else to_value(Run, run),
    )
