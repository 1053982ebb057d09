"""Streaming what may become training data, a chunk at a time.

Each chunk of rows is a short read of its own, by key, and so are their bodies, as many as memory is there for: memory
stays constant, and a reader that takes hours never keeps SQLite's write-ahead log or PostgreSQL's old rows alive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.records import Sample
from proxy.store.engine.database import Database
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.ingest.facts import VoteSummary
from proxy.store.reading.ancestry import read_generations
from proxy.store.reading.as_samples import SAMPLE_COLUMNS, is_judged, sample_of_row
from proxy.store.reading.cursor import KeysetCursor
from proxy.store.reading.earlier import EARLIER_COLUMNS, MOST_NAMESAKES, Earlier, earlier_of_row, names_user
from proxy.store.reading.preferred import Preference, read_compared, read_preferences
from proxy.store.reading.regenerated import read_regenerated
from proxy.store.tables.keys import BLOCK_RECORDS, alias_hash
from proxy.store.tables.schema import HOUR_S, aliases, feedback, models, records, traffic
from proxy.store.tables.values import RecordFlag, StoreSize

__all__ = ["Candidate", "Samples"]

_BLOCKS: Final = 96
_CUT: Final = int(RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE)


class Candidate(NamedTuple):
    """An exchange that may be asked again: who asked, and in which conversation."""

    record_id: str
    user: int | None
    conversation: int | None


class Samples:
    """The samples of one database, and what those who read them ask about them (`proxy.loop.dataset`)."""

    def __init__(self, db: Database, codec: BodyCodec) -> None:
        self._db = db
        self._codec = codec

    async def iter(
        self,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        min_quality: float | None = None,
        min_feedback: float | None = None,
        newest_first: bool = False,
        chunk: int = 500,
    ) -> AsyncIterator[Sample]:
        """Exchanges that may become training data, oldest first unless asked, in constant memory.

        Bounds are record ids, both exclusive (`keys.id_floor` makes one of an instant). `min_quality` and
        `min_feedback` leave out samples without the one or the other.
        """
        query = _query(newest_first).where(records.c.flags.bitwise_and(int(RecordFlag.SAMPLE)) != 0)
        if min_quality is not None:
            query = query.where(records.c.quality >= min_quality)
        if min_feedback is not None:
            query = query.where(records.c.feedback >= min_feedback)
        async for sample in self._walk(query, KeysetCursor(after_id, before_id, newest_first), chunk):
            yield sample

    async def answered_by(
        self, model_id: int, *, after_id: str, before_id: str, chunk: int = 2000
    ) -> AsyncIterator[Sequence[Candidate]]:
        """Exchanges that may become training data and were answered by one model, without what was said, a chunk at a
        time. Bounds are record ids, both exclusive; the copies of none of them are cut."""
        columns = (records.c.id, records.c.user_hash, records.c.conversation)
        fit = records.c.flags.bitwise_and(int(RecordFlag.SAMPLE) | _CUT) == int(RecordFlag.SAMPLE)
        query = sa.select(*columns).where(records.c.model_id == model_id, fit).order_by(records.c.id).limit(chunk)
        stretch = KeysetCursor(after_id, before_id, newest_first=False)
        while not stretch.done:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(*await stretch.bounds(connection)))).all()
            yield [Candidate(row.id, row.user_hash, row.conversation) for row in rows]
            stretch.walked(rows, chunk)

    async def judged(self, *, before_id: str | None = None, chunk: int = 100) -> AsyncIterator[Sample]:
        """Exchanges before an id whose answer people corrected, then those they disliked, each newest first.

        Also those that may not become training data (`trainable` is then false); one that was both comes twice.
        Those that are disliked and those that are corrected are few, and each kind has an index.
        """
        corrected = sa.select(feedback.c.record_id).where(
            feedback.c.correction.is_not(None), feedback.c.record_id.is_not(None)
        )
        disliked = sa.and_(records.c.feedback.is_not(None), records.c.feedback < 0)
        for condition in (records.c.id.in_(corrected), disliked):
            query = _query(newest_first=True).where(condition)
            async for sample in self._walk(query, KeysetCursor(None, before_id, True), chunk):
                if is_judged(sample):
                    yield sample

    async def earlier(self, provider_ids: Sequence[str]) -> dict[str, tuple[Earlier, ...]]:
        """Exchanges whose answers may have these ids at their provider, by id, newest first: what others go on from.
        Those whose bodies are gone are left out."""
        hashes = {alias_hash(name): name for name in provider_ids}
        named = sa.select(aliases.c.hash, aliases.c.id).where(aliases.c.hash.in_(list(hashes)))
        async with self._db.read() as connection:
            claims = (
                await connection.execute(named.order_by(aliases.c.id.desc()).limit(MOST_NAMESAKES * len(hashes)))
            ).all()
            query = (
                sa.select(*(records.c[column] for column in EARLIER_COLUMNS), models.c.name)
                .join(models, models.c.id == records.c.model_id, isouter=True)
                .where(records.c.id.in_({claim.id for claim in claims}))
            )
            rows = {row.id: row for row in (await connection.execute(query)).all()} if claims else {}
            found = await self._codec.read(connection, {row.id: row.body for row in rows.values()})
        by_name: defaultdict[str, tuple[Earlier, ...]] = defaultdict(tuple)
        for claim in claims:
            if claim.id in found:
                by_name[hashes[claim.hash]] += (earlier_of_row(rows[claim.id], found[claim.id]),)
        return by_name

    async def name_users(self, record_ids: Sequence[str]) -> set[str]:
        """Those of the records whose key is a user, and not what stands in for one (a first message, chance)."""
        query = sa.select(records.c.id, records.c.key_source).where(records.c.id.in_(record_ids))
        async with self._db.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row.id for row in rows if names_user(row.key_source)}

    async def generations(self) -> dict[str, int]:
        """By name and path, how many trainings of this installation lie behind each model that was trained here."""
        return await read_generations(self._db)

    async def preferences(self) -> dict[str, tuple[Preference, ...]]:
        """By record id, what people prefer of answers that were compared."""
        return await read_preferences(self._db)

    async def compared(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Mapping[str, Any]]:
        """The texts of comparisons, by check and item."""
        return await read_compared(self._db, keys)

    async def regenerated(self, record_ids: Sequence[str]) -> dict[str, Sample]:
        """By those of the records whose answer was kept: the first answer to the same, which the user had made anew.
        Those whose bodies are gone are left out."""
        async with self._db.read() as connection:
            firsts = await read_regenerated(connection, record_ids)
            if not firsts:
                return {}
            wanted = records.c.id.in_(sorted(set(firsts.values())))
            rows = (await connection.execute(_query(newest_first=False).where(wanted))).all()
            found = await self._codec.read(connection, {row.id: row.body for row in rows})
        samples = {row.id: sample_of_row(row, found[row.id], None) for row in rows if row.id in found}
        return {kept: samples[first] for kept, first in firsts.items() if first in samples}

    async def size(self) -> StoreSize:
        """Records, from the hourly sums, and bytes on disk."""
        count = sa.select(sa.func.sum(traffic.c.n)).where(traffic.c.step_s == HOUR_S)
        async with self._db.read() as connection:
            records_kept = int(await connection.scalar(count) or 0)
            if self._db.dialect == "postgresql":
                used = int(await connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
            else:
                used = sum(file.stat().st_size for file in self._db.files() if file.exists())
        return StoreSize(records=records_kept, bytes=used)

    async def _walk(self, query: sa.Select[Any], stretch: KeysetCursor, chunk: int) -> AsyncIterator[Sample]:
        query = query.limit(chunk)
        while not stretch.done:
            async with self._db.read() as connection:
                rows = (await connection.execute(query.where(*await stretch.bounds(connection)))).all()
                corrections = await _corrections(connection, [row.id for row in rows])
            for some in _runs(rows):
                async with self._db.read() as connection:
                    found = await self._codec.read(connection, {row.id: row.body for row in some})
                for row in some:
                    if row.id in found:
                        yield sample_of_row(row, found[row.id], corrections.get(row.id))
            stretch.walked(rows, chunk)


def _runs(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The rows in parts whose bodies are in memory at once. Short ones share a block, so blocks measure them."""
    start, blocks = 0, set[int]()
    for at, row in enumerate(rows):
        block = 0 if row.body is None else row.body // BLOCK_RECORDS
        if len(blocks) == _BLOCKS and block not in blocks:
            yield rows[start:at]
            start, blocks = at, set()
        blocks.add(block)
    if rows:
        yield rows[start:]


def _query(newest_first: bool) -> sa.Select[Any]:
    return (
        sa.select(*(records.c[name] for name in SAMPLE_COLUMNS), models.c.name)
        .join(models, models.c.id == records.c.model_id, isouter=True)
        .order_by(records.c.id.desc() if newest_first else records.c.id)
    )


async def _corrections(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, str]:
    """What people said the answers should have been. They are few: the range finds them without a list of ids."""
    if not ids:
        return {}
    said = sa.or_(feedback.c.correction.is_not(None), feedback.c.retracted, feedback.c.external.is_not(None))
    query = sa.select(feedback).where(feedback.c.record_id.between(min(ids), max(ids)), said)
    votes: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await connection.execute(query):
        votes[row.record_id].append(row)
    summaries = {record_id: VoteSummary.of(rows).correction for record_id, rows in votes.items()}
    return {record_id: text for record_id, text in summaries.items() if text is not None}
