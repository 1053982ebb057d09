"""Which record an alias means: the last one that has it, unless it is several people's.

A provider mints its ids, but a request id is whatever a client writes: a stranger may send the one that another's
request had. A vote by a name that several people's records have is for none of them. Requests that got no answer do not
take part, unless there are no others: nobody can vote on them, and they need no credential.

All requests of one turn of a chat may carry one name, and not all of those that the UI asks for itself (a title, a
summary) say so. What a person reads is streamed, what a program reads is not: where there are both, the last streamed
answer is meant.

A short name may be the number of a message, which begins anew in each conversation: one that answers of several
conversations have is for none of them, either.

Some votes give several names of one answer (its id, its span, its trace), of which perhaps not all have reached us.
They are tried in their order: the first that means one record wins. Such a vote waits under one hash of all its names,
and `vote_names` says which these are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import can_be_judged
from policies.records import Outcome
from proxy.store.engine.dialect import any_of, upsert
from proxy.store.ingest.chains import Talk
from proxy.store.tables.keys import is_short
from proxy.store.tables.schema import aliases, records, vote_names
from proxy.store.tables.values import NewVote, RecordFlag

__all__ = ["Lists", "Namesakes", "find", "keep_lists", "lists_of", "lists_with"]

Lists = Mapping[int, Sequence[int]]
"""Names by the hash of their list, all of them hashes."""

_MOST: Final = 100
"""Records of one alias that are compared; what more of them share names nothing (a server with one id for all)."""
_COMPARED: Final = tuple(
    records.c[name]
    for name in ("id", "user_hash", "cluster", "flags", "status", "outcome", "conversation", "thread_key")
)
_CLAIMED: Final = int(RecordFlag.CLAIMED)
_STREAMED: Final = int(RecordFlag.STREAMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namesakes:
    """What some aliases, by their hashes, mean."""

    records: dict[int, str] = field(default_factory=dict)
    """The record of each that means one."""
    ambiguous: frozenset[int] = frozenset()
    """Those that several people's records have."""


def lists_of(votes: Iterable[NewVote]) -> Lists:
    """Those of the votes that give several names."""
    given = ((vote.alias_hash, vote.names) for vote in votes)
    return {hashed: names for hashed, names in given if hashed is not None and len(names) > 1}


async def keep_lists(connection: AsyncConnection, lists: Lists, now_us: int) -> None:
    """Votes wait for any of these names. What is kept already is as new as the newest vote that waits for it."""
    if not lists:
        return
    last = sa.select(vote_names.c.hash, sa.func.max(vote_names.c.created_us).label("at_us")).group_by(vote_names.c.hash)
    mine = any_of(connection, vote_names.c.hash, list(lists))
    newest = {row.hash: row.at_us for row in await connection.execute(last.where(mine))}
    rows = [
        {"hash": hashed, "place": place, "name": name, "created_us": max(now_us, newest.get(hashed, 0))}
        for hashed, names in sorted(lists.items())
        for place, name in enumerate(names)
    ]
    await upsert(connection, vote_names, rows)


async def lists_with(connection: AsyncConnection, hashes: Sequence[int]) -> Lists:
    """The lists that have one of these names, with those."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    if hashes:
        mine = any_of(connection, vote_names.c.name, hashes)
        for row in await connection.execute(sa.select(vote_names.c.hash, vote_names.c.name).where(mine)):
            found[row.hash].append(row.name)
    return found


async def find(connection: AsyncConnection, hashes: Iterable[int], new: Lists | None = None) -> Namesakes:
    """What these aliases, or lists of them, mean. `new` are lists that are not kept yet. Tasks are not known by such
    hashes."""
    wanted = set(hashes)
    if not wanted:
        return Namesakes()
    lists = {**await _kept(connection, sorted(wanted - (new or {}).keys())), **(new or {})}
    single = await _meant(
        connection, sorted(wanted - lists.keys() | {name for names in lists.values() for name in names})
    )
    if not lists:
        return single
    meant = {hashed: single.records[hashed] for hashed in wanted - lists.keys() if hashed in single.records}
    for hashed, names in lists.items():
        if (found := next((single.records[name] for name in names if name in single.records), None)) is not None:
            meant[hashed] = found
    unclear = wanted - lists.keys() & single.ambiguous
    unclear |= {hashed for hashed, names in lists.items() if single.ambiguous.issuperset(names)}
    return Namesakes(records=meant, ambiguous=frozenset(unclear))


async def _kept(connection: AsyncConnection, hashes: Sequence[int]) -> dict[int, list[int]]:
    """Those of the hashes that are of lists, with their names in order."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    if hashes:
        query = sa.select(vote_names.c.hash, vote_names.c.name).where(any_of(connection, vote_names.c.hash, hashes))
        for hashed, name in await connection.execute(query.order_by(vote_names.c.hash, vote_names.c.place)):
            found[hashed].append(name)
    return found


async def _meant(connection: AsyncConnection, wanted: Sequence[int]) -> Namesakes:
    ids = await _ids(connection, wanted)
    several = sorted({record_id for found in ids.values() if 1 < len(found) <= _MOST for record_id in found})
    known = await _compared(connection, several)
    meant: dict[int, str] = {}
    unclear: set[int] = set()
    for hashed, found in ids.items():
        rows = [known[record_id] for record_id in found if record_id in known]
        rows = [row for row in rows if can_be_judged(Outcome(row.outcome), row.status)] or rows
        whose = _where if is_short(hashed) else _who
        if len(found) > _MOST or len({whose(row) for row in rows}) > 1:
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


def _where(row: Any) -> object:
    """In which conversation of whose; where that is not known, each record is one."""
    return Talk.of(row) or row.id
