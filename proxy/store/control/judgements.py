"""What a judge was asked and has said, a row for each record and scorer.

A row is written before the judge is asked, and filled with what it answers: a process that is killed in between leaves
a row without a score, and nobody asks a second time. What such a row stands for is lost, and counted as that.

    score  reason
    null   null                 asked, and not answered yet
    s      the judge's words    judged
    null   failure: what        no score: the judge was down, or said something else than a score
    null   lacking: what        it was not asked: a part of the conversation is not at hand
    null   lost: what           the process ended before the answer came
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from policies.agreement import GOOD_FROM, Agreement, Label, agreement_of
from policies.judging import Spent, label_of_preference
from policies.records import Sample
from proxy.clock import Clock
from proxy.store.control.leases import guard
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import any_of, insert_all
from proxy.store.ingest.batch import Ingest
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.reading.as_samples import SAMPLE_COLUMNS, sample_of_row
from proxy.store.tables.control import Lease
from proxy.store.tables.keys import HOUR_US, NO_ID, id_floor, random_user_key
from proxy.store.tables.schema import checks, comparisons, feedback, judgements, models, preferences, records
from proxy.store.tables.values import RecordFlag

__all__ = ["LACKING", "LOST", "Disagreement", "JudgedSums", "Judgements", "RecordJudgement", "Unjudged"]

LOST: Final = "lost"
LACKING: Final = "lacking"
_DAY_US: Final = 24 * HOUR_US
_WALKED: Final = 5000
_SAID: Final = ("scorer", "asked_us", "score", "tokens", "reason")
_BEYOND: Final = "f" * 32
_BETTER: Final = {"champion": -1.0, "challenger": 1.0}
_MINE = judgements.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Unjudged:
    """Answers that a scorer was not asked about, and how far was looked."""

    ids: tuple[str, ...]
    """Oldest first."""
    reached: str
    """Go on behind this id."""
    done: bool
    """Whether that was the end of the stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordJudgement:
    """What a scorer said of a record."""

    scorer: str
    asked_us: int
    score: float | None
    tokens: int
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An answer of which people and judge think differently."""

    record_id: str
    feedback: float
    """Mean of the votes, −1 to 1."""
    score: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSums:
    """What has become of a scorer's questions since some time."""

    judged: int = 0
    mean: float | None = None
    """Of the scores."""
    failed: Mapping[str, int] = field(default_factory=dict)
    """By reason (`proxy.judge.ports.Failure`), and `lost`."""
    open: int = 0
    """Asked, and not answered yet."""
    tokens: int = 0


class Judgements:
    """The `judgements` table. Only the holder of a lease asks; anybody reads."""

    def __init__(self, db: Database, codec: BodyCodec, ingest: Ingest, clock: Clock) -> None:
        self._db = db
        self._codec = codec
        self._ingest = ingest
        self._clock = clock

    async def waiting(self, scorer: str, *, after_id: str, before_id: str, limit: int = _WALKED) -> Unjudged:
        """Answers between the two ids, both exclusive, that the scorer was not asked about, oldest first. Only answers
        that are whole and may be used for more than answering (`store: false` and the no-train header forbid it).

        One call looks at `limit` records of any kind.
        """
        part = (
            sa.select(records.c.id, records.c.flags)
            .where(records.c.id > after_id, records.c.id < before_id)
            .order_by(records.c.id)
            .limit(limit)
            .subquery()
        )
        asked = sa.and_(_MINE.record_id == part.c.id, _MINE.scorer == scorer)
        query = (
            sa.select(part.c.id, part.c.flags, _MINE.asked_us)
            .join_from(part, judgements, asked, isouter=True)
            .order_by(part.c.id)
        )
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        free = (row for row in rows if row.asked_us is None and row.flags & RecordFlag.SAMPLE)
        done = len(rows) < limit
        return Unjudged(ids=tuple(row.id for row in free), reached=before_id if done else rows[-1].id, done=done)

    async def ask(self, lease: Lease, scorer: str, ids: Sequence[str]) -> list[Sample]:
        """Write down that the scorer is asked about these records now; returns those that it was not asked about
        before and whose texts are still there, in order. Raises PermanentError where the lease is somebody else's."""
        if not ids:
            return []
        now_us = int(self._clock.now() * 1e6)
        async with self._db.write() as connection:
            await guard(connection, lease.name, lease.fence)
            known = sa.select(_MINE.record_id).where(_MINE.scorer == scorer, any_of(connection, _MINE.record_id, ids))
            there = set(await connection.scalars(known))
            fresh = [record_id for record_id in ids if record_id not in there]
            rows = [{"record_id": one, "scorer": scorer, "asked_us": now_us, "tokens": 0} for one in fresh]
            await insert_all(connection, judgements, [{**row, "score": None, "reason": None} for row in rows])
        samples = await self._read(fresh)
        for gone in set(fresh) - {sample.record_id for sample in samples}:
            await self.answer(gone, scorer, score=None, tokens=0, reason=f"{LACKING}: its texts are gone")
        return samples

    async def answer(self, record_id: str, scorer: str, *, score: float | None, tokens: int, reason: str) -> bool:
        """What became of a question; False where it is no longer open. A score counts in the statistics from here on:
        both may be repeated (see `recount`)."""
        still_open = sa.and_(_MINE.record_id == record_id, _MINE.scorer == scorer, *_OPEN)
        values = {"score": score, "tokens": tokens, "reason": reason}
        async with self._db.write() as connection:
            filled = (await connection.execute(sa.update(judgements).where(still_open).values(values))).rowcount
        if filled and score is not None:
            await self._count({record_id: score})
        return bool(filled)

    async def lose(self, lease: Lease) -> int:
        """Close what an earlier holder of the lease has asked and not had answered; returns how many that were."""
        values = {"reason": f"{LOST}: the process ended before the answer came"}
        async with self._db.write() as connection:
            await guard(connection, lease.name, lease.fence)
            closed = await connection.execute(sa.update(judgements).where(*_OPEN).values(values))
            return int(closed.rowcount)

    async def recount(self, *, since_us: int) -> None:
        """Have the statistics count what was answered since then: a process may have ended between the two."""
        query = sa.select(_MINE.record_id, _MINE.score).where(_MINE.asked_us > since_us, _MINE.score.is_not(None))
        async with self._db.read() as connection:
            scores = {row.record_id: row.score for row in await connection.execute(query)}
        await self._count(scores)

    async def spent(self) -> Spent:
        """How many answers were asked about, by whatever scorer."""
        now_us = int(self._clock.now() * 1e6)
        hour = sa.func.count().filter(_MINE.asked_us > now_us - HOUR_US)
        query = sa.select(sa.func.count(), hour).select_from(judgements).where(_MINE.asked_us > now_us - _DAY_US)
        async with self._db.read() as connection:
            day, last_hour = (await connection.execute(query)).one()
        return Spent(hour=last_hour, day=day)

    async def sums(self, scorer: str, *, since_us: int) -> JudgedSums:
        """What has become of the scorer's questions since then."""
        query = sa.select(_MINE.score, _MINE.tokens, _MINE.reason)
        query = query.where(_MINE.asked_us > since_us, _MINE.scorer == scorer)
        scores: list[float] = []
        failed: defaultdict[str, int] = defaultdict(int)
        tokens = still_open = 0
        async with self._db.read() as connection:
            for row in await connection.execute(query):
                tokens += row.tokens
                if row.score is not None:
                    scores.append(row.score)
                elif row.reason is None:
                    still_open += 1
                else:
                    failed[row.reason.partition(":")[0]] += 1
        mean = sum(scores) / len(scores) if scores else None
        return JudgedSums(judged=len(scores), mean=mean, failed=dict(failed), open=still_open, tokens=tokens)

    async def window(self, scorer: str, *, since_us: int, until_us: int) -> tuple[int, float | None]:
        """(scores, their mean) of what the scorer was asked in the window."""
        query = sa.select(sa.func.count(_MINE.score), sa.func.avg(_MINE.score))
        query = query.where(_MINE.asked_us >= since_us, _MINE.asked_us < until_us, _MINE.scorer == scorer)
        async with self._db.read() as connection:
            n, mean = (await connection.execute(query)).one()
        return int(n), None if mean is None else float(mean)

    async def user_hour_means(self, scorer: str, hour_us: int) -> list[float]:
        """Mean score of each user among what was asked in the hour that begins at `hour_us`; a keyless request is a
        user of its own."""
        query = sa.select(sa.func.avg(_MINE.score)).join_from(judgements, records, records.c.id == _MINE.record_id)
        query = query.where(
            _MINE.asked_us >= hour_us,
            _MINE.asked_us < hour_us + HOUR_US,
            _MINE.scorer == scorer,
            _MINE.score.is_not(None),
        )
        keyed = query.where(records.c.user_hash.is_not(None)).group_by(records.c.user_hash)
        keyless = query.where(records.c.user_hash.is_(None)).group_by(records.c.id)
        async with self._db.read() as connection:
            return [float(mean) for one in (keyed, keyless) for mean in await connection.scalars(one)]

    async def people_score(self, *, since_us: int) -> bool:
        """Whether any vote since then has a score beside it."""
        query = sa.select(feedback.c.fid).where(
            feedback.c.fid >= id_floor(since_us), feedback.c.quality_score.is_not(None), feedback.c.amends.is_(False)
        )
        async with self._db.read() as connection:
            return (await connection.execute(query.limit(1))).first() is not None

    async def of_record(self, record_id: str) -> Sequence[RecordJudgement]:
        """What was said of a record, by scorer."""
        query = sa.select(judgements).where(_MINE.record_id == record_id).order_by(_MINE.scorer)
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return [RecordJudgement(**{name: getattr(row, name) for name in _SAID}) for row in rows]

    async def agreement(self, scorer: str) -> Agreement:
        """How the scorer's word agrees with people's: with votes, and with what people preferred of two answers that a
        check had it read. Of each user the first label, and where nobody vouches for users, of each address; a neutral
        vote and a tie are none."""
        labels: dict[tuple[str, int | str], Label] = {}
        async for row in self._voted(scorer):
            labels.setdefault(_unit(row), Label(row.feedback > 0, row.score >= GOOD_FROM))
        for preferred in await self._preferred():
            judge = _judged_difference(preferred, scorer)
            if judge is not None:
                key = f"{preferred.check_id} {preferred.item}"
                unit = ("item", key) if preferred.user_hash is None else ("user", preferred.user_hash)
                person = 1 if preferred.choice == "challenger" else -1
                labels.setdefault(unit, label_of_preference(key, person=person, judge=judge))
        return agreement_of(labels.values())

    async def disagreements(self, scorer: str, limit: int = 50) -> Sequence[Disagreement]:
        """Answers that people liked and the scorer called bad, or the other way round, newest first; looks at the
        newest few thousand answers with a vote."""
        voted = (
            sa.select(records.c.id, records.c.feedback)
            .where(records.c.feedback.is_not(None), records.c.id < _BEYOND)
            .order_by(records.c.id.desc())
            .limit(_WALKED)
            .subquery()
        )
        liked, good = voted.c.feedback > 0, _MINE.score >= GOOD_FROM
        differs = sa.or_(sa.and_(liked, ~good), sa.and_(voted.c.feedback < 0, good))
        query = (
            sa.select(voted, _MINE.score, _MINE.reason)
            .join_from(voted, judgements, sa.and_(_MINE.record_id == voted.c.id, _MINE.scorer == scorer))
            .where(differs)
            .order_by(voted.c.id.desc())
            .limit(limit)
        )
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Disagreement(record_id=row.id, feedback=row.feedback, score=row.score, reason=row.reason or "")
            for row in rows
        ]

    async def _count(self, scores: Mapping[str, float]) -> None:
        """Into the records, and the statistics of their experiments."""
        await self._ingest.judged(scores)

    async def _voted(self, scorer: str) -> AsyncIterator[Any]:
        """Answers with a vote and a score, oldest first, some at a time."""
        after, query = NO_ID, _both(scorer).order_by(records.c.id).limit(_WALKED)
        while True:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(_MINE.record_id > after))).all()
            for row in rows:
                yield row
            if len(rows) < _WALKED:
                return
            after = rows[-1].id

    async def _preferred(self) -> Sequence[Any]:
        """What people preferred of two answers, the first word on each pair first."""
        on = sa.and_(comparisons.c.check_id == preferences.c.check_id, comparisons.c.item == preferences.c.item)
        query = (
            sa.select(preferences, comparisons.c.user_hash, comparisons.c.facts, checks.c.terms)
            .join_from(preferences, comparisons, on)
            .join(checks, checks.c.id == preferences.c.check_id)
            .where(preferences.c.choice.in_(("champion", "challenger")))
            .order_by(preferences.c.at_us, preferences.c.check_id, preferences.c.item)
        )
        async with self._db.read() as connection:
            return (await connection.execute(query)).all()

    async def _read(self, ids: Sequence[str]) -> list[Sample]:
        if not ids:
            return []
        columns = (*(records.c[name] for name in SAMPLE_COLUMNS), models.c.name)
        query = sa.select(*columns).join_from(records, models, models.c.id == records.c.model_id, isouter=True)
        async with self._db.read() as connection:
            wanted = any_of(connection, records.c.id, ids), records.c.id.between(min(ids), max(ids))
            rows = {row.id: row for row in await connection.execute(query.where(*wanted))}
            found = await self._codec.read(connection, {row.id: row.body for row in rows.values()})
        return [sample_of_row(rows[one], found[one], None) for one in ids if one in found]


_OPEN: Final = (_MINE.score.is_(None), _MINE.reason.is_(None))


def _both(scorer: str) -> sa.Select[Any]:
    names = ("id", "user_hash", "cluster", "flags", "feedback")
    return (
        sa.select(*(records.c[name] for name in names), _MINE.score)
        .join_from(judgements, records, records.c.id == _MINE.record_id)
        .where(_MINE.scorer == scorer, _MINE.score.is_not(None), records.c.feedback != 0)
    )


def _judged_difference(row: Any, scorer: str) -> float | None:
    """How much better the scorer found the challenger's answer; None where it was not asked, or did not say. The names
    are those of `proxy.checks.facts`."""
    if row.terms.get("judge") != scorer:
        return None
    match row.facts.get("judge"):
        case {"by": "scores", "champion": int() | float() as champion, "challenger": int() | float() as challenger}:
            return challenger - champion
        case {"by": "pairs", "straight": str() as straight, "turned": str() as turned}:
            return _BETTER.get(straight, 0.0) if straight == turned else 0.0
        case _:
            return None


def _unit(row: Any) -> tuple[str, int | str]:
    """Whose word a vote is: see `RecordFacts.unit`."""
    if row.flags & RecordFlag.CLAIMED:
        return "cluster", row.cluster or 0
    return "user", random_user_key(row.id) if row.user_hash is None else row.user_hash
