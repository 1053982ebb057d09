"""Experiments and the looks taken at them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from policies.rows import Experiment
from proxy.store.engine.database import Database
from proxy.store.tables.control import Look
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import experiments, looks

__all__ = ["Experiments"]


class Experiments:
    """The `experiments` and `looks` tables. What the loop changes goes through `Journal.transition`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def next_id(self) -> int:
        """The id for the next experiment. Only the lease's holder makes experiments, so nobody else takes it."""
        async with self._db.read() as connection:
            return int(await connection.scalar(sa.select(sa.func.max(experiments.c.id))) or 0) + 1

    async def get(self, experiment_id: int) -> Experiment | None:
        """By id."""
        async with self._db.read() as connection:
            query = sa.select(experiments).where(experiments.c.id == experiment_id)
            row = (await connection.execute(query)).first()
        return to_value(Experiment, row) if row is not None else None

    async def running(self) -> Experiment | None:
        """The newest that has not ended."""
        query = sa.select(experiments).where(experiments.c.ended_us.is_(None)).order_by(experiments.c.id.desc())
        async with self._db.read() as connection:
            row = (await connection.execute(query.limit(1))).first()
        return to_value(Experiment, row) if row is not None else None

    async def list(self, limit: int = 100) -> Sequence[Experiment]:
        """Newest first."""
        query = sa.select(experiments).order_by(experiments.c.id.desc()).limit(limit)
        async with self._db.read() as connection:
            return [to_value(Experiment, row) for row in await connection.execute(query)]

    async def looks(
        self, experiment_id: int, *, since_us: int = 0, limit: int = 2000, every_us: int = 1
    ) -> Sequence[Look]:
        """Evaluations, oldest first; the newest `limit` of them. With `every_us` only the last in each such stretch."""
        mine = looks.c.experiment_id == experiment_id, looks.c.at_us >= since_us
        query = sa.select(looks).where(*mine)
        if every_us > 1:
            last = sa.select(sa.func.max(looks.c.at_us)).where(*mine)
            stretch = looks.c.at_us - looks.c.at_us % sa.literal_column(str(int(every_us)))
            query = query.where(looks.c.at_us.in_(last.group_by(stretch)))
        async with self._db.read() as connection:
            rows = (await connection.execute(query.order_by(looks.c.at_us.desc()).limit(limit))).all()
        return [to_value(Look, row) for row in reversed(rows)]
