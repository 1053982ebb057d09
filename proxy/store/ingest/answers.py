"""Answers of a challenger to copies of requests, on their way into `comparisons`: half a comparison each.

The other half, the champion's answer, is in the record. It may come later than this one (a text that is being redacted
is overtaken), so both are put together when the check that wanted them looks (`proxy.checks.shadow`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
import zstandard
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import insert_new
from proxy.store.tables.schema import comparisons
from proxy.store.tables.values import NewAnswer

__all__ = ["insert_answers", "packed"]

_LEVEL: Final = 6


def packed(data: Mapping[str, Any]) -> bytes:
    """The column `data`: JSON, compressed."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(orjson.dumps(data))


async def insert_answers(connection: AsyncConnection, answers: Sequence[NewAnswer]) -> None:
    """Add them; one whose record was compared in this check before changes nothing."""
    rows = [
        {
            "check_id": answer.check_id,
            "item": answer.record_id,
            "record_id": answer.record_id,
            "user_hash": answer.user_hash,
            "tags": sa.null(),
            "outcome": None,
            "facts": dict(answer.facts),
            "data": answer.data,
            "created_us": answer.created_us,
        }
        for answer in answers
    ]
    await insert_new(connection, comparisons, rows)
