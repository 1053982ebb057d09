"""Conversations that a provider keeps: each request names only the answer that it goes on from.

Such a request has the (hash of the) id of that answer as its `thread_key`, until the record of the answer is there:
then it has the answer's own key, so that all of a chain have one. Whichever comes first, and whatever is between them:
when a record comes, those that go on from it take its key over, with all that had theirs, and so do the votes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import any_of, pairs
from proxy.store.tables.keys import HOUR_US, alias_hash, id_floor, id_time_us, within
from proxy.store.tables.schema import aliases, records
from proxy.store.tables.values import NewRecord, RecordFlag
from proxy.wire.extract.apis.responses import KIND as RESPONSES

__all__ = ["Talk", "joined_up"]

_COLUMNS: Final = tuple(
    records.c[name] for name in ("id", "user_hash", "conversation", "thread_key", "cluster", "flags")
)
_CLAIMED: Final = int(RecordFlag.CLAIMED)


class Talk(NamedTuple):
    """A conversation, or what stands for it, of one user. Where nobody vouches for the name it is of its cluster, too:
    a stranger who makes the name and the conversation up is in another one."""

    user: int
    cluster: int | None
    """None where somebody vouches for the name."""
    key: int

    @classmethod
    def of(cls, record: Any) -> Self | None:
        """From a new record, or a row; None where nobody can tell."""
        key = record.thread_key if record.conversation is None else record.conversation
        if record.user_hash is None or key is None:
            return None
        return cls(record.user_hash, (record.cluster or 0) if int(record.flags) & _CLAIMED else None, key)

    @property
    def stored(self) -> tuple[int, int]:
        """As the table of votes has it: user and conversation."""
        return self.user, self.key if self.cluster is None else within(self.key, self.cluster)


class _Names:
    """What the keys of this batch have become."""

    def __init__(self) -> None:
        self.now: dict[Talk, Talk] = {}

    def of(self, key: Talk) -> Talk:
        while (later := self.now.get(key)) is not None:
            key = later
        return key


async def joined_up(connection: AsyncConnection, new: Sequence[NewRecord]) -> Mapping[Talk, Talk]:
    """Bring the new records, which are stored, together with those that they go on from, and that go on from them;
    returns which keys have become which."""
    tested = (record for record in new if record.kind == RESPONSES.name and record.experiment_id is not None)
    links = [(talk, record) for record in tested if (talk := Talk.of(record)) is not None]
    links.sort(key=lambda link: link[1].id)
    if not links:
        return {}
    parents, waiting, names = await _parents(connection, links), await _waiting(connection, links), _Names()
    for own, record in links:
        parent = parents.get(own) if record.conversation is None else None
        above = None if parent is None or parent.id == record.id else Talk.of(parent)
        if above is not None:
            _become(names, own, above)
        for alias in map(alias_hash, record.aliases):
            if (below := own._replace(key=alias)) in waiting:
                _become(names, below, own)
    settled = {old: names.of(old) for old in names.now}
    oldest = min([links[0][1].id, *(parent.id for parent in parents.values())])
    await _rename(connection, settled, id_floor(id_time_us(oldest) - HOUR_US))
    return settled


async def _rename(connection: AsyncConnection, settled: Mapping[Talk, Talk], since: str) -> None:
    """Nobody goes on from an answer before it is there: none of those that do is older than `since`."""
    claimed = records.c.flags.bitwise_and(_CLAIMED)
    mine = (
        records.c.id >= since,
        records.c.user_hash == sa.bindparam("who"),
        records.c.thread_key == sa.bindparam("old"),
        records.c.conversation.is_(None),
    )
    theirs = claimed != 0, sa.func.coalesce(records.c.cluster, 0) == sa.bindparam("where")
    rows = [
        {"who": old.user, "old": old.key, "now": now.key, "where": old.cluster}
        for old, now in sorted(settled.items(), key=str)
    ]
    vouched = [{name: row[name] for name in ("who", "old", "now")} for row in rows if row["where"] is None]
    for values, which in ((vouched, (claimed == 0,)), ([row for row in rows if row["where"] is not None], theirs)):
        if values:
            statement = sa.update(records).where(*mine, *which).values(thread_key=sa.bindparam("now"))
            await connection.execute(statement, values)


def _become(names: _Names, old: Talk, now: Talk) -> None:
    old, now = names.of(old), names.of(now)
    if old != now:
        names.now[old] = now


async def _parents(connection: AsyncConnection, links: Sequence[tuple[Talk, NewRecord]]) -> dict[Talk, Any]:
    """The records that these go on from, by whose it is and the hash of their answer's id."""
    hashes = sorted({talk.key for talk, record in links if record.conversation is None})
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
    known = ((row, talk) for row in rows if (talk := Talk.of(row)) is not None)
    return {talk._replace(key=hashed): row for row, talk in known for hashed in named[row.id]}


async def _waiting(connection: AsyncConnection, links: Sequence[tuple[Talk, NewRecord]]) -> set[Talk]:
    """Which of these records' answers others go on from, by whose it is and the hash of the answer's id. Nobody goes on
    from an answer before it is there; clocks of hosts may differ by a little."""
    named = sorted({(talk.user, alias_hash(alias)) for talk, record in links for alias in record.aliases})
    if not named:
        return set()
    since = id_floor(id_time_us(links[0][1].id) - HOUR_US)
    given, user, key = pairs(connection, named)
    mine = records.c.user_hash == user, records.c.thread_key == key, records.c.id >= since
    claimed = records.c.flags.bitwise_and(_CLAIMED)
    query = sa.select(user, key, records.c.cluster, claimed).select_from(given.join(records, sa.and_(*mine)))
    rows = await connection.execute(query.distinct())
    return {Talk(row[0], (row[2] or 0) if row[3] else None, row[1]) for row in rows}
