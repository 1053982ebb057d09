"""Answers that users had made anew, beside the ones that they kept: by record, for whoever makes pairs of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.signals import EARLIER_S, Signal
from proxy.store.engine.dialect import any_of, pairs
from proxy.store.tables.keys import id_floor, id_time_us
from proxy.store.tables.schema import records
from proxy.store.tables.values import RecordFlag

__all__ = ["read_regenerated"]

_NOT_KEPT: Final = (Signal.REGENERATED | Signal.REPHRASED | Signal.ABANDONED | Signal.RETRY).value
_BEFORE_US: Final = int(EARLIER_S * 1e6)
_SAMPLE, _CLAIMED = int(RecordFlag.SAMPLE), int(RecordFlag.CLAIMED)
_COLUMNS: Final = tuple(records.c[name] for name in ("id", "user_hash", "prompt_key", "cluster", "flags"))


async def read_regenerated(connection: AsyncConnection, record_ids: Sequence[str]) -> dict[str, str]:
    """Of those of the records whose answer was kept: the record of the first answer to the same, which the same user
    had made anew within some minutes. Kept is what was neither made anew, nor complained about, nor broken off."""
    kept = await _kept(connection, record_ids)
    if not kept:
        return {}
    since = id_floor(min(id_time_us(row.id) for row in kept) - _BEFORE_US)
    given, user, key = pairs(connection, sorted({(row.user_hash, row.prompt_key) for row in kept}))
    mine = (
        records.c.user_hash == user,
        records.c.prompt_key == key,
        records.c.id.between(since, max(row.id for row in kept)),
        records.c.flags.bitwise_and(_SAMPLE) != 0,
        records.c.signals.bitwise_and(Signal.REGENERATED.value) != 0,
    )
    earlier: defaultdict[tuple[int, int, int | None], list[str]] = defaultdict(list)
    query = sa.select(*_COLUMNS).select_from(given.join(records, sa.and_(*mine))).order_by(records.c.id)
    for row in await connection.execute(query):
        earlier[_whose(row)].append(row.id)
    found = {}
    for row in kept:
        first_id = id_floor(id_time_us(row.id) - _BEFORE_US)
        first = next((one for one in earlier[_whose(row)] if first_id <= one < row.id), None)
        if first is not None:
            found[row.id] = first
    return found


def _whose(row: Any) -> tuple[int, int, int | None]:
    """Who asked, and what; of one whom nobody vouches for the cluster, too."""
    return row.user_hash, row.prompt_key, row.cluster if row.flags & _CLAIMED else None


async def _kept(connection: AsyncConnection, record_ids: Sequence[str]) -> list[Any]:
    if not record_ids:
        return []
    ids = sorted(record_ids)
    query = sa.select(*_COLUMNS).where(
        any_of(connection, records.c.id, ids),
        records.c.id.between(ids[0], ids[-1]),
        records.c.user_hash.is_not(None),
        records.c.prompt_key.is_not(None),
        records.c.signals.bitwise_and(_NOT_KEPT) == 0,
    )
    return list((await connection.execute(query)).all())
