"""Answers of a challenger to copies of requests, on their way into `comparisons`: half a comparison each.

The other half, the champion's answer, is in the record. It may come later than this one (a text that is being redacted
is overtaken), so both are put together when the check that wanted them looks (`proxy.checks.shadow`).

What a check can use is kept, and not all that traffic brings in a day: a user counts once, so that a few answers of
each are enough, for one of them may turn out to be missing its other half.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
import zstandard
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.store.engine.dialect import any_of, insert_new
from proxy.store.tables.schema import comparisons
from proxy.store.tables.values import NewAnswer

__all__ = ["MOST_ANSWERS", "insert_answers", "packed", "unpacked"]

MOST_ANSWERS: Final = 2000
"""Of a check."""
_OF_USER: Final = 3
_LEVEL: Final = 6
_MOST_BYTES: Final = 1 << 26


def packed(data: Mapping[str, Any]) -> bytes:
    """The column `data`: JSON, compressed."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(orjson.dumps(data))


def unpacked(data: bytes) -> Mapping[str, Any]:
    """What `packed` was given."""
    found: Mapping[str, Any] = orjson.loads(zstandard.ZstdDecompressor().decompress(data, max_output_size=_MOST_BYTES))
    return found


async def insert_answers(connection: AsyncConnection, answers: Sequence[NewAnswer]) -> None:
    """Add those that their checks have room for; one whose record was compared in its check before changes nothing."""
    if answers:
        kept = [_row(answer) for answer in await _with_room(connection, answers)]
        await insert_new(connection, comparisons, kept)


async def _with_room(connection: AsyncConnection, answers: Sequence[NewAnswer]) -> list[NewAnswer]:
    checks = {answer.check_id for answer in answers}
    users = [user for user in {answer.user_hash for answer in answers} if user is not None]
    of_check, of_user = comparisons.c.check_id.in_(checks), any_of(connection, comparisons.c.user_hash, users)
    totals = sa.select(comparisons.c.check_id, sa.func.count()).where(of_check).group_by(comparisons.c.check_id)
    owners = sa.select(comparisons.c.check_id, comparisons.c.user_hash).where(of_check, of_user)
    return list(
        _fitting(
            answers,
            Counter({row[0]: row[1] for row in await connection.execute(totals)}),
            Counter((row[0], row[1]) for row in await connection.execute(owners)),
        )
    )


def _fitting(
    answers: Sequence[NewAnswer], of_check: Counter[int], of_user: Counter[tuple[int, int]]
) -> Iterator[NewAnswer]:
    """Those for which there is room beside what is there already, by check, and by check and user."""
    for answer in answers:
        if of_check[answer.check_id] >= MOST_ANSWERS:
            continue
        if answer.user_hash is not None:
            if of_user[answer.check_id, answer.user_hash] >= _OF_USER:
                continue
            of_user[answer.check_id, answer.user_hash] += 1
        of_check[answer.check_id] += 1
        yield answer


def _row(answer: NewAnswer) -> dict[str, Any]:
    return {
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
