"""Forgetting one user in the database: rows, votes, statistics, and what is still on its way here in a spool.

The user's name (a keyed hash) is written down first, so that records made before that instant are refused whenever
they arrive; then rows go in small transactions. Each step may be repeated. What models learnt cannot be unlearnt: the
answer names them. What lies beside the database is the hosts' part (`proxy.app.deletion`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.clock import Clock
from proxy.errors import TemporaryError
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of, for_update
from proxy.store.ingest import statistics
from proxy.store.ingest.bodies import BodyCodec, grouped
from proxy.store.ingest.conversations import hold
from proxy.store.ingest.deltas import Deltas
from proxy.store.ingest.parked import delete_parked
from proxy.store.ingest.recounts import FACTS, facts_of_row
from proxy.store.retention.forgotten import announce
from proxy.store.retention.pruning import alias_slices
from proxy.store.retention.reasons import forget_words
from proxy.store.tables.keys import alias_hash
from proxy.store.tables.schema import (
    aliases,
    bodies,
    checks,
    comparisons,
    dictionaries,
    feedback,
    judgements,
    outside_votes,
    preferences,
    records,
    replicas,
    scores,
    vote_names,
)
from proxy.store.tables.values import Deleted
from proxy.version import __version__

__all__ = ["Deletion"]

_CHUNK: Final = 200
_CHECKPOINTS: Final = 40
_CHECKPOINT_WAIT_S: Final = 0.25
_SMALL: Final = 512 << 20
"""Bytes up to which a SQLite file is written anew: within seconds."""


@dataclass(slots=True)
class _Tally:
    ids: list[str] = field(default_factory=list)
    bodies: int = 0
    votes: int = 0
    scores: int = 0


class Deletion:
    """What goes because somebody asks for it."""

    def __init__(self, db: Database, codec: BodyCodec, clock: Clock) -> None:
        self._db = db
        self._codec = codec
        self._clock = clock

    async def delete_user(self, user_hash: int, names: Sequence[str] = (), at_us: int | None = None) -> Deleted:
        """Remove every row of the user, also those still in a spool, and say which models were trained on them.
        Idempotent; stopped half-way, the next call goes on.

        `names`: as the user is called by back ends that vote in their name; such votes on others' records lose the name
        and what they say, and go on counting. `at_us`: what is from before then is refused when it comes in; None: now.
        """
        db, codec = self._db, self._codec
        at_us = int(self._clock.now() * 1e6) if at_us is None else at_us
        async with db.write() as connection:
            announced = await announce(connection, at_us, user_hash)
        async with db.write() as connection:
            await hold(connection)
            users = await statistics.forget_user(connection, user_hash)
            await _delete_comparisons(connection, comparisons.c.user_hash == user_hash)
        await codec.prepare(())
        tally = _Tally()
        while await _delete_records(db, codec, user_hash, tally):
            pass
        found = await _delete_aliases(db, set(tally.ids))
        await _forget_outside(db)
        tally.votes += found.votes + await _unname(db, user_hash, names)
        words = await forget_words(db, announced.runs)
        await _checkpoint(db)
        return Deleted(
            at_us=announced.at_us,
            records=len(tally.ids),
            bodies=tally.bodies,
            votes=tally.votes,
            scores=tally.scores,
            aliases=found.aliases,
            users=users,
            words=words,
            models=announced.models,
            runs=announced.runs,
        )

    async def forget_words(self, run_ids: Sequence[str]) -> int:
        """Blank what these trainings said, wherever the loop wrote it down; returns how many rows had such words."""
        return await forget_words(self._db, run_ids)

    async def retire_dictionary(self) -> bool | None:
        """Pack anew what the dictionary of raw bodies is needed for, which an earlier version trained, and remove it.

        True: it is gone now; None: there was none; False: it stays, as a host of an earlier version may still use it.
        """
        if not await self._codec.has_raw():
            return None
        await self._codec.retire()
        async with self._db.read() as connection:
            older = await connection.scalar(sa.select(replicas.c.id).where(replicas.c.version != __version__).limit(1))
        return False if older is not None else await self._codec.forget_raw()

    async def compact(self) -> str:
        """Have the bytes of what was deleted gone from the files; returns what remains, and why, or "".

        SQLite overwrites what is deleted, but a page that was split may hold an older copy of its neighbours, and the
        write-ahead log holds earlier pages: the file is written anew, unless that takes long, and the log is emptied.
        """
        db = self._db
        if db.dialect != "sqlite":
            return await _vacuum(db)
        large = sum(file.stat().st_size for file in db.files() if file.exists()) > _SMALL
        if not large:
            async with db.outside_transaction() as connection:
                for statement in ("PRAGMA temp_store = FILE", "VACUUM", "PRAGMA temp_store = MEMORY"):
                    await connection.execute(sa.text(statement))
        for _ in range(_CHECKPOINTS):
            if await _checkpoint(db):
                return (
                    "parts of pages may remain until they are used again: `VACUUM` when there is time" if large else ""
                )
            await asyncio.sleep(_CHECKPOINT_WAIT_S)
        return "the write-ahead log: it is in use for longer than usual; repeat the command"


async def _delete_records(db: Database, codec: BodyCodec, user_hash: int, tally: _Tally) -> bool:
    """Delete some of the user's records, with what hangs on them; False at the end."""
    async with db.write() as connection:
        query = sa.select(*FACTS, records.c.body).where(records.c.user_hash == user_hash)
        found = await connection.execute(for_update(connection, query.order_by(records.c.id).limit(_CHUNK)))
        rows = found.all()
        if not rows:
            return False
        ids = [row.id for row in rows]
        deltas = Deltas()
        for row in rows:
            deltas.forgotten(facts_of_row(row))
        await deltas.write(connection)
        packed = 0
        for key, places in grouped(row.body for row in rows).items():
            packed += await codec.without(connection, key, places)
        gone = [await _delete(connection, column, ids) for column in (feedback.c.record_id, scores.c.record_id)]
        await _delete(connection, judgements.c.record_id, ids)
        await _delete(connection, records.c.id, ids)
        mine = comparisons.c.check_id.in_(sa.select(checks.c.id)) & comparisons.c.item.in_(ids)
        await _delete_comparisons(connection, mine)  # where the record alone knows whose it is
    tally.ids += ids
    tally.bodies += packed
    tally.votes += gone[0]
    tally.scores += gone[1]
    return True


async def _delete_comparisons(connection: AsyncConnection, which: sa.ColumnElement[bool]) -> None:
    """With what people said of them."""
    same = (preferences.c.check_id == comparisons.c.check_id) & (preferences.c.item == comparisons.c.item)
    await connection.execute(sa.delete(preferences).where(sa.exists().where(same, which)))
    await connection.execute(sa.delete(comparisons).where(which))


async def _delete(connection: AsyncConnection, key: sa.Column[str], ids: Sequence[str]) -> int:
    where = key.in_(ids) & key.between(ids[0], ids[-1])
    return int((await connection.execute(sa.delete(key.table).where(where))).rowcount)


@dataclass(slots=True)
class _Aliases:
    aliases: int = 0
    votes: int = 0


async def _delete_aliases(db: Database, ids: set[str]) -> _Aliases:
    """Aliases are kept by hash alone: walk them all, a slice at a time. Votes that wait for one of them go too, or for
    one of the records by its own id."""
    found: list[dict[str, Any]] = []
    for part in alias_slices() if ids else ():
        async with db.read() as connection:
            rows = await connection.execute(sa.select(aliases).where(part))
            found += [{"a": row.hash, "b": row.id} for row in rows if row.id in ids]
    gone = _Aliases(aliases=len(found))
    if ids:
        one = sa.delete(aliases).where(aliases.c.hash == sa.bindparam("a"), aliases.c.id == sa.bindparam("b"))
        async with db.write() as connection:
            if found:
                await connection.execute(one, found)
            names = {row["a"] for row in found} | {alias_hash(record_id) for record_id in ids}
            gone.votes = await delete_parked(connection, (), sorted(names))
    return gone


async def _forget_outside(db: Database) -> None:
    """Of fetched votes that are kept no more nothing but their own ids stays: without these they would be fetched
    again."""
    kept = sa.exists().where(feedback.c.fid == outside_votes.c.fid)
    async with db.write() as connection:
        gone = sa.update(outside_votes).where(outside_votes.c.alias.is_not(None), ~kept)
        await connection.execute(gone.values(alias=None))


async def _unname(db: Database, user_hash: int, names: Sequence[str]) -> int:
    """Votes in the user's name on records of others."""
    if not names:
        return 0
    blank = {"source": f"deleted-{user_hash & 0xFFFFFFFF:08x}", "comment": None, "correction": None, "tags": sa.null()}
    async with db.write() as connection:
        where = any_of(connection, feedback.c.source, list(names))
        return int((await connection.execute(sa.update(feedback).where(where).values(blank))).rowcount)


async def _checkpoint(db: Database) -> bool:
    """Empty SQLite's write-ahead log, which still holds the old pages; False where a reader needs it yet."""
    if db.dialect != "sqlite":
        return True
    async with db.outside_transaction() as connection:
        busy, *_rest = (await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))).one()
    return not busy


async def _vacuum(db: Database) -> str:
    """PostgreSQL keeps dead rows until they are vacuumed, and their bytes until the room is used again."""
    tables = [feedback, scores, judgements, comparisons, preferences, dictionaries, aliases, records, bodies,
              outside_votes, vote_names]  # fmt: skip
    try:
        for table in tables:
            async with db.outside_transaction() as connection:
                await connection.execute(sa.text(f"VACUUM {table.name}"))
    except TemporaryError:
        return "dead rows, until autovacuum has come by"
    return ""
