"""Which record an alias means: the last one that has it, unless it is several people's.

A provider mints its ids, but a request id is whatever a client writes: a stranger may send the one that another's
request had. A vote by a name that several people's records have is for none of them. Requests that got no answer do not
take part, unless there are no others: nobody can vote on them, and they need no credential.

All requests of one turn of a chat may carry one name, and not all of those that the UI asks for itself (a title, a
summary) say so. What a person reads is streamed, what a program reads is not: where there are both, the last streamed
answer is meant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import can_be_judged
from policies.records import Outcome
from proxy.store.engine.dialect import any_of
from proxy.store.tables.schema import aliases, records
from proxy.store.tables.values import RecordFlag

__all__ = ["Namesakes", "find"]

_MOST: Final = 100
"""Records of one alias that are compared; what more of them share names nothing (a server with one id for all)."""
_COMPARED: Final = tuple(records.c[name] for name in ("id", "user_hash", "cluster", "flags", "status", "outcome"))
_CLAIMED: Final = int(RecordFlag.CLAIMED)
_STREAMED: Final = int(RecordFlag.STREAMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namesakes:
    """What some aliases, by their hashes, mean."""

    records: dict[int, str] = field(default_factory=dict)
    """The record of each that means one."""
    ambiguous: frozenset[int] = frozenset()
    """Those that several people's records have."""


async def find(connection: AsyncConnection, hashes: Iterable[int]) -> Namesakes:
    """What these aliases mean. Tasks are not known by such hashes."""
    wanted = sorted(set(hashes))
    if not wanted:
        return Namesakes()
    ids = await _ids(connection, wanted)
    several = sorted({record_id for found in ids.values() if 1 < len(found) <= _MOST for record_id in found})
    known = await _compared(connection, several)
    meant: dict[int, str] = {}
    unclear: set[int] = set()
    for hashed, found in ids.items():
        rows = [known[record_id] for record_id in found if record_id in known]
        rows = [row for row in rows if can_be_judged(Outcome(row.outcome), row.status)] or rows
        if len(found) > _MOST or len({_who(row) for row in rows}) > 1:
            unclear.add(hashed)
        else:
            shown = [row for row in rows if row.flags & _STREAMED] or rows
            meant[hashed] = shown[-1].id if shown else found[-1]
    return Namesakes(records=meant, ambiguous=frozenset(unclear))


async def _ids(connection: AsyncConnection, hashes: Sequence[int]) -> dict[int, list[str]]:
    """The records of each alias, oldest first; of one that more have than are compared, as many nameless ones."""
    mine = any_of(connection, aliases.c.hash, list(hashes))
    counts = sa.select(aliases.c.hash, sa.func.count()).where(mine).group_by(aliases.c.hash)
    found: defaultdict[int, list[str]] = defaultdict(list)
    few = []
    for hashed, n in await connection.execute(counts):
        if n <= _MOST:
            few.append(hashed)
        else:
            found[hashed] = [""] * (_MOST + 1)
    if few:
        query = sa.select(aliases.c.hash, aliases.c.id).where(any_of(connection, aliases.c.hash, few))
        for hashed, record_id in await connection.execute(query.order_by(aliases.c.id)):
            found[hashed].append(record_id)
    return found


async def _compared(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Any]:
    """Those of the records that are still there."""
    if not ids:
        return {}
    wanted = any_of(connection, records.c.id, list(ids)), records.c.id.between(ids[0], ids[-1])
    return {row.id: row for row in await connection.execute(sa.select(*_COMPARED).where(*wanted))}


def _who(row: Any) -> tuple[object, int | None]:
    """Whose record it is. Without a user each is somebody else's; a claimed name is its cluster's."""
    return (row.id if row.user_hash is None else row.user_hash, row.cluster if row.flags & _CLAIMED else None)
