"""Taking words back out of the loop's books: what trainings said whose data held a deleted user.

What a training says is kept in the run's folder, and the books have only our own words (`proxy.loop.ports.Failed`). But
an earlier version wrote down all of it, and what a training function returned beside its model may quote samples, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.database import Database
from proxy.store.tables.schema import commands, journal, loop_state, models, runs

__all__ = ["REMOVED", "forget_words"]

REMOVED: Final = "(removed: a user was deleted whose data the training had)"
_LEAST: Final = 12
"""Characters from which a line is told from others."""
_OURS: Final = ("model_path", "url", "model", "job_id")
"""What deployers go by in a training's result."""


async def forget_words(db: Database, run_ids: Sequence[str]) -> int:
    """Blank what these runs said, wherever the loop wrote it down; returns how many rows had such words. Idempotent."""
    changed = 0
    for run_id in run_ids:
        async with db.write() as connection:
            row = (await connection.execute(sa.select(runs).where(runs.c.id == run_id))).first()
            if row is not None:
                changed += await _quotes(connection, _needles(row.error))
                changed += await _run(connection, row)
            changed += await _results(connection, run_id)
    return changed


def _needles(error: str | None) -> list[str]:
    """The texts to look for: the error, whole and by its lines."""
    if not error or error == REMOVED:
        return []
    lines = [line.strip() for line in error.splitlines()]
    return sorted({error, *(line for line in lines if len(line) >= _LEAST)}, key=len, reverse=True)


async def _run(connection: AsyncConnection, row: Any) -> int:
    values: dict[str, Any] = {}
    if row.error and row.error != REMOVED and row.state == "failed":
        values["error"] = REMOVED
    if row.result is not None and (result := _numbers(row.result)) != row.result:
        values["result"] = result
    if values:
        await connection.execute(sa.update(runs).where(runs.c.id == row.id).values(values))
    return bool(values)


async def _quotes(connection: AsyncConnection, needles: list[str]) -> int:
    """Blank the needles in journal, state and commands."""
    if not needles:
        return 0

    def blank(text: str) -> str:
        for needle in needles:
            text = text.replace(needle, REMOVED)
        return text

    changed = 0
    for table, names in ((journal, ("why", "inputs", "outcome")), (loop_state, ("value",)), (commands, ("detail",))):
        (key,) = table.primary_key
        for row in (await connection.execute(sa.select(key, *(table.c[name] for name in names)))).all():
            before = {name: getattr(row, name) for name in names}
            after = {name: _walk(value, blank) for name, value in before.items()}
            if after != before:
                await connection.execute(sa.update(table).where(key == row[0]).values(after))
                changed += 1
    return changed


async def _results(connection: AsyncConnection, run_id: str) -> int:
    """Of what the training returned, the models' rows keep what a deployer needs."""
    changed = 0
    for row in (await connection.execute(sa.select(models).where(models.c.run_id == run_id))).all():
        result = row.detail.get("result")
        if isinstance(result, Mapping) and (kept := _numbers(result)) != result:
            detail = {**row.detail, "result": kept}
            await connection.execute(sa.update(models).where(models.c.id == row.id).values(detail=detail))
            changed += 1
    return changed


def _numbers(result: Any) -> Any:
    """A result without texts, but for those by which models are found."""
    if not isinstance(result, Mapping):
        return None
    return {name: value if name in _OURS else _walk(value, lambda _: REMOVED) for name, value in result.items()}


def _walk(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its texts changed; the names of members stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _walk(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, change) for item in value]
    return value
