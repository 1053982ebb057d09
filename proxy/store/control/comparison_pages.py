"""The answers that a check has compared, page by page: all of them, those that tell something, or those with a tag.

Pages go by key, never by an offset: the last page of fifty thousand costs what the first does. The order is that of the
items, or the worst (the best) first, and both have an index; a tag has none, so a page looks at a limited number of
comparisons for it and says where to go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
import zstandard

from proxy.store.control.comparisons import ComparedRow, row_of
from proxy.store.engine.database import Database
from proxy.store.ingest.answers import unpacked
from proxy.store.tables.schema import comparisons, preferences

__all__ = ["ComparedPage", "ComparisonFilter", "ComparisonPages", "OutcomeCounts", "Show"]

_LOOKED_AT: Final = 4_000
"""Comparisons that a page looks at for a tag."""
_CHUNK: Final = 500


class Show(StrEnum):
    """Which comparisons are wanted."""

    ALL = "all"
    WORSE = "worse"
    """The challenger's answer was found worse; the worst first."""
    BETTER = "better"
    """The challenger's answer was found better; the best first."""
    OPEN = "open"
    """`ComparisonFilter.who` has not said yet which is better, of those whose answers differ."""
    DISAGREES = "disagrees"
    """What was found, by the judge where there is one, is the opposite of what a person prefers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonFilter:
    """What to list."""

    show: Show = Show.ALL
    tag: str | None = None
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPage:
    """Some comparisons, in order."""

    rows: Sequence[ComparedRow]
    cursor: str | None
    """Where to go on; None at the end. A page may be short, even empty, and still have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """Comparisons of a check."""

    compared: int
    worse: int
    better: int


class ComparisonPages:
    """Reads the `comparisons` table for people."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def counts(self, check_id: int) -> OutcomeCounts:
        """How many have an outcome, and which."""
        outcome = comparisons.c.outcome
        query = sa.select(
            sa.func.count(outcome),
            sa.func.coalesce(sa.func.sum(sa.case((outcome < 0, 1), else_=0)), 0),
            sa.func.coalesce(sa.func.sum(sa.case((outcome > 0, 1), else_=0)), 0),
        ).where(comparisons.c.check_id == check_id)
        async with self._db.read() as connection:
            compared, worse, better = (await connection.execute(query)).one()
        return OutcomeCounts(compared=int(compared), worse=int(worse), better=int(better))

    async def page(
        self, check_id: int, wanted: ComparisonFilter, *, cursor: str | None = None, limit: int = 50
    ) -> ComparedPage:
        """Those after `cursor`, at most `limit`. Raises ValueError where the cursor is none of such a list."""
        keys: list[tuple[str, float | None]] = []
        looked, after = 0, None if cursor is None else _after(cursor, wanted.show)
        chunk = limit + 1 if wanted.tag is None else _CHUNK
        while True:
            async with self._db.read() as connection:
                found = (await connection.execute(_keys(check_id, wanted, after).limit(chunk))).all()
            looked += len(found)
            for row in found:
                after = _Place(row.item, row.outcome)
                if wanted.tag is None or wanted.tag in (row.tags or ()):
                    keys.append((row.item, row.outcome))
                if len(keys) > limit:
                    break
            if len(keys) > limit or len(found) < chunk or looked >= _LOOKED_AT:
                break
        more = len(keys) > limit or (len(found) == chunk and looked >= _LOOKED_AT)
        if len(keys) > limit:
            after = _Place(*keys[limit - 1])
        rows = await self._rows(check_id, [item for item, _ in keys[:limit]])
        return ComparedPage(rows=rows, cursor=_cursor(after, wanted.show) if more and after is not None else None)

    async def first(self, check_id: int, wanted: ComparisonFilter, *, cursor: str | None = None) -> ComparedRow | None:
        """The first one of such a list, or the first after `cursor`; None where there is none. Raises ValueError as
        `page` does."""
        while True:
            page = await self.page(check_id, wanted, cursor=cursor, limit=1)
            cursor = page.cursor
            if page.rows or cursor is None:
                return page.rows[0] if page.rows else None

    async def after(self, row: ComparedRow, wanted: ComparisonFilter) -> ComparedRow | None:
        """The one that follows `row` in such a list; None at its end."""
        return await self.first(row.check_id, wanted, cursor=_cursor(_Place(row.item, row.outcome), wanted.show))

    async def before(self, row: ComparedRow, wanted: ComparisonFilter) -> ComparedRow | None:
        """The one before `row` in such a list, whose tag may be any; None at its beginning."""
        place = _Place(row.item, row.outcome)
        while True:
            query = _keys(row.check_id, wanted, place, backwards=True).limit(1)
            async with self._db.read() as connection:
                found = (await connection.execute(query)).first()
            if found is None:
                return None
            if rows := await self._rows(row.check_id, [found.item]):
                return rows[0]
            place = _Place(found.item, found.outcome)

    async def _rows(self, check_id: int, items: Sequence[str]) -> list[ComparedRow]:
        query = sa.select(comparisons).where(comparisons.c.check_id == check_id, comparisons.c.item.in_(items))
        async with self._db.read() as connection:
            found = (await connection.execute(query)).all() if items else []
        rows = await asyncio.to_thread(lambda: {row.item: _with_texts(row) for row in found})
        return [rows[item] for item in items if item in rows and _whole(rows[item])]


def _whole(row: ComparedRow) -> bool:
    """Whether both answers are there: that of a copied request comes before the champion's."""
    return bool(row.data.get("champion")) and bool(row.data.get("challenger"))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a list stands."""

    item: str
    outcome: float | None


def _cursor(place: _Place, show: Show) -> str:
    return f"{place.outcome!r}/{place.item}" if show in (Show.WORSE, Show.BETTER) else place.item


def _after(cursor: str, show: Show) -> _Place:
    if show not in (Show.WORSE, Show.BETTER):
        return _Place(cursor, None)
    number, mark, item = cursor.partition("/")
    try:
        outcome = float(number) if mark and len(number) < 40 else None
    except ValueError:
        outcome = None
    if outcome is None or not -1.0 <= outcome <= 1.0:
        raise ValueError("cursor: not valid; use the cursor that the list returned")
    return _Place(item, outcome)


def _keys(
    check_id: int, wanted: ComparisonFilter, place: _Place | None, *, backwards: bool = False
) -> sa.Select[tuple[Any, ...]]:
    """The keys that are wanted, in order, from behind `place` on (or from before it backwards)."""
    item, outcome = comparisons.c.item, comparisons.c.outcome
    query = sa.select(item, outcome, comparisons.c.tags).where(comparisons.c.check_id == check_id)
    if wanted.show in (Show.WORSE, Show.BETTER):
        downwards = (wanted.show is Show.BETTER) is not backwards
        query = query.where(outcome < 0 if wanted.show is Show.WORSE else outcome > 0)
        if place is not None and place.outcome is not None:
            query = query.where(_beyond(place, downwards=downwards))
        key = outcome.desc() if downwards else outcome
        return query.order_by(key, item.desc() if downwards else item)
    if wanted.show is Show.OPEN:
        mine = sa.select(sa.literal(1)).where(
            preferences.c.check_id == comparisons.c.check_id,
            preferences.c.item == item,
            preferences.c.who == wanted.who,
        )
        query = query.where(~mine.exists(), _differ())
    elif wanted.show is Show.DISAGREES:
        query = query.where(item.in_(_disputed(check_id)), outcome != 0)
    if place is not None:
        query = query.where(item < place.item if backwards else item > place.item)
    return query.order_by(item.desc() if backwards else item)


def _differ() -> sa.ColumnElement[bool]:
    """Whether the words of both answers are not the same. Without words, as of calls, that is for people to see."""
    old, new = (comparisons.c.facts[side]["said"].as_string() for side in ("champion", "challenger"))
    return sa.or_(sa.func.coalesce(old, "") == "", old.is_distinct_from(new))


def _beyond(place: _Place, *, downwards: bool) -> sa.ColumnElement[bool]:
    """Behind a place in the order of outcomes; ties by item, in the direction of the outcomes."""
    key = sa.tuple_(comparisons.c.outcome, comparisons.c.item)
    at = sa.tuple_(sa.literal(place.outcome, sa.Double()), sa.literal(place.item))
    return key < at if downwards else key > at


def _disputed(check_id: int) -> sa.Select[tuple[str]]:
    """Items of which somebody prefers what was found worse. Preferences are few, and lead."""
    theirs = sa.and_(
        comparisons.c.check_id == preferences.c.check_id,
        comparisons.c.item == preferences.c.item,
    )
    against = sa.or_(
        sa.and_(preferences.c.choice == "challenger", comparisons.c.outcome < 0),
        sa.and_(preferences.c.choice == "champion", comparisons.c.outcome > 0),
    )
    return (
        sa.select(preferences.c.item)
        .join_from(preferences, comparisons, theirs)
        .where(preferences.c.check_id == check_id, against)
    )


def _with_texts(row: Any) -> ComparedRow:
    """Without them where they are damaged: the rest of a page is still worth reading."""
    try:
        return row_of(row, unpacked(row.data))
    except (ValueError, zstandard.ZstdError):
        return row_of(row)
