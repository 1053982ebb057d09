"""May we use this database? Tried, not asked: a table is made, written and taken back in one transaction."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from proxy.clock import Clock
from proxy.store.engine.database import Database
from proxy.store.engine.refusals import RefusalKind, StoreAwayError

__all__ = ["try_rights"]

_TABLE = "ratchet_may_make_tables"


class _TakeBack(Exception):
    pass


async def try_rights(url: str, clock: Clock) -> str:
    """Connect to the database at `url` and try what Ratchet has to do there; returns what it is, in words. Nothing is
    changed, and no file made. Raises ConfigError for what is no database of ours, StoreAwayError with the reason."""
    file = url.partition("sqlite:///")[2]
    if file and not (path := Path(file).expanduser()).exists():
        return _where_it_will_be(path)
    database = Database.connect(url, clock=clock, pool_size=1, busy_timeout_s=5.0)
    try:
        try:
            async with database.write() as connection:
                await connection.execute(sa.text(f"CREATE TABLE {_TABLE} (x INTEGER)"))
                await connection.execute(sa.text(f"INSERT INTO {_TABLE} VALUES (1)"))
                raise _TakeBack
        except _TakeBack:
            pass
        async with database.read() as connection:
            if database.dialect == "sqlite":
                return f"SQLite, {file}"
            version = await connection.scalar(sa.text("SHOW server_version"))
            return f"PostgreSQL {version}"
    finally:
        await database.close()


def _where_it_will_be(path: Path) -> str:
    folder = next(place for place in path.absolute().parents if place.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreAwayError(
            f"{path} is not there, and cannot be made: {folder} is not writable for this user; change its owner, or "
            "server.data_dir",
            RefusalKind.PERSON,
        )
    return f"SQLite, {path}, which the first start makes"
