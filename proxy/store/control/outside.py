"""Votes that live in another system and are fetched from it: how far each is known here.

The votes themselves are rows of `feedback`, as all are. These rows say which of them were fetched, so that nothing is
asked for twice, and what has to be taken back once it is gone over there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of
from proxy.store.ingest.fetched import keep_fetched
from proxy.store.tables.schema import feedback, outside_votes
from proxy.store.tables.values import OutsideVote

__all__ = ["OutsideVotes", "Voter"]


class Voter(NamedTuple):
    """What is stored of a fetched vote."""

    record_id: str | None
    """None: the record is not there yet."""
    source: str
    external: int | None
    """The id under which it stands; None for votes from before they had one."""


class OutsideVotes:
    """The `outside_votes` table; `system` names one installation of another system."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def of(self, system: str) -> dict[str, OutsideVote]:
        """All that are known, by their id."""
        query = sa.select(outside_votes).where(outside_votes.c.system == system)
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row.id: OutsideVote(id=row.id, changed_s=row.changed_s, fid=row.fid, alias=row.alias) for row in rows}

    async def put(self, system: str, votes: Sequence[OutsideVote]) -> None:
        """They are known as they are now. What was made of them is stored already, or nothing was."""
        if votes:
            async with self._db.write() as connection:
                await keep_fetched(connection, system, votes)

    async def remove(self, system: str, ids: Iterable[str]) -> None:
        """They are gone."""
        mine = outside_votes.c.system == system
        async with self._db.write() as connection:
            await connection.execute(
                sa.delete(outside_votes).where(mine, any_of(connection, outside_votes.c.id, list(ids)))
            )

    async def tidy(self, before_s: int) -> None:
        """Forget those that nobody has changed since then (Unix seconds, by their system's clock) and of which nothing
        is kept any more, whichever system they are of: nothing can be taken back of them, and nobody asks for them."""
        kept = sa.exists().where(feedback.c.fid == outside_votes.c.fid)
        async with self._db.write() as connection:
            await connection.execute(sa.delete(outside_votes).where(outside_votes.c.changed_s < before_s, ~kept))

    async def voters(self, fids: Sequence[str]) -> dict[str, Voter]:
        """Of those of these votes that are kept, by vote."""
        async with self._db.read() as connection:
            query = sa.select(feedback.c.fid, feedback.c.record_id, feedback.c.source, feedback.c.external)
            rows = await connection.execute(query.where(any_of(connection, feedback.c.fid, list(fids))))
            return {row.fid: Voter(row.record_id, row.source, row.external) for row in rows}
