"""One look at a shared PostgreSQL before anybody is served: its keys, and its time.

The supervisor takes it while clients wait, so it loads nothing but the driver, writes nothing, needs no table, and
gives up at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import orjson

from proxy.errors import TemporaryError

__all__ = ["Glance", "glance"]

_QUERY: Final = "SELECT value::text FROM secrets WHERE name = $1"


@dataclass(frozen=True, slots=True)
class Glance:
    """What was seen."""

    secret: dict[str, Any] | None
    """The value of the secret that was asked for; None where there is none, or no tables are there yet."""
    now: float
    """Unix seconds, by the database."""


async def glance(url: str, secret: str, *, within_s: float) -> Glance:
    """Look, or raise TemporaryError with the database's own words: what they mean, the controller says."""
    dsn = "postgresql://" + url.partition("://")[2]
    try:
        async with asyncio.timeout(within_s):
            connection = await asyncpg.connect(dsn, timeout=within_s, statement_cache_size=0)  # it may be a pooler
            try:
                async with connection.transaction():
                    now = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
                    there = await connection.fetchval("SELECT to_regclass('secrets') IS NOT NULL")
                    text = await connection.fetchval(_QUERY, secret) if there else None
            finally:
                connection.terminate()
            return Glance(None if text is None else orjson.loads(text), now)
    except TimeoutError as exc:
        raise TemporaryError("it does not answer at once") from exc
    except (OSError, ValueError, TypeError, asyncpg.PostgresError, asyncpg.InterfaceError,
            asyncpg.InternalClientError) as exc:  # fmt: skip
        words = str(exc).splitlines()[0] if str(exc) and not isinstance(exc, ValueError | TypeError) else ""
        raise TemporaryError(words or type(exc).__name__) from exc
