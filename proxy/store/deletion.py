"""Forgetting one user: rows, votes, statistics, and what is still on its way here in a spool.

The user's name (a keyed hash) is written down first, so that records made before that instant are refused whenever
they arrive; then rows go in small transactions. What models learnt can not be unlearnt: the answer names them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.clock import Clock
from proxy.store import statistics
from proxy.store.bodies import BodyCodec, grouped
from proxy.store.deltas import Deltas
from proxy.store.dialect import for_update, upsert
from proxy.store.engine import Database
from proxy.store.retention import alias_slices
from proxy.store.schema import aliases, deleted_users, feedback, models, records, run_users, scores
from proxy.store.values import Deleted
from proxy.store.votes import FACTS, facts_of_row

__all__ = ["delete_user"]

_CHUNK: Final = 200


async def delete_user(db: Database, codec: BodyCodec, clock: Clock, user_hash: int) -> Deleted:
    """Remove every row of the user. Idempotent; stopped half-way, the next call goes on."""
    models_seen, runs_seen = await _announce(db, clock, user_hash)
    async with db.write() as connection:
        rows = await statistics.forget_user(connection, user_hash)
    ids: list[str] = []
    votes = 0
    while chunk := await _delete_records(db, codec, user_hash):
        ids += chunk[0]
        votes += chunk[1]
        rows += chunk[2]
    rows += await _delete_aliases(db, set(ids))
    await _checkpoint(db)
    return Deleted(records=len(ids), votes=votes, rows=rows, models=models_seen, runs=runs_seen)


async def _announce(db: Database, clock: Clock, user_hash: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the name down, and which runs and models had the user's data; returns models and runs."""
    async with db.write() as connection:
        query = sa.select(deleted_users.c.detail).where(deleted_users.c.user_hash == user_hash)
        earlier: Any = await connection.scalar(query) or {}
        trained = sa.select(run_users.c.run_id).where(run_users.c.user_hash == user_hash)
        runs = {*earlier.get("runs", ()), *await connection.scalars(trained)}
        named = sa.select(models.c.name).where(models.c.run_id.in_(runs))
        names = {*earlier.get("models", ()), *await connection.scalars(named)}
        detail = {"models": sorted(names), "runs": sorted(runs)}
        row = {"user_hash": user_hash, "at_us": int(clock.now() * 1e6), "detail": detail}
        await upsert(connection, deleted_users, [row])
        await connection.execute(sa.delete(run_users).where(run_users.c.user_hash == user_hash))
    return tuple(detail["models"]), tuple(detail["runs"])


async def _delete_records(db: Database, codec: BodyCodec, user_hash: int) -> tuple[list[str], int, int] | None:
    """Delete some of the user's records; returns their ids, how many votes and rows went, or None at the end."""
    async with db.write() as connection:
        query = sa.select(*FACTS, records.c.body).where(records.c.user_hash == user_hash)
        found = await connection.execute(for_update(connection, query.order_by(records.c.id).limit(_CHUNK)))
        rows = found.all()
        if not rows:
            return None
        ids = [row.id for row in rows]
        deltas = Deltas()
        for row in rows:
            deltas.forgotten(facts_of_row(row))
        await deltas.write(connection)
        gone = 0
        for key, places in grouped(row.body for row in rows).items():
            gone += await codec.without(connection, key, places)
        votes = await _delete(connection, feedback.c.record_id, ids)
        others = [await _delete(connection, column, ids) for column in (scores.c.record_id, records.c.id)]
    return ids, votes, votes + gone + sum(others)


async def _delete(connection: AsyncConnection, key: sa.Column[str], ids: Sequence[str]) -> int:
    where = key.in_(ids) & key.between(ids[0], ids[-1])
    return int((await connection.execute(sa.delete(key.table).where(where))).rowcount)


async def _delete_aliases(db: Database, ids: set[str]) -> int:
    """Aliases are kept by hash alone: walk them all, a slice at a time."""
    found: list[dict[str, Any]] = []
    for part in alias_slices() if ids else ():
        async with db.read() as connection:
            rows = await connection.execute(sa.select(aliases).where(part))
            found += [{"a": row.hash, "b": row.id} for row in rows if row.id in ids]
    if found:
        one = sa.delete(aliases).where(aliases.c.hash == sa.bindparam("a"), aliases.c.id == sa.bindparam("b"))
        async with db.write() as connection:
            await connection.execute(one, found)
    return len(found)


async def _checkpoint(db: Database) -> None:
    """Empty SQLite's write-ahead log, which still holds the old pages."""
    if db.dialect == "sqlite":
        async with db.outside_transaction() as connection:
            await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
