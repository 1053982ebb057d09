"""Streaming what may become training data, a chunk at a time.

Each chunk of rows is a short read of its own, by key, and so are their bodies, as many as memory is there for: memory
stays constant, and a reader that takes hours never keeps SQLite's write-ahead log or PostgreSQL's old rows alive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from policies.ballots import can_be_judged
from policies.records import Arm, LoggedExchange, Outcome, Sample
from proxy.store.engine.database import Database
from proxy.store.ingest.bodies import BodyCodec
from proxy.store.ingest.facts import VoteSummary
from proxy.store.reading.cursor import KeysetCursor
from proxy.store.tables.keys import BLOCK_RECORDS, id_time_us
from proxy.store.tables.schema import feedback, models, records
from proxy.store.tables.values import BodyPayload, RecordFlag, RecordRow, RecordView

__all__ = ["iter_judged", "iter_samples", "judged_of", "sample_of", "sample_of_row"]

_BLOCKS: Final = 96
_CUT: Final = int(RecordFlag.TRUNCATED_REQUEST | RecordFlag.TRUNCATED_RESPONSE)


async def iter_samples(
    db: Database,
    codec: BodyCodec,
    *,
    after_id: str | None,
    before_id: str | None,
    min_quality: float | None,
    min_feedback: float | None,
    newest_first: bool,
    chunk: int,
) -> AsyncIterator[Sample]:
    """Samples between two ids, both exclusive."""
    query = _query(newest_first).where(records.c.flags.bitwise_and(int(RecordFlag.SAMPLE)) != 0)
    if min_quality is not None:
        query = query.where(records.c.quality >= min_quality)
    if min_feedback is not None:
        query = query.where(records.c.feedback >= min_feedback)
    async for sample in _walk(db, codec, query, KeysetCursor(after_id, before_id, newest_first), chunk):
        yield sample


async def iter_judged(
    db: Database, codec: BodyCodec, *, before_id: str | None = None, chunk: int = 100
) -> AsyncIterator[Sample]:
    """What people corrected, then what they disliked, each newest first; also what may not become training data.

    A record that was both comes twice. Those that are disliked and those that are corrected are few, and each kind has
    an index.
    """
    corrected = sa.select(feedback.c.record_id).where(
        feedback.c.correction.is_not(None), feedback.c.record_id.is_not(None)
    )
    disliked = sa.and_(records.c.feedback.is_not(None), records.c.feedback < 0)
    for condition in (records.c.id.in_(corrected), disliked):
        query = _query(newest_first=True).where(condition)
        async for sample in _walk(db, codec, query, KeysetCursor(None, before_id, True), chunk):
            if _is_judged(sample):
                yield sample


def judged_of(view: RecordView) -> Sample | None:
    """A whole record as a sample, if somebody disliked or corrected it; None also where its body is gone."""
    if view.body is None:
        return None
    sample = _whole(view.row, view.body, view.votes)
    return sample if _is_judged(sample) else None


def _is_judged(sample: Sample) -> bool:
    return sample.correction is not None or (sample.feedback is not None and sample.feedback < 0)


async def _walk(
    db: Database, codec: BodyCodec, query: sa.Select[Any], stretch: KeysetCursor, chunk: int
) -> AsyncIterator[Sample]:
    query = query.limit(chunk)
    while not stretch.done:
        async with db.read() as connection:
            rows = (await connection.execute(query.where(*await stretch.bounds(connection)))).all()
            corrections = await _corrections(connection, [row.id for row in rows])
        for some in _runs(rows):
            async with db.read() as connection:
                found = await codec.read(connection, {row.id: row.body for row in some})
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


def sample_of(view: RecordView) -> Sample | None:
    """A whole record as a sample; None where it may not become training data, or its body is gone."""
    if view.body is None or RecordFlag.SAMPLE not in view.row.flags:
        return None
    return _whole(view.row, view.body, view.votes)


def _whole(row: RecordRow, body: BodyPayload, votes: Sequence[Any]) -> Sample:
    judged = can_be_judged(row.outcome, row.status)
    return Sample(
        record_id=row.id,
        created_at=id_time_us(row.id) / 1e6,
        user=row.user_hash,
        query=body.query or "",
        response=body.response_text or "",
        exchange=_exchange(row.kind, row.flags, body),
        model=row.model_name or "",
        arm=row.served_by,
        quality=row.quality,
        feedback=row.feedback if judged else None,
        correction=VoteSummary.of(votes).correction if judged else None,
        trainable=RecordFlag.NO_TRAIN not in row.flags,
        cluster=row.cluster if RecordFlag.CLAIMED in row.flags else None,
        tags=body.tags,
    )


def _exchange(kind: str, flags: int, body: BodyPayload) -> LoggedExchange:
    return LoggedExchange(
        kind=kind,
        target=body.target,
        request=body.request,
        response=body.response,
        request_type=body.request_headers.get("content-type", ""),
        response_type=body.response_headers.get("content-type", ""),
        cut=bool(flags & _CUT),
    )


def _query(newest_first: bool) -> sa.Select[Any]:
    columns = ("id", "user_hash", "quality", "feedback", "served_by", "body", "kind", "flags", "status", "outcome",
               "cluster")  # fmt: skip
    return (
        sa.select(*(records.c[name] for name in columns), models.c.name)
        .join(models, models.c.id == records.c.model_id, isouter=True)
        .order_by(records.c.id.desc() if newest_first else records.c.id)
    )


async def _corrections(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, str]:
    """What people said the answers should have been. They are few: the range finds them without a list of ids."""
    if not ids:
        return {}
    said = sa.or_(feedback.c.correction.is_not(None), feedback.c.retracted)
    query = sa.select(feedback).where(feedback.c.record_id.between(min(ids), max(ids)), said)
    votes: defaultdict[str, list[Any]] = defaultdict(list)
    for row in await connection.execute(query):
        votes[row.record_id].append(row)
    summaries = {record_id: VoteSummary.of(rows).correction for record_id, rows in votes.items()}
    return {record_id: text for record_id, text in summaries.items() if text is not None}


def sample_of_row(row: Any, body: BodyPayload, correction: str | None) -> Sample:
    """A row with these columns of a record, and its model's name."""
    judged = (row.feedback is None and correction is None) or can_be_judged(Outcome(row.outcome), row.status)
    return Sample(
        record_id=row.id,
        created_at=id_time_us(row.id) / 1e6,
        user=row.user_hash,
        query=body.query or "",
        response=body.response_text or "",
        exchange=_exchange(row.kind, row.flags, body),
        model=row.name or "",
        arm=Arm(row.served_by),
        quality=row.quality,
        feedback=row.feedback if judged else None,
        correction=correction if judged else None,
        trainable=not row.flags & RecordFlag.NO_TRAIN,
        cluster=row.cluster if row.flags & RecordFlag.CLAIMED else None,
        tags=body.tags,
    )
