"""Each user's past for an experiment: read once when it begins, and frozen.

Reading weeks of records takes a while, and the test does not wait for it: rows come in chunk by chunk, each a short
transaction, and when all are there the arms' sums are worked out for the units that were seen meanwhile. From then on
ingest keeps them. Stopped half-way, it begins anew. Whoever fills is the lease's holder, so that two never add up the
same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.estimates import Moments
from policies.past import PastChange, PastMoments, PastTotals, PastVector, past_gain
from policies.records import TESTED
from proxy.store.control.leases import guard
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import for_update, insert_new, upsert_sums, upsert_sums_of
from proxy.store.ingest.past import is_complete, pasts_of, totals_of_past
from proxy.store.ingest.statistics import totals_of
from proxy.store.reading.past import Stretch, measured, pasts, said
from proxy.store.tables.control import Lease
from proxy.store.tables.schema import PAST_TOTALS, arm_stats, deleted_users, experiments, user_past, user_stats

__all__ = ["Pasts"]

_CHUNK: Final = 500


class Pasts:
    """The `user_past` table, and what follows from it in `arm_stats`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def complete(self, experiment_id: int) -> bool:
        """Whether the experiment has its users' past."""
        async with self._db.read() as connection:
            return await is_complete(connection, experiment_id)

    async def of(self, experiment_id: int, keys: Iterable[int], icc: float) -> Mapping[int, PastVector]:
        """Of those of the units that have a past."""
        async with self._db.read() as connection:
            return await pasts_of(connection, experiment_id, keys, icc)

    async def all_of(self, experiment_id: int, icc: float) -> dict[int, PastVector]:
        """Of all units that have one: a row each, for who walks through a whole experiment again."""
        found: dict[int, PastVector] = {}
        page = sa.select(user_past).where(user_past.c.experiment_id == experiment_id).order_by(user_past.c.user_key)
        rows = None
        while rows is None or len(rows) == _CHUNK:
            query = page if not rows else page.where(user_past.c.user_key > rows[-1].user_key)
            async with self._db.read() as connection:
                rows = (await connection.execute(query.limit(_CHUNK))).all()
            found |= {row.user_key: totals_of_past(row).vector(icc) for row in rows}
        return found

    async def read(self, since_us: int, until_us: int, icc: float) -> dict[int, PastVector]:
        """The same of a stretch of time, from the records and votes that are still stored: for who asks what it would
        have been."""
        found: dict[int, PastTotals] = {}
        async for unit, more in pasts(self._db, Stretch(since_us=since_us, until_us=until_us)):
            found[unit] = found[unit].plus(more) if unit in found else more
        return {unit: totals.vector(icc) for unit, totals in found.items()}

    async def fill(
        self, lease: Lease, experiment_id: int, first_epoch: int, *, since_us: int, until_us: int, icc: float
    ) -> int:
        """Read what users were served from `since_us` up to `until_us`, where the experiment began (Unix microseconds),
        and count it in the arms from `first_epoch` on, that of the first stage. Returns how many units have a past.

        Safe to do again: what is there already is replaced, and once complete it stays. Raises PermanentError where the
        lease was lost, TemporaryError while the store is away.
        """
        async with self._db.write() as connection:
            await guard(connection, lease.name, lease.fence)
            if await is_complete(connection, experiment_id):
                return 0
            await connection.execute(sa.delete(user_past).where(user_past.c.experiment_id == experiment_id))
        stretch = Stretch(since_us=since_us, until_us=until_us)
        for window in stretch.windows():
            async with self._db.write() as connection:
                await guard(connection, lease.name, lease.fence)
                found = measured(stretch, window).add_columns(sa.literal(experiment_id).label("experiment_id"))
                await upsert_sums_of(connection, user_past, found)
            async for chunk in said(self._db, stretch, window):
                rows = [_row(experiment_id, unit, totals) for unit, totals in sorted(chunk.items())]
                async with self._db.write() as connection:
                    await guard(connection, lease.name, lease.fence)
                    await upsert_sums(connection, user_past, rows)
        async with self._db.write() as connection:
            await guard(connection, lease.name, lease.fence)
            await _forget_deleted(connection, experiment_id, since_us)
            await _count(connection, experiment_id, first_epoch, icc)
            mine = sa.select(sa.func.count()).where(user_past.c.experiment_id == experiment_id)
            return int(await connection.scalar(mine.select_from(user_past)) or 0)


async def _forget_deleted(connection: AsyncConnection, experiment_id: int, since_us: int) -> None:
    """Users who were deleted while their past was read, or before: a deletion takes a while, and other hosts' clocks
    say when. Who has come back since then has no past."""
    gone = sa.select(deleted_users.c.user_hash).where(deleted_users.c.at_us >= since_us)
    mine = user_past.c.experiment_id == experiment_id
    await connection.execute(sa.delete(user_past).where(mine, user_past.c.user_key.in_(gone)))


async def _count(connection: AsyncConnection, experiment_id: int, first_epoch: int, icc: float) -> None:
    """Lock the arms, then work out their sums from the units that have been seen in them. An epoch may have begun while
    the past was read."""
    running = sa.select(experiments.c.epoch).where(experiments.c.id == experiment_id)
    epochs = {first_epoch, *await connection.scalars(running)}
    arms = [
        {"experiment_id": experiment_id, "epoch": epoch, "arm": int(arm), "requests": 0,
         "moments": Moments().to_bytes()}
        for epoch in sorted(epochs)
        for arm in TESTED
    ]  # fmt: skip
    await insert_new(connection, arm_stats, arms)
    mine = arm_stats.c.experiment_id == experiment_id, arm_stats.c.epoch >= first_epoch
    order = arm_stats.c.epoch, arm_stats.c.arm
    keys = sa.select(arm_stats.c.epoch, arm_stats.c.arm).where(*mine).order_by(*order)
    for row in (await connection.execute(for_update(connection, keys))).all():
        past = await _past_of_arm(connection, experiment_id, row.epoch, row.arm, icc)
        this = *mine, arm_stats.c.epoch == row.epoch, arm_stats.c.arm == row.arm
        await connection.execute(sa.update(arm_stats).where(*this).values(past=past.to_bytes()))


async def _past_of_arm(
    connection: AsyncConnection, experiment_id: int, epoch: int, arm: int, icc: float
) -> PastMoments:
    """A chunk of units at a time."""
    same = (user_past.c.experiment_id == experiment_id) & (user_past.c.user_key == user_stats.c.user_key)
    mine = [user_stats.c.experiment_id == experiment_id, user_stats.c.epoch == epoch, user_stats.c.arm == arm]
    both = sa.select(user_stats, *(user_past.c[name].label(f"past_{name}") for name in PAST_TOTALS))
    page = both.join(user_past, same).where(*mine).order_by(user_stats.c.user_key).limit(_CHUNK)
    past, rows = PastMoments(), None
    while rows is None or len(rows) == _CHUNK:
        query = page if not rows else page.where(user_stats.c.user_key > rows[-1].user_key)
        rows = (await connection.execute(query)).all()
        past += past_gain(PastChange(_vector(row, icc), None, totals_of(row).vector(icc)) for row in rows)
    return past


def _vector(row: Any, icc: float) -> PastVector:
    values = [getattr(row, f"past_{name}") for name in PAST_TOTALS]
    return PastTotals(n=tuple(values[0::2]), s=tuple(values[1::2])).vector(icc)


def _row(experiment_id: int, unit: int, totals: PastTotals) -> dict[str, Any]:
    values = (value for pair in zip(totals.n, totals.s, strict=True) for value in pair)
    return {"experiment_id": experiment_id, "user_key": unit, **dict(zip(PAST_TOTALS, values, strict=True))}
