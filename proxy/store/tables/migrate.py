"""Bringing the schema up to date when the store is opened, by whichever process comes first.

Migrations only go forward. Several processes may start at once: the first takes the write lock (SQLite) or an
advisory lock (PostgreSQL), the others wait and then find nothing to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from proxy.errors import PermanentError, TemporaryError
from proxy.store.engine.database import Database
from proxy.store.tables import partitions

__all__ = ["HEAD", "migrate", "refuse_unless_current"]

_LOCK: Final = 0x72617463_68657401
_SCRIPTS: Final = Path(__file__).parent / "migrations"
HEAD: Final = max(script.name[:4] for script in (_SCRIPTS / "versions").glob("[0-9]*.py"))
"""The newest migration: its file is named for it."""


async def refuse_unless_current(database: Database) -> None:
    """Raises TemporaryError where `migrate` would have something to do."""
    async with database.read() as connection:
        if await connection.run_sync(_revision) != HEAD:
            raise TemporaryError("store: the tables are not there yet, or not up to date", retry_after_s=1.0)


async def migrate(database: Database) -> bool:
    """Create or upgrade the tables; False where they are as they should be. Raises PermanentError where a newer version
    has been here."""
    async with database.read() as connection:
        if await connection.run_sync(_revision) == HEAD:
            return False
    async with database.write() as connection:
        if database.dialect == "postgresql":
            await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        await connection.run_sync(_upgrade)
    await partitions.create_ahead(database)
    return True


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: sa.Connection, target: str = "head") -> None:
    from alembic import command  # late: an up-to-date store opens without it
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    revision = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise PermanentError(
            f"store: the database is at schema {revision}, this version knows {HEAD} at most; run the newer version, "
            "or restore the backup made before it"
        )
    command.upgrade(config, target)
