"""What people prefer of two answers, for whoever makes training data of it: by record, and decided by the majority."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa
import zstandard

from proxy.store.engine.database import Database
from proxy.store.ingest.answers import unpacked
from proxy.store.tables.schema import checks, comparisons, models, preferences

__all__ = ["Preference", "read_compared", "read_preferences"]

_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Which of two answers to the question of a record people prefer."""

    check_id: int
    item: str
    choice: Literal["champion", "challenger"]
    champion: str
    """Name of the model."""
    challenger: str

    @property
    def key(self) -> tuple[int, str]:
        """Of the comparison."""
        return self.check_id, self.item


async def read_preferences(db: Database) -> dict[str, tuple[Preference, ...]]:
    """By record, what more people prefer than not; a tie is nobody's preference. Items of a golden file have no record,
    and are left out. People make them one by one, so they fit into memory."""
    champion, challenger = models.alias("champion"), models.alias("challenger")
    query = (
        sa.select(
            preferences.c.check_id,
            preferences.c.item,
            preferences.c.choice,
            comparisons.c.record_id,
            champion.c.name.label("champion"),
            challenger.c.name.label("challenger"),
        )
        .join_from(
            preferences,
            comparisons,
            sa.and_(comparisons.c.check_id == preferences.c.check_id, comparisons.c.item == preferences.c.item),
        )
        .join(checks, checks.c.id == preferences.c.check_id)
        .join(champion, champion.c.id == checks.c.champion_id)
        .join(challenger, challenger.c.id == checks.c.challenger_id)
        .where(comparisons.c.record_id.is_not(None))
        .order_by(preferences.c.check_id, preferences.c.item)
    )
    chosen: defaultdict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    about: dict[tuple[int, str], Any] = {}
    async with db.read() as connection:
        for row in await connection.execute(query):
            chosen[row.check_id, row.item][row.choice] += 1
            about[row.check_id, row.item] = row
    found: defaultdict[str, tuple[Preference, ...]] = defaultdict(tuple)
    for key, row in about.items():
        lead = chosen[key]["challenger"] - chosen[key]["champion"]
        if lead:
            found[row.record_id] += (
                Preference(
                    check_id=row.check_id,
                    item=row.item,
                    choice="challenger" if lead > 0 else "champion",
                    champion=row.champion,
                    challenger=row.challenger,
                ),
            )
    return dict(found)


async def read_compared(db: Database, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Mapping[str, Any]]:
    """The texts of these comparisons; what is gone, or damaged, is left out."""
    found: dict[tuple[int, str], Mapping[str, Any]] = {}
    key = sa.tuple_(comparisons.c.check_id, comparisons.c.item)
    for start in range(0, len(keys), _AT_ONCE):
        query = sa.select(comparisons.c.check_id, comparisons.c.item, comparisons.c.data)
        async with db.read() as connection:
            rows = (await connection.execute(query.where(key.in_(keys[start : start + _AT_ONCE])))).all()
        for row in rows:
            try:
                found[row.check_id, row.item] = unpacked(row.data)
            except (ValueError, zstandard.ZstdError):  # damaged
                continue
    return found
