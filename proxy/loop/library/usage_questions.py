"""What an application asks of its own log: a vote on a call, the newest calls, sums.

On the library's own event loop, as all that has the store (`UsageStore`).
"""

from __future__ import annotations

from typing import Any, Final

from proxy.ids import ForgedIdError, RecordIds
from proxy.loop.library.usage_store import UsageStore
from proxy.store.tables.keys import is_record_id
from proxy.store.tables.values import NewVote, RecordFilter, RecordRow

__all__ = ["find_records", "record_vote", "statistics"]

_PAGE: Final = 500


async def record_vote(
    usage: UsageStore, record_id: str, feedback: int, text: str | None, correction: str | None, source: str
) -> bool:
    """Attach a vote to a record by its id, signed or not; False where there is no such record."""
    try:
        uuid = usage.ids.verify(record_id)
    except ForgedIdError:
        if not is_record_id(record_id):
            return False
        uuid = record_id
    if not usage.journal.holds(uuid) and await usage.store.records.get(uuid) is None:
        await usage.settle()
        if await usage.store.records.get(uuid) is None:
            return False
    now = usage.clock.now()
    vote = NewVote(
        fid=usage.ids.new_uuid(now),
        record_id=uuid,
        source=source,
        feedback=feedback,
        comment=text,
        correction=correction,
        created_us=round(now * 1e6),
    )
    await usage.vote(vote)
    return True


async def find_records(usage: UsageStore, wanted: RecordFilter, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        page = await usage.store.records.list(wanted, cursor=cursor, limit=min(_PAGE, limit - len(found)))
        found += [_row(row, usage.ids) for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    return found


def _row(row: RecordRow, ids: RecordIds) -> dict[str, Any]:
    return {
        "record_id": ids.sign(row.id),
        "timestamp": row.created_us / 1e6,
        "query": row.query,
        "response": row.response_text,
        "model": row.model_name,
        "arm": row.arm.label,
        "latency_ms": row.duration_us / 1000,
        "quality_score": row.quality,
        "feedback": row.feedback,
    }


async def statistics(usage: UsageStore) -> dict[str, Any]:
    totals = await usage.store.traffic.totals()
    votes = totals.votes
    given = votes.positive + votes.negative + votes.neutral
    return {
        "total": totals.requests,
        "with_feedback": totals.voted,
        "feedback_rate": totals.voted / totals.of_users if totals.of_users else 0.0,
        "scored": totals.scored,
        "avg_quality_score": totals.quality if totals.quality is not None else 0.0,
        "avg_feedback": (votes.positive - votes.negative) / given if given else None,
        "positive": votes.positive,
        "negative": votes.negative,
        "neutral": votes.neutral,
        "errors": totals.errors,
    }
