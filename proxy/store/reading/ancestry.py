"""How many trainings of this installation lie behind each model, so that a model does not feed on itself unseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa

from policies.rows import Model
from proxy.store.engine.database import Database
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import experiments, models

__all__ = ["TRAINED_BESIDE", "generations", "read_generations"]

TRAINED_BESIDE: Final = "trained_beside"
"""In a model's `detail`: id of the champion while it was trained."""


async def read_generations(db: Database) -> dict[str, int]:
    """The generations of the models of this database."""
    pair = experiments.c.challenger_model_id, experiments.c.champion_model_id
    async with db.read() as connection:
        known = [to_value(Model, row) for row in await connection.execute(sa.select(models))]
        tests = (await connection.execute(sa.select(*pair).order_by(experiments.c.id.desc()))).all()
    return generations(known, {row.challenger_model_id: row.champion_model_id for row in tests})


def generations(known: Iterable[Model], met: Mapping[int, int]) -> dict[str, int]:
    """The generation of every model that was trained here (it has a run); the others are left out.

    By name and by path: an application that logs its own calls may know a model by either.

    The champion of its time is the one in its detail; of a model of an older version the one that it met in its first
    test (`met`: champion by challenger, both ids); where there was none, the model that was trained before it.
    """
    found: dict[int, int] = {}
    names: dict[str, int] = {}
    before = 0
    for model in sorted(known, key=lambda each: each.id):
        if model.run_id is None:
            found[model.id] = 0
            continue
        champion = model.detail.get(TRAINED_BESIDE, met.get(model.id))
        before = found[model.id] = 1 + found.get(champion, before)
        names |= dict.fromkeys(filter(None, (model.path, model.name)), before)
    return names
