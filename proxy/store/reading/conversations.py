"""Votes on whole conversations, as pages and metrics show them: how many count where, and how many count nowhere."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from policies.records import Arm
from proxy.store.engine.database import Database
from proxy.store.tables.schema import conversation_votes

__all__ = ["ConversationCounts", "ConversationVotes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationCounts:
    """ConversationVotes with a vote, by what it says."""

    positive: int = 0
    negative: int = 0
    neutral: int = 0
    """Neither, or taken back."""
    mixed: int = 0
    """Positive or negative, but both arms have answered: they count nowhere."""


class ConversationVotes:
    """The votes on conversations of one database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def counts(self, experiment_id: int) -> dict[tuple[int, Arm], ConversationCounts]:
        """By epoch and arm of their last answer, of those that have an answer in the experiment."""
        table = conversation_votes
        columns = (table.c.epoch, table.c.arm, table.c.mixed, table.c.value)
        query = sa.select(*columns, sa.func.count()).where(table.c.experiment_id == experiment_id).group_by(*columns)
        found: dict[tuple[int, Arm], dict[str, int]] = {}
        async with self._db.read() as connection:
            for epoch, arm, mixed, value, count in await connection.execute(query):
                name = "neutral" if not value else "mixed" if mixed else "positive" if value > 0 else "negative"
                sums = found.setdefault((epoch, Arm(arm)), {})
                sums[name] = sums.get(name, 0) + count
        return {key: ConversationCounts(**sums) for key, sums in found.items()}
