"""Conversations that a provider keeps: each request names only the answer that it goes on from.

Such a request has the (hash of the) id of that answer as its `thread_key`, until the record of the answer is there:
then it has the answer's own key, so that all of a chain have one. Whichever comes first, and whatever is between them:
when a record comes, those that go on from it take its key over, with all that had theirs, and so do the votes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import any_of, pairs
from proxy.store.tables.keys import HOUR_US, alias_hash, id_floor, id_time_us
from proxy.store.tables.schema import aliases, records
from proxy.store.tables.values import NewRecord
from proxy.wire.extract.apis.responses import KIND as RESPONSES

__all__ = ["joined_up"]

_Key = tuple[int, int]
"""User, and what stands for the conversation."""
_COLUMNS: Final = (records.c.id, records.c.user_hash, records.c.conversation, records.c.thread_key)


class _Names:
    """What the keys of this batch have become."""

    def __init__(self) -> None:
        self.now: dict[_Key, _Key] = {}

    def of(self, key: _Key) -> _Key:
        while (later := self.now.get(key)) is not None:
            key = later
        return key


async def joined_up(connection: AsyncConnection, new: Sequence[NewRecord]) -> Mapping[_Key, _Key]:
    """Bring the new records, which are stored, together with those that they go on from, and that go on from them;
    returns which keys have become which."""
    links = [record for record in new if record.kind == RESPONSES.name and record.experiment_id is not None]
    links = sorted((record for record in links if record.user_hash is not None), key=lambda record: record.id)
    if not links:
        return {}
    parents, waiting, names = await _parents(connection, links), await _waiting(connection, links), _Names()
    for record in links:
        assert record.user_hash is not None
        user, own = record.user_hash, record.thread_key if record.conversation is None else record.conversation
        if own is None:
            continue
        parent = parents.get((user, own)) if record.conversation is None else None
        if parent is not None and parent.id != record.id:
            _become(names, (user, own), (user, _own(parent)))
        for alias in map(alias_hash, record.aliases):
            if (user, alias) in waiting:
                _become(names, (user, alias), (user, own))
    settled = {old: names.of(old) for old in names.now}
    oldest = min([links[0].id, *(parent.id for parent in parents.values())])
    await _rename(connection, settled, id_floor(id_time_us(oldest) - HOUR_US))
    return settled


async def _rename(connection: AsyncConnection, settled: Mapping[_Key, _Key], since: str) -> None:
    """Nobody goes on from an answer before it is there: none of those that do is older than `since`."""
    if not settled:
        return
    statement = sa.update(records).where(
        records.c.id >= since,
        records.c.user_hash == sa.bindparam("who"),
        records.c.thread_key == sa.bindparam("old"),
        records.c.conversation.is_(None),
    )
    rows = [{"who": user, "old": old, "now": now} for (user, old), (_, now) in sorted(settled.items())]
    await connection.execute(statement.values(thread_key=sa.bindparam("now")), rows)


def _become(names: _Names, old: _Key, now: _Key) -> None:
    old, now = names.of(old), names.of(now)
    if old != now:
        names.now[old] = now


def _own(row: Any) -> int:
    found = row.thread_key if row.conversation is None else row.conversation
    return int(found)


async def _parents(connection: AsyncConnection, links: Iterable[NewRecord]) -> dict[_Key, Any]:
    """The records that these go on from, by user and hash of their answer's id."""
    hashes = sorted({r.thread_key for r in links if r.conversation is None and r.thread_key is not None})
    if not hashes:
        return {}
    query = sa.select(aliases.c.hash, aliases.c.id).where(any_of(connection, aliases.c.hash, hashes))
    named = defaultdict(list)
    for hashed, record_id in await connection.execute(query):
        named[record_id].append(hashed)
    if not named:
        return {}
    ids = sorted(named)
    wanted = any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1])
    rows = await connection.execute(sa.select(*_COLUMNS).where(*wanted).order_by(records.c.id))
    known = [row for row in rows if row.user_hash is not None and (row.conversation or row.thread_key) is not None]
    return {(row.user_hash, hashed): row for row in known for hashed in named[row.id]}


async def _waiting(connection: AsyncConnection, links: Sequence[NewRecord]) -> set[_Key]:
    """Which of these records' answers others go on from, by user and hash of the answer's id. Nobody goes on from an
    answer before it is there; clocks of hosts may differ by a little."""
    wanted = {(record.user_hash, alias_hash(alias)) for record in links for alias in record.aliases}
    named = sorted((user, hashed) for user, hashed in wanted if user is not None)
    if not named:
        return set()
    since = id_floor(id_time_us(links[0].id) - HOUR_US)
    given, user, key = pairs(connection, named)
    mine = records.c.user_hash == user, records.c.thread_key == key, records.c.id >= since
    query = sa.select(user, key).select_from(given).where(sa.select(records.c.id).where(*mine).exists())
    return {(row[0], row[1]) for row in await connection.execute(query)}
