"""What an experiment's decisions read: sums per arm, sums per user, and both as they stood at an earlier moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

import sqlalchemy as sa

from policies.estimates import Metric, Moments, UserTotals
from policies.experiment import ArmStats
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
        self, experiment_id: int, epoch: int, metrics: Sequence[Metric]
    ) -> AsyncGenerator[tuple[Arm, int, UserTotals, bool]]:
        """The units of evidence with an observation of any of `metrics`: arm, key, totals, whether nobody vouches; a
        chunk at a time, so that many take no memory."""
        observed = [user_stats.c[f"n_{metric.value}"] > 0 for metric in metrics]
        for arm in Arm:
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
                    yield arm, row.user_key, totals_of(row), row.claimed

    def replay(self, epoch: Epoch, *, chunk: int = 1000) -> EpochReplay:
        """The same as they stood at any moment of the epoch, from the records and votes that are still stored."""
        return EpochReplay(self._db, epoch, chunk)
