"""Connections to PostgreSQL, also through a pooler that hands a session to somebody else after each transaction.

Whether there is one is found out as a connection is made: a pooler gives its clients a process id of its own, which is
not that of the session behind it, and some refuse the settings that we begin with. Behind a pooler nothing may be left
in a session: statements have no name, settings are for one transaction (`SET LOCAL`), and nobody can listen. A direct
connection keeps its prepared statements, which save a round trip each.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from proxy.config.forms import POSTGRESQL_OPTIONS
from proxy.errors import ConfigError
from proxy.store.engine.keepalive import SERVER_SETTINGS, notice_silence
from proxy.store.engine.refusals import OLDEST_POSTGRESQL, RefusalKind, StoreAwayError

__all__ = ["Postgres"]

_SETTINGS: Final = {"lock_timeout": "10000", "jit": "off"}
"""Ours wherever we are: milliseconds until a lock is given up, and no compiling of queries that are short."""
_LOCALLY: Final = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())
_UNNAMED: Final = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
_NAMES: Final = {"sslmode": "ssl", "connect_timeout": "timeout", "dbname": "database"}
"""libpq's names of what asyncpg calls otherwise."""
_SESSION_NAMES: Final = ("application_name", "options", "search_path", "client_encoding")
"""What a url may set for the session; asyncpg takes it as a setting of the server."""
_TIMES: Final = {"timeout": "10", "command_timeout": "60"}
"""Seconds to connect in, and for an answer, unless the url says otherwise."""


class _PoolerError(Exception):
    """What was connected to is a pooler: once more, as one has to be spoken to."""


class Postgres:
    """An engine for one url. `pooled`: whether a pooler was found before the server; None before the first look."""

    def __init__(self, url: URL, pool_size: int, *, listens: bool = False, setting: str = "store.url") -> None:
        """`listens`: keep a place for a connection that listens. Raises ConfigError for what a url may not say."""
        self.pooled: bool | None = None
        query, session = _query(url, setting)
        self._session = session
        self.engine: Final[AsyncEngine] = create_async_engine(
            url.set(drivername="postgresql+asyncpg", query=query),
            pool_size=pool_size,
            max_overflow=int(listens),
            pool_timeout=30,
            pool_pre_ping=True,
            json_serializer=dump,
            json_deserializer=orjson.loads,
        )
        sync = self.engine.sync_engine
        sa.event.listens_for(sync, "do_connect")(self._connect)
        sa.event.listens_for(sync, "begin")(self._begin)
        notice_silence(self.engine)

    def _connect(self, dialect: Dialect, _record: object, args: list[Any], given: dict[str, Any]) -> Any:
        for name, usual in _TIMES.items():
            given[name] = float(given.get(name, usual))
        if not self.pooled:
            try:
                made = dialect.connect(*args, **given, async_creator_fn=self._directly)
            except _PoolerError:
                self.pooled = True
            else:
                self.pooled = False
                return made
        return dialect.connect(*args, **given, **_UNNAMED, server_settings=self._session or None)

    async def _directly(self, **given: Any) -> Any:
        settings = {"application_name": "ratchet", **_SETTINGS, **SERVER_SETTINGS, **self._session}
        try:
            connection = await asyncpg.connect(**given, server_settings=settings)
        except asyncpg.ProtocolViolationError as exc:
            if "startup parameter" in str(exc):
                raise _PoolerError from exc
            raise
        try:
            _refuse_if_old(connection.get_server_version())
            pooled = await _is_pooled(connection)
        except BaseException:
            connection.terminate()
            raise
        if pooled:
            await connection.close()
            raise _PoolerError
        return connection

    def _begin(self, connection: sa.Connection) -> None:
        """Behind a pooler each transaction brings its own settings."""
        if self.pooled and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql(_LOCALLY)


def _refuse_if_old(version: Any) -> None:
    if version.major < OLDEST_POSTGRESQL:
        raise StoreAwayError(
            f"PostgreSQL {version.major}.{version.minor} is too old: use {OLDEST_POSTGRESQL} or newer",
            RefusalKind.PERSON,
        )


async def _is_pooled(connection: Any) -> bool:
    """Whether somebody stands between us and the session. In a transaction, in which no pooler changes sessions, and
    without a name, which the next who gets the session could find taken."""
    try:
        async with connection.transaction():
            statement = await connection.prepare("SELECT pg_backend_pid()", name="")
            pid = await statement.fetchval()
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
        return True
    return bool(pid != connection.get_server_pid())


def _query(url: URL, setting: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What a url asks for behind its question mark: of the driver, and of the session."""
    query: dict[str, Any] = {_NAMES.get(name, name): value for name, value in url.query.items()}
    session: dict[str, str] = {name: str(query.pop(name)) for name in _SESSION_NAMES if name in query}
    for name in url.query:
        if name not in POSTGRESQL_OPTIONS:
            raise ConfigError(f"{setting}: {name} is nothing that a connection takes; leave it out")
    for name in _TIMES:
        try:
            float(query.get(name, 0))
        except (TypeError, ValueError):
            raise ConfigError(f"{setting}: {name} is not a number of seconds") from None
    return query, session


def dump(value: object) -> str:
    """A JSON column's text."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()
