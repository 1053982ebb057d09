"""A judge's scores of records: kept with the record and counted in its experiment, as a vote that comes late is.

They are beside the score that counts, never in its place: what a judge says decides nothing that votes have not borne
out (`policies.rectified`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.ingest.facts import Rejudged, VoteSummary
from proxy.store.ingest.recounts import lock_records, votes_on
from proxy.store.tables.schema import records

__all__ = ["keep", "refuse_unless_scores"]

_CHUNK: Final = 500


def refuse_unless_scores(scores: Mapping[str, float | None]) -> None:
    """Raises ValueError for a score outside of [0, 1], NaN included."""
    for record_id, score in scores.items():
        if score is not None and not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ValueError(f"judged: {score} for record {record_id} is no score; give 0 to 1, or None")


async def keep(connection: AsyncConnection, scores: Mapping[str, float | None]) -> list[Rejudged]:
    """Write the scores to their records; returns what changed, to be counted (`deltas.counted`)."""
    changed: list[Rejudged] = []
    ids = sorted(scores)
    for start in range(0, len(ids), _CHUNK):
        found = await lock_records(connection, ids[start : start + _CHUNK])
        other = {key: record for key, record in found.items() if record.judged != scores[key]}
        votes = await votes_on(connection, list(other))
        for key, record in sorted(other.items()):
            cast = VoteSummary.on(record, (vote for vote in votes[key] if vote.joined))
            changed.append(Rejudged(record, cast, scores[key]))
    if changed:
        update = sa.update(records).where(records.c.id == sa.bindparam("key"))
        rows = [{"key": one.record.id, "new_judged": one.score} for one in changed]
        await connection.execute(update.values(judged=sa.bindparam("new_judged")), rows)
    return changed
