"""Answers that users had made anew, beside the ones that they kept: by record, for whoever makes pairs of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.signals import EARLIER_S, Signal
from proxy.store.engine.dialect import any_of
from proxy.store.tables.keys import id_floor, id_time_us
from proxy.store.tables.schema import records
from proxy.store.tables.values import RecordFlag

__all__ = ["read_regenerated"]

_NOT_KEPT: Final = (Signal.REGENERATED | Signal.REPHRASED | Signal.ABANDONED | Signal.RETRY).value
_BEFORE_US: Final = int(EARLIER_S * 1e6)
_SAMPLE: Final = int(RecordFlag.SAMPLE)


async def read_regenerated(connection: AsyncConnection, record_ids: Sequence[str]) -> dict[str, str]:
    """Of those of the records whose answer was kept: the record of the first answer to the same, which the same user
    had made anew within some minutes. Kept is what was neither made anew, nor complained about, nor broken off."""
    kept = await _kept(connection, record_ids)
    if not kept:
        return {}
    times = [id_time_us(row.id) for row in kept]
    anew = records.c.signals.bitwise_and(Signal.REGENERATED.value) != 0
    query = sa.select(records.c.id, records.c.user_hash, records.c.prompt_key).where(
        any_of(connection, records.c.user_hash, sorted({row.user_hash for row in kept})),
        any_of(connection, records.c.prompt_key, sorted({row.prompt_key for row in kept})),
        records.c.id.between(id_floor(min(times) - _BEFORE_US), max(row.id for row in kept)),
        records.c.flags.bitwise_and(_SAMPLE) != 0,
        anew,
    )
    earlier: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for row in await connection.execute(query.order_by(records.c.id)):
        earlier[row.user_hash, row.prompt_key].append(row.id)
    found = {}
    for row in kept:
        since = id_floor(id_time_us(row.id) - _BEFORE_US)
        first = next((one for one in earlier[row.user_hash, row.prompt_key] if since <= one < row.id), None)
        if first is not None:
            found[row.id] = first
    return found


async def _kept(connection: AsyncConnection, record_ids: Sequence[str]) -> list[Any]:
    if not record_ids:
        return []
    ids = sorted(record_ids)
    query = sa.select(records.c.id, records.c.user_hash, records.c.prompt_key).where(
        any_of(connection, records.c.id, ids),
        records.c.id.between(ids[0], ids[-1]),
        records.c.user_hash.is_not(None),
        records.c.prompt_key.is_not(None),
        records.c.signals.bitwise_and(_NOT_KEPT) == 0,
    )
    return list((await connection.execute(query)).all())
