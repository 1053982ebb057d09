"""What new requests reveal of earlier ones, in tests: exact in whatever order they come, and bounded whatever comes.

What is revealed of a request follows from all that its user asked within some minutes (`policies.signals`). So with
every new request that is worked out again for those around it, from the rows that are there; nothing is remembered
beside them, and a batch that comes twice, or in another order, changes nothing.

Most requests ask what their user has asked just once: one query a batch says so, a look into an index for each. Of the
others what is in their span of time and the two beside it is read, unless that is more than a person asks: then
nothing is said of that span, and no more than `MOST_ALIKE` of its rows and the batch's own are ever looked at. The
limit is of what carries one name, whatever clusters it came from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.signals import EARLIER_S, LONGEST_S, MOST_ALIKE, REVEALED, SPAN_S, UserRequest, few_enough, shown, span_of
from proxy.store.engine.dialect import any_of, pairs
from proxy.store.ingest.facts import Signalled
from proxy.store.ingest.recounts import FACTS, facts_of_row
from proxy.store.tables.keys import id_floor, id_time_us
from proxy.store.tables.schema import deleted_users, records
from proxy.store.tables.values import NewRecord, RecordFlag

__all__ = ["revealed"]

_SPAN_US: Final = int(SPAN_S * 1e6)
_EARLIER_US, _LONGEST_US = int(EARLIER_S * 1e6), int(LONGEST_S * 1e6)
_COLUMNS: Final = tuple(records.c[name] for name in ("id", "user_hash", "cluster", "flags", "duration_us", "signals"))
_CLAIMED: Final = int(RecordFlag.CLAIMED)

_Pair = tuple[int, int]
"""A user, and the key of what they asked."""


@dataclass(slots=True)
class _News:
    """The new requests for the same, of one user, by span; and those that complain about an answer to it."""

    asked: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    complained: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    @property
    def around(self) -> set[int]:
        """The spans that say what changes."""
        return {span + step for span in (*self.asked, *self.complained) for step in (-1, 0, 1)}

    def most(self) -> int:
        """New ones in one span."""
        return max(map(len, (*self.asked.values(), *self.complained.values())))


@dataclass(slots=True)
class _Around:
    """What there is of such requests: rows, and the spans in which there are too many to look at."""

    copies: list[Any] = field(default_factory=list)
    complaints: list[Any] = field(default_factory=list)


async def revealed(connection: AsyncConnection, new: Sequence[NewRecord]) -> list[Signalled]:
    """The records of which these new ones, which are stored, reveal something: with what is known from now on, which
    is written down, and has to be counted (`deltas.counted`)."""
    news = await _several(connection, _news(new))
    if not news:
        return []
    around = await _around(connection, news)
    found = {pair: list(_changed(around[pair], mine)) for pair, mine in news.items()}
    gone = await _gone(connection, {user for (user, _), rows in found.items() if rows})
    changed = {
        row_id: bits
        for (user, _), rows in found.items()
        for row_id, bits in rows
        if id_time_us(row_id) > gone.get(user, -1)
    }
    if not changed:
        return []
    ids = sorted(changed)
    wanted = any_of(connection, records.c.id, ids), records.c.id.between(ids[0], ids[-1])
    rows = await connection.execute(sa.select(*FACTS).where(*wanted).order_by(records.c.id))
    signalled = [Signalled(facts_of_row(row), changed[row.id]) for row in rows]
    update = sa.update(records).where(records.c.id == sa.bindparam("key"))
    values = [{"key": record_id, "new_signals": changed[record_id]} for record_id in ids]
    await connection.execute(update.values(signals=sa.bindparam("new_signals")), values)
    return signalled


async def _gone(connection: AsyncConnection, users: Iterable[int]) -> dict[int, int]:
    """Which of the users were deleted, and when. Their answers from before are in no sum any more, and may be there for
    a moment yet."""
    wanted = sorted(users)
    if not wanted:
        return {}
    query = sa.select(deleted_users.c.user_hash, deleted_users.c.at_us)
    rows = await connection.execute(query.where(any_of(connection, deleted_users.c.user_hash, wanted)))
    return {row.user_hash: row.at_us for row in rows}


def _news(new: Iterable[NewRecord]) -> dict[_Pair, _News]:
    found: defaultdict[_Pair, _News] = defaultdict(_News)
    for record in new:
        if record.user_hash is None or record.experiment_id is None or record.signals is None:
            continue
        at_us = id_time_us(record.id)
        if record.prompt_key is not None:
            found[record.user_hash, record.prompt_key].asked[span_of(at_us)].append(at_us)
            if record.answers_key is not None:
                found[record.user_hash, record.answers_key].complained[span_of(at_us)].append(at_us)
    return found


async def _several(connection: AsyncConnection, news: dict[_Pair, _News]) -> dict[_Pair, _News]:
    """Those of which there is more than one request, or a complaint."""
    if not news:
        return {}
    spans = {span for one in news.values() for span in one.around}
    given, user, key = pairs(connection, list(news))
    copies = _limited(user, key, records.c.prompt_key, min(spans), max(spans), 2)
    complaints = _limited(user, key, records.c.answers_key, min(spans), max(spans), 1)
    query = sa.select(user, key).select_from(given).where(sa.or_(copies > 1, complaints > 0))
    return {pair: news[pair] for row in await connection.execute(query) if (pair := (row[0], row[1])) in news}


async def _around(connection: AsyncConnection, news: Mapping[_Pair, _News]) -> defaultdict[_Pair, _Around]:
    """What there is in the spans around, where those are not full already without what is new."""
    wanted: defaultdict[int, list[_Pair]] = defaultdict(list)
    for pair, one in news.items():
        for span in one.around:
            wanted[span].append(pair)
    found: defaultdict[_Pair, _Around] = defaultdict(_Around)
    for span, users in sorted(wanted.items()):
        given, user, key = pairs(connection, users)
        most = MOST_ALIKE + max(news[pair].most() for pair in users) + 1
        asked = _limited(user, key, records.c.prompt_key, span, span, most)
        complained = _limited(user, key, records.c.answers_key, span, span, most)
        counts = (await connection.execute(sa.select(user, key, asked, complained).select_from(given))).all()
        for column, at, place in ((records.c.prompt_key, 2, "asked"), (records.c.answers_key, 3, "complained")):
            few = [
                (row[0], row[1])
                for row in counts
                if 0 < row[at] <= MOST_ALIKE + len(getattr(news[row[0], row[1]], place).get(span, ()))
            ]
            for row in await _rows(connection, few, column, span):
                mine = found[row.user_hash, row[len(_COLUMNS)]]
                (mine.copies if place == "asked" else mine.complaints).append(row)
    return found


async def _rows(connection: AsyncConnection, users: list[_Pair], column: sa.Column[int], span: int) -> Sequence[Any]:
    if not users:
        return ()
    given, user, key = pairs(connection, users)
    joined = given.join(records, sa.and_(records.c.user_hash == user, column == key, _between(span, span)))
    query = sa.select(*_COLUMNS, column).select_from(joined).where(records.c.signals.is_not(None))
    return (await connection.execute(query)).all()


def _limited(
    user: sa.ColumnElement[int], key: sa.ColumnElement[int], column: sa.Column[int], first: int, last: int, most: int
) -> sa.ScalarSelect[int]:
    """How many requests of the user have that key in these spans; `most` where there are more."""
    mine = records.c.user_hash == user, column == key, _between(first, last)
    some = sa.select(records.c.id).where(*mine).limit(most).correlate_except(records).subquery()
    return sa.select(sa.func.count()).select_from(some).scalar_subquery()


def _between(first: int, last: int) -> sa.ColumnElement[bool]:
    return sa.and_(records.c.id >= id_floor(first * _SPAN_US), records.c.id < id_floor((last + 1) * _SPAN_US))


def _changed(around: _Around, news: _News) -> Iterator[tuple[str, int]]:
    """Of the requests around the new ones, those that show something else than was known, and what they show now."""
    told = few_enough(_span(row) for row in around.copies)
    complained = few_enough(_span(row) for row in around.complaints)
    copies: defaultdict[int | None, list[UserRequest]] = defaultdict(list)
    complaints: defaultdict[int | None, list[UserRequest]] = defaultdict(list)
    for row in around.copies:
        if _span(row) in told:
            copies[_cluster(row)].append(_asked(row))
    for row in around.complaints:
        if _span(row) in complained:
            complaints[_cluster(row)].append(_asked(row))
    bits: dict[str, int] = {}
    for cluster, requests in copies.items():
        bits |= shown(requests, complaints[cluster])
    reach = [*_reach(news.asked, told), *_reach(news.complained, complained)]
    for row in around.copies:
        at_us = id_time_us(row.id)
        if any(first <= at_us <= last for first, last in reach):
            signals = (row.signals & ~REVEALED) | bits.get(row.id, 0)
            if signals != row.signals:
                yield row.id, signals


def _reach(news: Mapping[int, Sequence[int]], told: frozenset[int]) -> Iterator[tuple[int, int]]:
    """From when to when the new ones change something: around each, or around a whole span that is full now."""
    for span, times in news.items():
        full = span not in told
        first, last = (span * _SPAN_US, (span + 1) * _SPAN_US) if full else (min(times), max(times))
        yield first - _EARLIER_US, last + _LONGEST_US


def _span(row: Any) -> int:
    return span_of(id_time_us(row.id))


def _cluster(row: Any) -> int | None:
    """Of one whom nobody vouches for."""
    return row.cluster if row.flags & _CLAIMED else None


def _asked(row: Any) -> UserRequest:
    started_s = id_time_us(row.id) / 1e6
    return UserRequest(row.id, started_s, started_s + row.duration_us / 1e6, row.signals)
