"""Checks of challengers, and the answers that each has compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from policies.rows import Check
from proxy.store.engine.database import Database
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import checks

__all__ = ["Checks"]


class Checks:
    """The `checks` table. They begin and end with `Journal.transition`; what they find meanwhile is noted here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def next_id(self) -> int:
        """The id for the next check. Only the lease's holder makes them, so nobody else takes it."""
        async with self._db.read() as connection:
            return int(await connection.scalar(sa.select(sa.func.max(checks.c.id))) or 0) + 1

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

    async def freeze(self, check_id: int, terms: Mapping[str, Any]) -> Mapping[str, Any]:
        """The terms of the check: these, unless it has some."""
        async with self._db.write() as connection:
            mine = checks.c.id == check_id
            found = (await connection.execute(sa.select(checks.c.terms).where(mine))).scalar_one_or_none()
            if found:
                return dict(found)
            await connection.execute(sa.update(checks).where(mine).values(terms=dict(terms)))
        return terms

    async def report(self, check_id: int, summary: Mapping[str, Any], verdict: str | None = None) -> None:
        """Keep what it has found so far, and its verdict. What has a verdict keeps it, and what was found by then."""
        async with self._db.write() as connection:
            running = sa.and_(checks.c.id == check_id, checks.c.verdict.is_(None))
            values = {"summary": dict(summary), "verdict": verdict}
            await connection.execute(sa.update(checks).where(running).values(values))
