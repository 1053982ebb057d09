"""What new requests reveal of earlier ones, in tests: found by one query a batch, exact in whatever order they come.

What is revealed of a request follows from all that its user asked within some minutes (`policies.signals`). So with
every new request that is worked out again for those around it, from the rows that are there; nothing is remembered
beside them, and a batch that comes twice, or in another order, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.signals import EARLIER_S, LONGEST_S, REVEALED, UserRequest, shown
from proxy.store.engine.dialect import among
from proxy.store.ingest.facts import RecordFacts, Signalled
from proxy.store.ingest.votes import FACTS, facts_of_row
from proxy.store.tables.keys import id_floor, id_time_us
from proxy.store.tables.schema import records
from proxy.store.tables.values import NewRecord

__all__ = ["revealed"]

_AROUND_US: Final = int((EARLIER_S + LONGEST_S) * 1e6)
"""What has to be seen around a new request, for all that it changes to be worked out."""
_COLUMNS: Final = (*FACTS, records.c.prompt_key, records.c.answers_key)

_Who = tuple[int | None, int | None]
"""A user; of one whom nobody vouches for the cluster, too."""
_Group = tuple[_Who, int]
"""Who asked what."""


async def revealed(
    connection: AsyncConnection, new: Sequence[NewRecord], facts: Mapping[str, RecordFacts]
) -> list[Signalled]:
    """The records of which these new ones, which are stored, reveal something: with what is known from now on, which
    is written down, and has to be counted (`deltas.counted`)."""
    telling = [record for record in new if _tells(record)]
    if not telling:
        return []
    around = await _around(connection, telling)
    copies: defaultdict[_Group, list[Any]] = defaultdict(list)
    complaints: defaultdict[_Group, list[Any]] = defaultdict(list)
    for row in around:
        who = _who(row.user_hash, row.cluster, facts_of_row(row).claimed)
        copies[who, row.prompt_key].append(row)
        if row.answers_key is not None:
            complaints[who, row.answers_key].append(row)
    changed = [
        one
        for group, news in _touched(telling, facts).items()
        for one in _changed(copies[group], complaints[group], news)
    ]
    if changed:
        update = sa.update(records).where(records.c.id == sa.bindparam("key"))
        rows = [{"key": one.record.id, "new_signals": one.signals} for one in sorted(changed, key=_id)]
        await connection.execute(update.values(signals=sa.bindparam("new_signals")), rows)
    return changed


def _tells(record: NewRecord) -> bool:
    known = record.user_hash is not None and record.experiment_id is not None
    return known and record.signals is not None and record.prompt_key is not None


def _who(user_hash: int | None, cluster: int | None, claimed: bool) -> _Who:
    return user_hash, cluster if claimed else None


async def _around(connection: AsyncConnection, telling: Sequence[NewRecord]) -> list[Any]:
    """What their users asked around them, as far as it is the same, or complains about it."""
    times = [id_time_us(record.id) for record in telling]
    between = records.c.id.between(id_floor(min(times) - _AROUND_US), id_floor(max(times) + _AROUND_US + 1000))
    users = sorted({record.user_hash for record in telling if record.user_hash is not None})
    keys = sorted({key for record in telling for key in (record.prompt_key, record.answers_key) if key is not None})
    mine = among(connection, records.c.user_hash, users)
    same = among(connection, records.c.prompt_key, keys) | among(connection, records.c.answers_key, keys)
    query = sa.select(*_COLUMNS).where(mine, between, records.c.signals.is_not(None), same)
    return list((await connection.execute(query)).all())


def _touched(telling: Iterable[NewRecord], facts: Mapping[str, RecordFacts]) -> dict[_Group, list[float]]:
    """Who asked what, that these say something of, and when they were asked."""
    found: defaultdict[_Group, list[float]] = defaultdict(list)
    for record in telling:
        who = _who(record.user_hash, record.cluster, facts[record.id].claimed)
        for key in {record.prompt_key, record.answers_key} - {None}:
            assert key is not None
            found[who, key].append(id_time_us(record.id) / 1e6)
    return found


def _changed(copies: Sequence[Any], complaints: Sequence[Any], news: Sequence[float]) -> Iterable[Signalled]:
    """Of the requests around the new ones, those that show something else than was known."""
    if not copies or (len(copies) == 1 and not complaints):
        return
    bits = shown([_asked(row) for row in copies], [_asked(row) for row in complaints])
    for row in copies:
        at_s = id_time_us(row.id) / 1e6
        if not any(new_s - EARLIER_S <= at_s <= new_s + LONGEST_S for new_s in news):
            continue
        signals = (row.signals & ~REVEALED) | bits.get(row.id, 0)
        if signals != row.signals:
            yield Signalled(facts_of_row(row), signals)


def _asked(row: Any) -> UserRequest:
    started_s = id_time_us(row.id) / 1e6
    return UserRequest(row.id, started_s, started_s + row.duration_us / 1e6, row.signals)


def _id(one: Signalled) -> str:
    return one.record.id
