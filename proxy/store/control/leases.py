"""Leases: who may act, and a number that proves it.

A lease is held until its time is up and renewed meanwhile. Each new holder gets a higher fence, and every guarded
write names the fence it was decided under: a holder that slept through its time finds its writes refused, whatever
its clock says. On PostgreSQL the database's clock counts, on SQLite this host's.

A host that is cut off, or stopped, in the middle of such a write must not hold the lease's row locked for ever, or
nobody could take over: PostgreSQL ends its transaction after a few seconds of silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.errors import PermanentError, TemporaryError
from proxy.store.engine.database import Database
from proxy.store.engine.dialect import for_update, insert_new
from proxy.store.tables.control import Lease
from proxy.store.tables.rows import to_value
from proxy.store.tables.schema import leases

__all__ = ["HeldError", "Leases", "guard"]

_BACKWARDS: Final = 2
"""A lease that ends more terms than this from now was made by a clock that has been set back since: it is over."""
_SILENCE_MS: Final = 4000
"""How long whoever has locked a lease may say nothing to PostgreSQL; less than a term of the loop's lease."""


class HeldError(TemporaryError):
    """Somebody else holds the lease, and is at work: no trouble."""


class Leases:
    """The `leases` table."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def acquire(
        self, name: str, holder: str, *, ttl_s: float, detail: Mapping[str, Any] | None = None
    ) -> Lease | None:
        """Take or renew the lease for `ttl_s` seconds; None while somebody else holds it.

        Renewing keeps the fence; taking it, also from oneself after its time was up, raises it.
        """
        term_us = int(ttl_s * 1e6)
        async with self._db.write() as connection:
            await _end_if_silent(connection)
            await insert_new(
                connection, leases, [{"name": name, "holder": "", "fence": 0, "expires_us": 0, "detail": {}}]
            )
            query = sa.select(leases).where(leases.c.name == name)
            row = (await connection.execute(for_update(connection, query))).one()
            now_us = await self._db.now_us(connection)
            held = _is_held(row.expires_us, now_us, term_us)
            if held and row.holder != holder:
                return None
            values = {
                "holder": holder,
                "fence": row.fence if held else row.fence + 1,
                "expires_us": now_us + term_us,
                "detail": dict(detail or {}),
            }
            await connection.execute(sa.update(leases).where(leases.c.name == name).values(values))
        return Lease(name=name, **values)

    async def is_free(self, name: str, holder: str, *, ttl_s: float) -> bool:
        """Whether `acquire` would get it as things are. One look that locks nothing, for those who wait."""
        async with self._db.read() as connection:
            query = sa.select(leases.c.holder, leases.c.expires_us).where(leases.c.name == name)
            row = (await connection.execute(query)).first()
            now_us = await self._db.now_us(connection)
        return row is None or row.holder == holder or not _is_held(row.expires_us, now_us, int(ttl_s * 1e6))

    async def release(self, lease: Lease) -> None:
        """Give the lease back early; one that has moved on stays where it is."""
        mine = sa.and_(leases.c.name == lease.name, leases.c.fence == lease.fence, leases.c.holder == lease.holder)
        async with self._db.write() as connection:
            await connection.execute(sa.update(leases).where(mine).values(expires_us=0))

    async def get(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        async with self._db.read() as connection:
            row = (await connection.execute(sa.select(leases).where(leases.c.name == name))).first()
        return to_value(Lease, row) if row is not None else None


async def guard(connection: AsyncConnection, name: str, fence: int) -> None:
    """Hold the lease still until the end of the transaction. Raises PermanentError where `fence` is not its own."""
    await _end_if_silent(connection)
    query = sa.select(leases.c.fence, leases.c.holder).where(leases.c.name == name)
    row = (await connection.execute(for_update(connection, query))).first()
    if row is None or row.fence != fence:
        now = f"{row.holder} holds it with fence {row.fence}" if row is not None else "nobody ever held it"
        raise PermanentError(f"fenced: lease {name!r} was taken over, fence {fence} is void ({now})")


def _is_held(expires_us: int, now_us: int, term_us: int) -> bool:
    return now_us < expires_us <= now_us + _BACKWARDS * term_us


async def _end_if_silent(connection: AsyncConnection) -> None:
    """Before a lease is locked. SQLite's lock ends with its process."""
    if connection.dialect.name == "postgresql":
        statement = sa.text("SELECT set_config('idle_in_transaction_session_timeout', :limit, true)")
        await connection.execute(statement, {"limit": str(_SILENCE_MS)})
