"""What people preferred when they saw two answers side by side: one choice per comparison and person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import upsert
from proxy.store.tables.keys import id_floor
from proxy.store.tables.schema import comparisons, preferences

__all__ = ["CHOICES", "Choice", "PreferenceCounts", "Preferences"]

Choice = Literal["champion", "challenger", "tie"]
CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceCounts:
    """How people chose in one check."""

    champion: int = 0
    challenger: int = 0
    tie: int = 0
    mine: int = 0
    """Choices of the person who asks."""

    @property
    def total(self) -> int:
        """All choices."""
        return self.champion + self.challenger + self.tie


class Preferences:
    """The `preferences` table."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def put(self, check_id: int, item: str, who: str, choice: Choice) -> bool:
        """Keep a choice, in place of an earlier one of the same person. False: there is no such comparison."""
        there = sa.select(comparisons.c.item).where(comparisons.c.check_id == check_id, comparisons.c.item == item)
        row = {
            "check_id": check_id,
            "item": item,
            "who": who.replace("\x00", ""),
            "choice": choice,
            "at_us": int(self._clock.now() * 1e6),
        }
        async with self._db.write() as connection:
            if (await connection.execute(there)).first() is None:
                return False
            await upsert(connection, preferences, [row])
        return True

    async def withdraw(self, check_id: int, item: str, who: str) -> bool:
        """Take a choice back. False: there was none."""
        mine = (preferences.c.check_id == check_id, preferences.c.item == item, preferences.c.who == who)
        async with self._db.write() as connection:
            return bool((await connection.execute(sa.delete(preferences).where(*mine))).rowcount)

    async def of(self, check_id: int, items: Sequence[str]) -> Mapping[str, Mapping[str, Choice]]:
        """By item: who chose what."""
        query = sa.select(preferences).where(preferences.c.check_id == check_id, preferences.c.item.in_(items))
        found: defaultdict[str, dict[str, Choice]] = defaultdict(dict)
        async with self._db.read() as connection:
            for row in await connection.execute(query.order_by(preferences.c.who)) if items else ():
                found[row.item][row.who] = row.choice
        return found

    async def count_of_records(self, since_us: int, until_us: int) -> int:
        """Records of the window (by when they were asked) with an answer that somebody prefers to another."""
        theirs = sa.and_(comparisons.c.check_id == preferences.c.check_id, comparisons.c.item == preferences.c.item)
        query = (
            sa.select(sa.func.count(comparisons.c.record_id.distinct()))
            .select_from(preferences)
            .join(comparisons, theirs)
            .where(
                preferences.c.choice != "tie",
                comparisons.c.record_id >= id_floor(since_us),
                comparisons.c.record_id < id_floor(until_us),
            )
        )
        async with self._db.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def counts(self, check_id: int, who: str = "") -> PreferenceCounts:
        """How people chose in this check, and how many choices are of `who`."""
        query = sa.select(preferences.c.choice, preferences.c.who, sa.func.count())
        grouped = query.where(preferences.c.check_id == check_id).group_by(preferences.c.choice, preferences.c.who)
        total: Counter[str] = Counter()
        mine = 0
        async with self._db.read() as connection:
            for choice, person, count in await connection.execute(grouped):
                total[choice] += count
                mine += count if person == who else 0
        return PreferenceCounts(mine=mine, **{choice: total[choice] for choice in CHOICES})
