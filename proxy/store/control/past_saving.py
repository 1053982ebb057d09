"""What `ab_test_config.cuped` would save in this installation, worked out from its own traffic.

The champion's users of the latest test are compared with what they did before it; where no test has lasted long enough,
or none says anything, those of the last two weeks with the two weeks before. It takes a walk through weeks of records,
of which on a large site only a sample of the users is looked at. So the answer is kept for a day.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from policies.cuped import PastSaving, saving
from policies.estimates import METRICS, Metric, Moments, UserTotals, moments_gain
from policies.past import PAST, PastChange, PastMoments, PastTotals, past_gain
from policies.records import Arm
from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.reading.past import Stretch, pasts
from proxy.store.reading.traffic import Traffic
from proxy.store.tables.schema import experiments, records

__all__ = ["PastSavings"]

_DAY_US: Final = 86_400_000_000
_KEPT_S: Final = 24 * 3600.0
_AGAIN_S: Final = 3600.0
"""Where there was too little to say."""
_LEAST_US: Final = _DAY_US
"""A test that was shorter says nothing."""
_HALF_US: Final = 14 * _DAY_US
_LOOKED_AT: Final = 50_000
"""Records of which about so many are looked at, those of some of the users."""


class PastSavings:
    """Knows the latest answer; one per store."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._traffic = Traffic(db, clock)
        self._read_at = -math.inf
        self.known: PastSaving | None = None
        """The latest answer; None: nobody has asked, or there is too little to say."""

    @property
    def due(self) -> bool:
        """Whether it is time to work it out again: after a day, or after an hour where there was too little to say."""
        age_s = self._clock.monotonic() - self._read_at
        return not 0.0 <= age_s < (_AGAIN_S if self.known is None else _KEPT_S)

    async def read(self, weights: Mapping[Metric, float], history_days: float, icc: float) -> PastSaving | None:
        """Work it out: for metrics with these weights in the composite, and so many days of past. None where users do
        not come back often enough to say. Raises TemporaryError."""
        self._read_at = self._clock.monotonic()
        now_us, found = int(self._clock.now() * 1e6), None
        if (latest := await self._latest(now_us)) is not None:
            experiment_id, since_us, until_us = latest
            mine = sa.and_(records.c.experiment_id == experiment_id, records.c.arm == int(Arm.CHAMPION))
            bounds = since_us - round(history_days * _DAY_US), since_us, until_us
            found = await self._of(weights, bounds, icc, mine, experiment_id)
        if found is None:
            bounds = now_us - _HALF_US - round(min(history_days, 14.0) * _DAY_US), now_us - _HALF_US, now_us
            found = await self._of(weights, bounds, icc)
        self.known = found
        return found

    async def _latest(self, now_us: int) -> tuple[int, int, int] | None:
        """The latest test that has lasted long enough, and its first weeks."""
        end = sa.func.coalesce(experiments.c.ended_us, now_us)
        query = sa.select(experiments.c.id, experiments.c.started_us, end.label("end_us")).where(
            end - experiments.c.started_us >= _LEAST_US
        )
        async with self._db.read() as connection:
            row = (await connection.execute(query.order_by(experiments.c.id.desc()).limit(1))).first()
        return None if row is None else (row.id, row.started_us, min(row.end_us, row.started_us + 2 * _HALF_US))

    async def _of(
        self,
        weights: Mapping[Metric, float],
        bounds: tuple[int, int, int],
        icc: float,
        mine: sa.ColumnElement[bool] | None = None,
        experiment_id: int | None = None,
    ) -> PastSaving | None:
        since_us, split_us, until_us = bounds
        passed = await self._traffic.totals(since_us, until_us)
        one_in = max(1, passed.of_users // _LOOKED_AT)
        test = await self._totals(split_us, until_us, one_in, mine)
        before = await self._totals(since_us, split_us, one_in, None)
        vectors = {unit: _as_user(totals).vector(icc) for unit, totals in test.items()}
        both = [
            PastChange(before[unit].vector(icc), None, vector) for unit, vector in vectors.items() if unit in before
        ]
        champion: Moments = moments_gain((None, vector) for vector in vectors.values())
        past: PastMoments = past_gain(both)
        saved = saving(champion, past, weights)
        if saved is None:
            return None
        return PastSaving(
            saved=saved, users=len(vectors) * one_in, with_past=len(both) * one_in, experiment_id=experiment_id
        )

    async def _totals(
        self, since_us: int, until_us: int, one_in: int, of: sa.ColumnElement[bool] | None
    ) -> dict[int, PastTotals]:
        totals: defaultdict[int, PastTotals] = defaultdict(PastTotals)
        stretch = Stretch(since_us=since_us, until_us=until_us, one_in=one_in, of=of)
        async for unit, gained in pasts(self._db, stretch):
            totals[unit] = totals[unit].plus(gained)
        return dict(totals)


def _as_user(totals: PastTotals) -> UserTotals:
    """As a test counts it: the other metrics are not asked about."""
    n, s = [0.0] * len(METRICS), [0.0] * len(METRICS)
    for metric, count, total in zip(PAST, totals.n, totals.s, strict=True):
        place = METRICS.index(metric)
        n[place], s[place] = count, total
    return UserTotals(n=tuple(n), s=tuple(s))
