"""What an experiment's decisions read: sums per arm, sums per user, and both as they stood at an earlier moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from policies.estimates import Metric, Moments, UserTotals
from policies.experiment import ArmStats
from policies.past import PastMoments
from policies.records import Arm
from proxy.store.engine.database import Database
from proxy.store.ingest.statistics import totals_of
from proxy.store.reading.replay import Epoch, EpochReplay
from proxy.store.tables.schema import arm_stats, tag_arms, user_stats

__all__ = ["Statistics"]

_CHUNK: Final = 500


class Statistics:
    """The statistics of the experiments of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def arms(self, experiment_id: int, epoch: int) -> dict[Arm, ArmStats]:
        """Sufficient statistics of both arms; an arm without a record has empty ones."""
        found = {arm: ArmStats(arm=arm, requests=0, moments=Moments()) for arm in Arm}
        query = sa.select(arm_stats).where(arm_stats.c.experiment_id == experiment_id, arm_stats.c.epoch == epoch)
        async with self._db.read() as connection:
            for row in await connection.execute(query):
                arm = Arm(row.arm)
                found[arm] = ArmStats(
                    arm=arm,
                    requests=row.requests,
                    moments=Moments.from_bytes(row.moments),
                    claimed_users=row.claimed_users,
                    clusters=row.clusters,
                    past=None if row.past is None else PastMoments.from_bytes(row.past),
                )
        return found

    async def tags(self, experiment_id: int, epoch: int) -> dict[str, dict[Arm, ArmStats]]:
        """The same of the records with each tag (`name=value`); units that are clusters count as users here."""
        found: dict[str, dict[Arm, ArmStats]] = {}
        query = sa.select(tag_arms).where(tag_arms.c.experiment_id == experiment_id, tag_arms.c.epoch == epoch)
        async with self._db.read() as connection:
            for row in await connection.execute(query.order_by(tag_arms.c.tag)):
                arms = found.setdefault(row.tag, {a: ArmStats(arm=a, requests=0, moments=Moments()) for a in Arm})
                arm, moments = Arm(row.arm), Moments.from_bytes(row.moments)
                arms[arm] = ArmStats(arm=arm, requests=row.requests, moments=moments)
        return found

    async def voters(
        self, experiment_id: int, epochs: Sequence[int], metrics: Sequence[Metric]
    ) -> AsyncGenerator[tuple[Arm, int, dict[int, UserTotals], bool]]:
        """The units of evidence with an observation of any of `metrics`: arm, key, totals by the place of the epoch
        among `epochs`, whether nobody vouches; a chunk at a time, so that many take no memory."""
        observed = [user_stats.c[f"n_{metric.value}"] > 0 for metric in metrics]
        for arm in (Arm.CHAMPION, Arm.CHALLENGER):
            pages = [self._units(experiment_id, epoch, arm, observed) for epoch in epochs]
            async for found in _merged(pages):
                by_stage = {at: totals_of(row) for at, row in found.items()}
                some = next(iter(found.values()))
                yield arm, some.user_key, by_stage, any(row.claimed for row in found.values())

    async def _units(
        self, experiment_id: int, epoch: int, arm: Arm, observed: Sequence[sa.ColumnElement[bool]]
    ) -> AsyncGenerator[sa.Row[Any]]:
        """Rows of `user_stats` in the order of their keys."""
        mine = [
            user_stats.c.experiment_id == experiment_id,
            user_stats.c.epoch == epoch,
            user_stats.c.arm == int(arm),
        ]
        query = sa.select(user_stats).where(*mine, sa.or_(*observed)).order_by(user_stats.c.user_key).limit(_CHUNK)
        rows = None
        while rows is None or len(rows) == _CHUNK:
            page = query if not rows else query.where(user_stats.c.user_key > rows[-1].user_key)
            async with self._db.read() as connection:
                rows = (await connection.execute(page)).all()
            for row in rows:
                yield row

    def replay(self, epoch: Epoch, *, chunk: int = 1000) -> EpochReplay:
        """The same as they stood at any moment of the epoch, from the records and votes that are still stored."""
        return EpochReplay(self._db, epoch, chunk)


async def _merged(pages: Sequence[AsyncGenerator[sa.Row[Any]]]) -> AsyncGenerator[dict[int, sa.Row[Any]]]:
    """Rows with the same key together, by the place of their generator; all are in the order of their keys."""
    heads = {at: row for at, page in enumerate(pages) if (row := await anext(page, None)) is not None}
    while heads:
        lowest = min(row.user_key for row in heads.values())
        found = {at: row for at, row in heads.items() if row.user_key == lowest}
        yield found
        for at in found:
            if (row := await anext(pages[at], None)) is None:
                del heads[at]
            else:
                heads[at] = row
