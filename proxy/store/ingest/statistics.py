"""Per user and per arm: what the experiment's decisions are made of, kept exact by every batch.

A user's row holds counts and sums; an arm's row holds the moments of its users' weighted vectors. When a user's totals
change, the old vector leaves the arm's moments and the new one enters them, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.estimates import Moments, UserTotals, Vector
from policies.records import Arm
from proxy.store.engine.dialect import any_of, for_update, insert_new, upsert
from proxy.store.ingest.deltas import Deltas, ExperimentKey
from proxy.store.ingest.facts import Terms
from proxy.store.tables.schema import USER_TOTALS, claimed_users, experiments, user_stats
from proxy.store.tables.schema import arm_stats as arm_table

__all__ = ["count_users", "forget_user", "terms_of", "totals_of"]

_CHUNK = 500


async def terms_of(connection: AsyncConnection, experiment_ids: Iterable[int]) -> dict[int, Terms]:
    """The frozen terms of those of the experiments that exist."""
    wanted = set(experiment_ids)
    if not wanted:
        return {}
    rows = await connection.execute(
        sa.select(experiments.c.id, experiments.c.frozen).where(experiments.c.id.in_(wanted))
    )
    return {row.id: Terms.of(row.frozen) for row in rows}


async def count_users(connection: AsyncConnection, deltas: Deltas, terms: Mapping[int, Terms]) -> None:
    """Add the users' deltas to their rows and move the arms' moments along."""
    for key in sorted(deltas.users):
        change, fresh = Moments(), set[int]()
        users = sorted(deltas.users[key].items())
        for start in range(0, len(users), _CHUNK):
            chunk = dict(users[start : start + _CHUNK])
            gained, new = await _count_chunk(connection, key, chunk, deltas.clusters[key], terms[key[0]].icc)
            change += gained
            fresh |= new
        clusters = len(fresh & deltas.clusters[key])
        claimed = sorted(deltas.claimed_users[key])
        await _add_to_arm(connection, key, deltas.requests[key], change, claimed=claimed, clusters=clusters)


async def forget_user(connection: AsyncConnection, user_key: int) -> int:
    """Take a user out of every experiment, moments included; returns how many rows that were.

    Where the name was only claimed, the sums of its cluster stay: they say nothing of whom they are made of.
    """
    query = for_update(connection, sa.select(user_stats).where(user_stats.c.user_key == user_key))
    rows = (await connection.execute(query)).all()
    terms = await terms_of(connection, {row.experiment_id for row in rows})
    for row in rows:
        vector = totals_of(row).vector(terms.get(row.experiment_id, Terms()).icc)
        await _add_to_arm(connection, (row.experiment_id, row.epoch, Arm(row.arm)), 0, Moments().replaced(vector, None))
    await connection.execute(sa.delete(user_stats).where(user_stats.c.user_key == user_key))
    return len(rows) + await _forget_claimed(connection, user_key)


async def _forget_claimed(connection: AsyncConnection, user_key: int) -> int:
    query = sa.select(claimed_users).where(claimed_users.c.user_key == user_key).order_by(*claimed_users.primary_key)
    rows = (await connection.execute(query)).all()
    for row in rows:
        mine = [arm_table.c[name] == getattr(row, name) for name in ("experiment_id", "epoch", "arm")]
        fewer = {"claimed_users": arm_table.c.claimed_users - 1}
        await connection.execute(sa.update(arm_table).where(*mine).values(fewer))
    await connection.execute(sa.delete(claimed_users).where(claimed_users.c.user_key == user_key))
    return len(rows)


async def _count_chunk(
    connection: AsyncConnection,
    key: ExperimentKey,
    users: dict[int, tuple[list[float], list[float]]],
    clusters: set[int],
    icc: float,
) -> tuple[Moments, set[int]]:
    """What the arm's moments gain, and which of the units are new in it."""
    before = await _lock_users(connection, key, list(users))
    rows, gains = [], []
    for user_key, (n, s) in users.items():
        old = before.get(user_key)
        new = (old or UserTotals()).plus(UserTotals(n=tuple(n), s=tuple(s)))
        gains.append((old.vector(icc) if old else None, new.vector(icc)))
        rows.append(_row(key, user_key, new, claimed=user_key in clusters))
    await upsert(connection, user_stats, rows)
    return _sum(gains), users.keys() - before.keys()


async def _lock_users(connection: AsyncConnection, key: ExperimentKey, keys: list[int]) -> dict[int, UserTotals]:
    """Totals of the users who have any. On PostgreSQL new users get a row of zeros first, so that there is something
    to lock when two controllers meet the same new user at once."""
    if connection.dialect.name == "postgresql":
        await insert_new(connection, user_stats, [_row(key, user_key, UserTotals()) for user_key in keys])
    experiment_id, epoch, arm = key
    query = sa.select(user_stats).where(
        user_stats.c.experiment_id == experiment_id,
        user_stats.c.epoch == epoch,
        user_stats.c.arm == int(arm),
        any_of(connection, user_stats.c.user_key, keys),
    )
    rows = await connection.execute(for_update(connection, query.order_by(user_stats.c.user_key)))
    totals = ((row.user_key, totals_of(row)) for row in rows)
    return {user_key: known for user_key, known in totals if any(known.n)}


async def _add_to_arm(
    connection: AsyncConnection,
    key: ExperimentKey,
    requests: int,
    change: Moments,
    *,
    claimed: Sequence[int] = (),
    clusters: int = 0,
) -> None:
    """Its row is locked while the claimed users that are new to it are told from the others."""
    row = dict(zip(("experiment_id", "epoch", "arm"), (key[0], key[1], int(key[2])), strict=True))
    await insert_new(connection, arm_table, [{**row, "requests": 0, "moments": Moments().to_bytes()}])
    where = sa.and_(*(arm_table.c[name] == value for name, value in row.items()))
    found = (await connection.execute(for_update(connection, sa.select(arm_table).where(where)))).one()
    moments = Moments.from_bytes(found.moments) + change
    values = {
        "requests": found.requests + requests,
        "moments": moments.to_bytes(),
        "clusters": found.clusters + clusters,
    }
    if claimed:
        values["claimed_users"] = found.claimed_users + await _note_claimed(connection, row, claimed)
    await connection.execute(sa.update(arm_table).where(where).values(values))


async def _note_claimed(connection: AsyncConnection, arm: Mapping[str, int], users: Sequence[int]) -> int:
    """Write down that these users were seen in the arm; returns how many had not been."""
    mine = [claimed_users.c[name] == value for name, value in arm.items()]
    new = 0
    for start in range(0, len(users), _CHUNK):
        chunk = users[start : start + _CHUNK]
        query = sa.select(claimed_users.c.user_key).where(*mine, any_of(connection, claimed_users.c.user_key, chunk))
        known = set(await connection.scalars(query))
        rows = [{**arm, "user_key": user_key} for user_key in chunk if user_key not in known]
        await insert_new(connection, claimed_users, rows)
        new += len(rows)
    return new


def _sum(gains: list[tuple[Vector | None, Vector]]) -> Moments:
    change = Moments()
    for old, new in gains:
        change = change.replaced(old, new)
    return change


def totals_of(row: Any) -> UserTotals:
    """From a row of `user_stats`."""
    values = [getattr(row, name) for name in USER_TOTALS]
    return UserTotals(n=tuple(values[0::2]), s=tuple(values[1::2]))


def _row(key: ExperimentKey, user_key: int, totals: UserTotals, *, claimed: bool = False) -> dict[str, Any]:
    values = (value for pair in zip(totals.n, totals.s, strict=True) for value in pair)
    return {
        "experiment_id": key[0],
        "epoch": key[1],
        "arm": int(key[2]),
        "user_key": user_key,
        "claimed": claimed,
        **dict(zip(USER_TOTALS, values, strict=True)),
    }
