"""Checks of challengers, and the answers that each has compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from policies.rows import Check, CheckKind
from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.tables.rows import to_row, to_value
from proxy.store.tables.schema import checks

__all__ = ["Checks"]


class Checks:
    """The `checks` table. One controller writes a check's row: the one that runs it."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def begin(self, kind: CheckKind, *, challenger_id: int, champion_id: int, terms: Mapping[str, Any]) -> Check:
        """A new check, running."""
        async with self._db.write() as connection:
            newest = int(await connection.scalar(sa.select(sa.func.max(checks.c.id))) or 0)
            check = Check(
                id=newest + 1,
                kind=kind,
                challenger_id=challenger_id,
                champion_id=champion_id,
                started_us=int(self._clock.now() * 1e6),
                terms=dict(terms),
            )
            await connection.execute(sa.insert(checks).values(to_row(check)))
        return check

    async def get(self, check_id: int) -> Check | None:
        """By id."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(checks).where(checks.c.id == check_id))).first()
        return to_value(Check, row) if row is not None else None

    async def list(self, challenger_id: int | None = None, limit: int = 100) -> Sequence[Check]:
        """Newest first; only those of one challenger, where given."""
        query = sa.select(checks).order_by(checks.c.id.desc()).limit(limit)
        if challenger_id is not None:
            query = query.where(checks.c.challenger_id == challenger_id)
        async with self._db.read() as connection:
            return [to_value(Check, row) for row in await connection.execute(query)]

    async def report(self, check_id: int, summary: Mapping[str, Any], verdict: str | None = None) -> None:
        """Keep what it has found so far; with a `verdict` it has ended. Ended is ended: the first verdict stays."""
        values: dict[str, Any] = {"summary": dict(summary)}
        if verdict is not None:
            values |= {"verdict": verdict, "ended_us": int(self._clock.now() * 1e6)}
        async with self._db.write() as connection:
            running = sa.and_(checks.c.id == check_id, checks.c.verdict.is_(None))
            await connection.execute(sa.update(checks).where(running).values(values))
