"""Which votes of another system are known: written in the transaction that stores what was made of them.

Were it written later, somebody who is killed in between would leave a vote that nobody can take back: the other system
does not list it any more when it is deleted there, and here nobody would know whence it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import upsert
from proxy.store.tables.schema import outside_votes
from proxy.store.tables.values import OutsideVote

__all__ = ["keep_fetched"]


async def keep_fetched(connection: AsyncConnection, system: str, votes: Sequence[OutsideVote]) -> None:
    """The votes of `system` are known as they are now."""
    await upsert(connection, outside_votes, [{"system": system, **asdict(vote)} for vote in votes])
