"""Questions about stretches of time, answered from sums per minute and hour: never by scanning records.

Minutes are kept for two days; a window that begins within the last 47 hours is answered from them, else from hours.
Both ends are rounded down to the step: a window that ends now leaves out the minute or hour under way.

Durations have a row for each bin, a hundred times as many as the other sums: they are kept by ten minutes, too, so that
a chart of a day does not read those of every minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import BallotTrust
from policies.kinds import TASK
from policies.records import Arm, Outcome
from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.ingest.deltas import duration_of_bin
from proxy.store.reading.past import UNIT
from proxy.store.tables.keys import DAY_US, HOUR_US, id_floor, id_time_us
from proxy.store.tables.schema import (
    HOUR_S,
    MINUTE_S,
    SUMS,
    TEN_MINUTES_S,
    durations,
    feedback,
    quality_hours,
    records,
    traffic,
)
from proxy.store.tables.values import RecordFlag, TrafficPoint, TrafficTotals, VoteCounts

__all__ = ["MINUTES_KEPT_S", "Traffic"]

MINUTES_KEPT_S: Final = 48 * HOUR_S
_BY_MINUTE_S: Final = 2 * HOUR_S
"""Durations of a longer time are read by ten minutes."""
_ERROR: Final = sa.or_(
    traffic.c.status_class == 5, traffic.c.outcome.in_([int(outcome) for outcome in Outcome if outcome.failed])
)
"""As `Outcome.with_status` reads rows of version 0.1, which called OK whatever came whole."""
_REFUSED: Final = sa.or_(
    traffic.c.outcome == int(Outcome.REFUSED),
    sa.and_(traffic.c.status_class == 4, traffic.c.outcome == int(Outcome.OK)),
)
_COLUMNS: Final = (*SUMS, "quality", "tasks")
_MAX_USERS: Final = 100_000
_NEWEST: Final = 200_000
_ENOUGH_USERS: Final = 2000
"""A day: of so many one in a hundred is enough for a canary."""


class Traffic:
    """The sums of one database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def totals(
        self, since_us: int = 0, until_us: int | None = None, model_id: int | None = None
    ) -> TrafficTotals:
        """Sums over the window, by default over all that is kept; its ends are rounded as `quality_window` says.

        `until_us` None, and not the present, is how to count what is under way, too.
        """
        step = _step(self._clock, since_us)
        query = sa.select(*_sums(), *_unanswered()).where(*_window(traffic, step, since_us, until_us))
        if model_id is not None:
            query = query.where(traffic.c.model_id == model_id)
        async with self._db.read() as connection:
            row = (await connection.execute(query)).one()
        if row.n is None:
            return TrafficTotals()
        return TrafficTotals(
            requests=int(row.n),
            errors=int(row.errors),
            refused=int(row.refused),
            fallbacks=int(row.fallbacks),
            voted=int(row.voted),
            votes=_votes(row),
            scored=int(row.scored),
            quality=_mean(row.quality, row.scored),
            prompt_tokens=int(row.prompt_tokens),
            completion_tokens=int(row.completion_tokens),
            tasks=int(row.tasks),
        )

    async def quality_window(
        self, since_us: int, until_us: int, model_id: int | None = None
    ) -> tuple[int, float | None]:
        """(scored requests, mean score), by arrival.

        Both ends are rounded down: to the minute where the window begins within the last 47 hours, else to the hour. So
        a window that ends now leaves out the minute or hour under way.
        """
        totals = await self.totals(since_us, until_us, model_id)
        return totals.scored, totals.quality

    async def feedback_window(self, since_us: int, until_us: int, model_id: int | None = None) -> VoteCounts:
        """Effective votes on requests that arrived in the window, whose ends are rounded as `quality_window` says."""
        return (await self.totals(since_us, until_us, model_id)).votes

    async def count_quality_samples(self, since_us: int, min_quality: float | None) -> int:
        """Training samples that arrived since then with at least this score; None counts unscored ones too.

        The score is compared in hundredths, rounded up (0.705 counts from 0.71). Whole hours come from the sums, the
        first one from the records.
        """
        low = None if min_quality is None else math.ceil(min_quality * 100 - 1e-9)
        next_hour_us = -(-since_us // HOUR_US) * HOUR_US
        hours = sa.select(sa.func.sum(quality_hours.c.n)).where(quality_hours.c.at_s >= next_hour_us // 1_000_000)
        edge = (
            sa.select(sa.func.count())
            .select_from(records)
            .where(
                records.c.id >= id_floor(since_us),
                records.c.id < id_floor(next_hour_us),
                records.c.flags.bitwise_and(int(RecordFlag.SAMPLE)) != 0,
            )
        )
        if low is not None:
            hours = hours.where(quality_hours.c.bin >= low)
            edge = edge.where(records.c.quality >= low / 100)
        async with self._db.read() as connection:
            return int(await connection.scalar(hours) or 0) + int(await connection.scalar(edge) or 0)

    async def users_a_day(self, now_us: int) -> float | None:
        """Distinct users of the last week's days that had any, a day on average; None without requests. Who names
        nobody is a user with each request, as in a test. More than 2,000 a day are not counted on."""
        found: list[int] = []
        async with self._db.read() as connection:
            for day in range(1, 8):
                since, until = id_floor(now_us - day * DAY_US), id_floor(now_us - (day - 1) * DAY_US)
                came = (records.c.id >= since, records.c.id < until, records.c.kind != TASK.name)
                named = sa.select(records.c.user_hash).where(*came, records.c.user_hash.is_not(None)).distinct()
                unnamed = sa.select(records.c.id).where(*came, records.c.user_hash.is_(None))
                count = 0
                for users in (named, unnamed):
                    some = users.limit(_ENOUGH_USERS - count).subquery()
                    count += int(await connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0)
                if count:
                    found.append(count)
        return sum(found) / len(found) if found else None

    async def visits(self, since_us: int, *, limit: int = _NEWEST) -> tuple[float, dict[int, int], int]:
        """How often users came: (days counted, users by number of requests, requests that named nobody), of the newest
        `limit` requests since then.

        A user is whoever counts as one in a test: of names that nobody vouches for the cluster. The days end with the
        newest request and begin with the oldest that is counted; 0.0 without requests.
        """
        mine = (records.c.id >= id_floor(since_us), records.c.kind != TASK.name)
        newest = sa.select(records.c.id, UNIT.label("unit")).where(*mine).order_by(records.c.id.desc()).limit(limit)
        some = newest.subquery()
        named = sa.select(sa.func.count().label("n")).where(some.c.unit.is_not(None)).group_by(some.c.unit)
        each = named.subquery()
        query = sa.select(each.c.n, sa.func.count()).group_by(each.c.n)
        unnamed = sa.select(sa.func.count()).select_from(some).where(some.c.unit.is_(None))
        async with self._db.read() as connection:
            oldest, latest = [
                await connection.scalar(sa.select(some.c.id).order_by(way).limit(1))
                for way in (some.c.id.asc(), some.c.id.desc())
            ]
            if oldest is None or latest is None:
                return 0.0, {}, 0
            found = {int(n): int(users) for n, users in await connection.execute(query)}
            nobody = int(await connection.scalar(unnamed) or 0)
        return (id_time_us(latest) - id_time_us(oldest)) / DAY_US, found, nobody

    async def count_corrections(self, since_us: int, until_us: int) -> int:
        """Votes with a correction that counts and that came in the window, also such as changed nothing: on a task, on
        no answer, or withdrawn. By index."""
        counts = feedback.c.trust.bitwise_and(int(BallotTrust.CORRECTION)) != 0
        came = (counts, feedback.c.created_us >= since_us, feedback.c.created_us < until_us)
        query = sa.select(sa.func.count()).select_from(feedback).where(feedback.c.correction.is_not(None), *came)
        async with self._db.read() as connection:
            return int(await connection.scalar(query) or 0)

    async def user_hour_means(self, hour_us: int, model_id: int | None = None) -> list[float]:
        """Mean score of each user in the hour that begins at `hour_us`; a keyless request is a user of its own, and
        tasks are none of a user's answers."""
        query = sa.select(sa.func.avg(records.c.quality)).where(
            records.c.id >= id_floor(hour_us),
            records.c.id < id_floor(hour_us + HOUR_US),
            records.c.quality.is_not(None),
            records.c.kind != TASK.name,
        )
        if model_id is not None:
            query = query.where(records.c.model_id == model_id)
        keyed = query.where(records.c.user_hash.is_not(None)).group_by(records.c.user_hash).limit(_MAX_USERS)
        keyless = query.where(records.c.user_hash.is_(None)).group_by(records.c.id).limit(_MAX_USERS)
        async with self._db.read() as connection:
            return [float(mean) for q in (keyed, keyless) for mean in await connection.scalars(q)]

    async def duration_quantile(self, model_id: int | None, since_us: int, q: float) -> float | None:
        """Seconds under which the share `q` of a model's (None: of all) whole answers stayed, within ±5 %; None without
        any."""
        where = _window(durations, _durations_step(self._clock, since_us), since_us, None)
        if model_id is not None:
            where.append(durations.c.model_id == model_id)
        query = sa.select(durations.c.bin, sa.func.sum(durations.c.n)).where(*where)
        async with self._db.read() as connection:
            return _quantile(
                {number: int(n) for number, n in await connection.execute(query.group_by(durations.c.bin))}, q
            )

    async def points(self, since_us: int, until_us: int, step_s: int) -> list[TrafficPoint]:
        """Per step, arm and model, oldest first, empty ones left out.

        `step_s` is a number of whole minutes (kept for 48 hours) or hours, in seconds; else ValueError. Both ends are
        rounded down to whole minutes or hours: pass the end of the step under way, not the present, to have it, too.
        """
        if step_s <= 0 or step_s % MINUTE_S:
            raise ValueError(f"step_s: {step_s} is not a multiple of {MINUTE_S} (seconds)")
        of_sums, of_bins = (
            next(kept for kept in steps if step_s % kept == 0)
            for steps in ((HOUR_S, MINUTE_S), (HOUR_S, TEN_MINUTES_S, MINUTE_S))
        )
        async with self._db.read() as connection:
            key = _key(traffic, step_s)
            query = sa.select(*key, *_sums(), *_unanswered()).where(*_window(traffic, of_sums, since_us, until_us))
            sums = (await connection.execute(query.group_by(*key).order_by(*key))).all()
            bins = await _histograms(connection, step_s, _window(durations, of_bins, since_us, until_us))
        return [_point(row, bins.get((row.start, row.arm, row.model_id), {})) for row in sums]


async def _histograms(
    connection: AsyncConnection, step_s: int, where: Sequence[sa.ColumnElement[bool]]
) -> dict[tuple[int, int, int], dict[int, int]]:
    """Durations by step, arm and model: how many in each bin.

    One row per histogram that is kept, in the order of the key, its bins and counts as text: as rows of their own they
    are tens of thousands, which take several times as long to sort and to fetch as to read.
    """
    pair = sa.cast(durations.c.bin, sa.Text) + "," + sa.cast(durations.c.n, sa.Text)
    key = (durations.c.at_s, durations.c.arm, durations.c.model_id)
    query = sa.select(*key, sa.func.aggregate_strings(pair, ",").label("bins")).where(*where).group_by(*key)
    found: dict[tuple[int, int, int], dict[int, int]] = {}
    for at_s, arm, model_id, text in await connection.execute(query):
        bins = found.setdefault((at_s - at_s % step_s, arm, model_id), {})
        numbers = iter(orjson.loads(f"[{text}]"))
        for number, n in zip(numbers, numbers, strict=True):
            bins[number] = bins.get(number, 0) + n
    return found


def _step(clock: Clock, since_us: int) -> int:
    return MINUTE_S if since_us >= (clock.now() - MINUTES_KEPT_S + HOUR_S) * 1e6 else HOUR_S


def _durations_step(clock: Clock, since_us: int) -> int:
    step = _step(clock, since_us)
    return TEN_MINUTES_S if step == MINUTE_S and since_us < (clock.now() - _BY_MINUTE_S) * 1e6 else step


def _window(table: sa.Table, step_s: int, since_us: int, until_us: int | None) -> list[sa.ColumnElement[bool]]:
    where = [table.c.step_s == step_s, table.c.at_s >= since_us // 1_000_000 // step_s * step_s]
    if until_us is not None:
        where.append(table.c.at_s < until_us // 1_000_000 // step_s * step_s)
    return where


def _key(table: sa.Table, step_s: int) -> tuple[sa.ColumnElement[int], ...]:
    start = (table.c.at_s - table.c.at_s % sa.literal_column(str(step_s))).label("start")
    return start, table.c.arm, table.c.model_id


def _sums() -> Iterable[sa.ColumnElement[Any]]:
    return (sa.func.sum(traffic.c[name]).label(name) for name in _COLUMNS)


def _unanswered() -> Iterable[sa.ColumnElement[Any]]:
    for name, rows in (("errors", _ERROR), ("refused", _REFUSED)):
        yield sa.func.sum(sa.case((rows, traffic.c.n), else_=0)).label(name)


def _votes(row: Any) -> VoteCounts:
    return VoteCounts(positive=int(row.positive), negative=int(row.negative), neutral=int(row.neutral))


def _mean(total: float, n: int) -> float | None:
    return float(total) / int(n) if n else None


def _point(row: Any, bins: Mapping[int, int]) -> TrafficPoint:
    return TrafficPoint(
        at_us=int(row.start) * 1_000_000,
        arm=Arm(row.arm),
        model_id=row.model_id,
        requests=int(row.n),
        errors=int(row.errors),
        refused=int(row.refused),
        fallbacks=int(row.fallbacks),
        duration_s=float(row.duration_us) / int(row.n) / 1e6 if row.n else 0.0,
        p50_s=_quantile(bins, 0.5),
        p95_s=_quantile(bins, 0.95),
        prompt_tokens=int(row.prompt_tokens),
        completion_tokens=int(row.completion_tokens),
        votes=_votes(row),
        scored=int(row.scored),
        quality=_mean(row.quality, row.scored),
    )


def _quantile(bins: Mapping[int, int], q: float) -> float | None:
    rank = q * sum(bins.values())
    for number in sorted(bins):
        if rank <= bins[number]:
            return duration_of_bin(number, rank / bins[number])
        rank -= bins[number]
    return None
