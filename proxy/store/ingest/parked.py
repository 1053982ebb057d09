"""Votes that are here before their record, or without it: they wait, and go with what they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import any_of
from proxy.store.ingest.namesakes import lists_with
from proxy.store.tables.schema import feedback, vote_names
from proxy.store.tables.values import NewRecord

__all__ = ["delete_parked", "forget_parked"]

_CHUNK: Final = 200
"""Ids in one statement."""


async def forget_parked(connection: AsyncConnection, refused: Iterable[NewRecord], hashes: Sequence[int]) -> None:
    """Delete the votes that wait for records which are refused, by id or by one of these hashes of their aliases."""
    await delete_parked(connection, [record.id for record in refused], hashes)


async def delete_parked(connection: AsyncConnection, ids: Sequence[str], hashes: Sequence[int]) -> int:
    """Delete votes that wait for these records, or for records with these hashes of aliases; returns how many."""
    gone = 0
    parked = feedback.c.joined.is_(sa.false())
    for start in range(0, len(ids), _CHUNK):
        where = any_of(connection, feedback.c.record_id, ids[start : start + _CHUNK])
        gone += (await connection.execute(sa.delete(feedback).where(parked, where))).rowcount
    for start in range(0, len(hashes), _CHUNK):
        some = hashes[start : start + _CHUNK]
        lists = await lists_with(connection, some)
        where = any_of(connection, feedback.c.alias_hash, [*some, *sorted(lists)])
        unnamed = feedback.c.record_id.is_(None)
        gone += (await connection.execute(sa.delete(feedback).where(parked, unnamed, where))).rowcount
        if lists:
            await connection.execute(sa.delete(vote_names).where(any_of(connection, vote_names.c.hash, sorted(lists))))
    return gone
