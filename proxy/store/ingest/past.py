"""The users' past in the sums of an experiment's arms: added when a unit is first seen, and moved along with its votes.

A unit's past is a row of `user_past` that never changes while the experiment runs. An arm's `past` is NULL until those
rows are complete; then it is worked out once from the units that were seen meanwhile, and ingest goes on from there.
Both do so with the arm's row locked, so that no unit is missed or counted twice. Arms of other experiments are not
asked about at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.estimates import Vector
from policies.past import PastChange, PastMoments, PastTotals, PastVector, past_gain
from proxy.store.engine.kept import KeptStatement
from proxy.store.tables.schema import PAST_TOTALS, arm_stats, user_past

__all__ = ["Moved", "forget_past", "is_complete", "past_after", "pasts_of", "totals_of_past"]

_CHUNK: Final = 500
_PASTS: Final = KeptStatement(
    lambda given: sa.select(user_past).where(
        user_past.c.experiment_id == given.value("experiment", user_past.c.experiment_id),
        given.among("units", user_past.c.user_key),
    )
)
_COMPLETE: Final = KeptStatement(
    lambda given: (
        sa.select(arm_stats.c.arm)
        .where(
            arm_stats.c.experiment_id == given.value("experiment", arm_stats.c.experiment_id),
            arm_stats.c.past.is_not(None),
        )
        .limit(1)
    )
)


Moved: TypeAlias = Mapping[int, tuple[Vector | None, Vector | None]]
"""By unit, how its test vector was and is; None: it was not in the arm, or is not any more."""


async def past_after(
    connection: AsyncConnection, experiment_id: int, stored: bytes | None, moved: Moved, icc: float
) -> bytes | None:
    """An arm's `past`, which was `stored`, after these units have changed. The arm's row is locked. None as long as the
    experiment's pasts are not complete."""
    leaving = all(new is None for _, new in moved.values())
    if stored is None and (leaving or not await is_complete(connection, experiment_id)):
        return None  # nor is who was never counted taken out
    past = PastMoments() if stored is None else PastMoments.from_bytes(stored)
    known = await pasts_of(connection, experiment_id, moved, icc)
    return (past + past_gain(PastChange(before, *moved[unit]) for unit, before in known.items())).to_bytes()


async def is_complete(connection: AsyncConnection, experiment_id: int) -> bool:
    """Whether `user_past` has all that there is to know for this experiment."""
    return bool(await _COMPLETE.rows(connection, experiment=experiment_id))


async def pasts_of(
    connection: AsyncConnection, experiment_id: int, keys: Iterable[int], icc: float
) -> Mapping[int, PastVector]:
    """Of those of the units that have a past."""
    found: dict[int, PastVector] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        for row in await _PASTS.named(connection, experiment=experiment_id, units=chunk):
            found[row.user_key] = totals_of_past(row).vector(icc)
    return found


async def forget_past(connection: AsyncConnection, user_key: int) -> None:
    """Of a user, in every experiment; their part in the arms' sums goes with their rows there."""
    await connection.execute(sa.delete(user_past).where(user_past.c.user_key == user_key))


def totals_of_past(row: Any) -> PastTotals:
    """From a row of `user_past`."""
    values = [getattr(row, name) for name in PAST_TOTALS]
    return PastTotals(n=tuple(values[0::2]), s=tuple(values[1::2]))
