"""Connections and transactions: the only module that knows which database it is talking to and how it fails.

SQLite: one writing connection, whose transactions begin IMMEDIATE so that they wait for another process's write
instead of failing half-way, and a few reading ones that a write never blocks (WAL). PostgreSQL: one pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.clock import Clock
from proxy.errors import ConfigError, TemporaryError
from proxy.private import create, make_folder
from proxy.store.files import FileWatch
from proxy.store.keepalive import SERVER_SETTINGS, notice_silence

__all__ = ["Database"]

Dialect = Literal["sqlite", "postgresql"]

PAGE_SIZE: Final = 4096
"""Measured: larger pages leave more room unused, behind the last part of every block of bodies."""
_READERS: Final = 3
_LET_GO_S: Final = 15.0
"""For transactions that are under way when files are lost."""
_LOCK_TIMEOUT_MS: Final = 10_000
_LISTEN_PING_S: Final = 20.0
_RETRYABLE_STATES: Final = ("08", "25P03", "40", "42P01", "53", "55P03", "57")
"""PostgreSQL: connection, silent in a transaction for too long, serialisation and deadlock, no such table (the database
is an empty one, which gets its tables), resources (disk full), lock timeout, shutdown."""
_OVERTAKEN: Final = ("23505", "23514")
"""A key taken, or a day's partition dropped, between our look and our insert."""
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_REMEDY: Final = "the database file is damaged; stop `ratchet serve`, put a backup in its place, or move it away to " \
                 "begin anew"  # fmt: skip


class Database:
    """An open database. `read()` and `write()` give a connection inside a transaction."""

    def __init__(self, dialect: Dialect, writer: AsyncEngine, reader: AsyncEngine, clock: Clock, path: Path | None):
        self.dialect: Final = dialect
        self.clock: Final = clock
        self.path: Final = path
        """The SQLite file."""
        self.known_days: set[int] = set()
        """PostgreSQL: days whose partitions are known to exist."""
        self._writer = writer
        self._reader = reader
        self._in_use = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._open.set()
        self._watch = None if path is None else FileWatch(path)

    @classmethod
    def connect(cls, url: str, *, clock: Clock, pool_size: int, busy_timeout_s: float) -> Self:
        """Engines for `url`; nothing is contacted yet. Raises ConfigError for a url that is no database of ours."""
        try:
            parsed = make_url(url)
        except ArgumentError as exc:
            raise ConfigError(
                f"store.url: not a database url ({exc}); use sqlite:///file.db or postgresql://…"
            ) from exc
        match parsed.get_backend_name():
            case "sqlite" if parsed.database and parsed.database != ":memory:":
                return cls._sqlite(parsed, clock, busy_timeout_s)
            case "postgresql" | "postgres":
                engine = _postgresql_engine(parsed, pool_size)
                return cls("postgresql", engine, engine, clock, None)
        raise ConfigError(
            "store.url: unknown kind of database; use sqlite:///path/to/file.db or postgresql://host/name"
        )

    @classmethod
    def _sqlite(cls, url: URL, clock: Clock, busy_timeout_s: float) -> Self:
        path = Path(str(url.database)).expanduser()
        make_folder(path.parent)
        create(path)
        url = URL.create("sqlite+aiosqlite", database=str(path))
        return cls(
            "sqlite",
            _sqlite_engine(url, writes=True, size=1, busy_timeout_s=busy_timeout_s),
            _sqlite_engine(url, writes=False, size=_READERS, busy_timeout_s=busy_timeout_s),
            clock,
            path,
        )

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view; keep it short, on SQLite the write-ahead log can not shrink meanwhile."""
        with _temporary_errors():
            async with self._admitted(), self._reader.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, rolled back by an exception."""
        try:
            with _temporary_errors():
                async with self._admitted(), self._writer.begin() as connection:
                    yield connection
        except (IntegrityError, asyncpg.IntegrityConstraintViolationError) as exc:  # the latter from COPY
            cause = exc.orig if isinstance(exc, IntegrityError) else exc
            if getattr(cause, "sqlstate", None) not in _OVERTAKEN:
                raise
            self.known_days.clear()
            raise TemporaryError(
                f"store: another replica was quicker ({_first_line(cause)})", retry_after_s=0.1
            ) from exc

    @contextlib.asynccontextmanager
    async def outside_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit, for VACUUM and its like."""
        with _temporary_errors():
            async with self._admitted(), self._writer.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield connection

    @contextlib.asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        """Wait while the database is opened anew, and have that wait until this is done."""
        if not self._open.is_set():
            await self._open.wait()
        self._in_use += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_use -= 1
            if not self._in_use:
                self._idle.set()

    def watch_files(self) -> None:
        """From now on SQLite's files are to stay where they are."""
        if self._watch is not None:
            self._watch.begin()

    def lost_file(self) -> Path | None:
        """A file of SQLite's that was removed or replaced since; what is committed now goes nowhere."""
        return None if self._watch is None else self._watch.lost()

    async def reopen(self) -> None:
        """Let go of SQLite's files as they were, and take those that are at their names now; none: begin new ones.

        Transactions that are under way are awaited, for two logs of one file must not be written at once.
        """
        assert self.path is not None  # only SQLite loses files
        assert self._watch is not None
        self._open.clear()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO_S):
                    await self._idle.wait()
            await self._complete_file()
            await self._reader.dispose()
            await self._writer.dispose()
            if self._watch.lost() == self.path:
                self._watch.leave_nothing()
            with _temporary_errors():
                make_folder(self.path.parent)
                create(self.path)
        finally:
            self._open.set()

    async def _complete_file(self) -> None:
        """Write what is in the log into the file, which may have been moved away for somebody to keep."""
        with contextlib.suppress(DBAPIError, OSError):
            async with self._writer.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    async def ping(self) -> None:
        """Raises TemporaryError while the database does not answer."""
        async with self.read() as connection:
            await connection.execute(sa.text("SELECT 1"))

    async def now_us(self, connection: AsyncConnection) -> int:
        """The time that everybody who shares this database agrees on: its own on PostgreSQL, this host's on SQLite."""
        if self.dialect == "sqlite":
            return int(self.clock.now() * 1e6)
        return int(await connection.scalar(sa.text("SELECT (extract(epoch FROM clock_timestamp()) * 1e6)::bigint")))

    async def listen(self, channels: Sequence[str], heard: Callable[[str], None]) -> None:
        """Call `heard(channel)` for every notification, for ever; PostgreSQL only. Takes a connection of its own.

        Raises TemporaryError once the connection is lost: notifications since then may have been missed.
        """
        with _temporary_errors():
            async with self._writer.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                lost = asyncio.Event()
                driver.add_termination_listener(lambda _connection: lost.set())
                for channel in channels:
                    await driver.add_listener(channel, lambda _connection, _pid, name, _payload: heard(name))
                try:
                    while not lost.is_set():
                        await connection.execute(sa.text("SELECT 1"))  # notices a peer that is silently gone
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(_LISTEN_PING_S):
                                await lost.wait()
                finally:
                    await connection.invalidate()  # with its listeners it must not go back to the pool
        raise TemporaryError("store: the connection for notifications was lost", retry_after_s=1.0)

    @property
    def name(self) -> str:
        """The database's url without its password."""
        return self._writer.url.set(drivername=self.dialect).render_as_string(hide_password=True)

    def files(self) -> list[Path]:
        """What SQLite keeps on disk; empty for PostgreSQL."""
        return [self.path.with_name(self.path.name + end) for end in ("", "-wal", "-shm")] if self.path else []

    async def close(self) -> None:
        """Give back every connection."""
        await self._reader.dispose()
        await self._writer.dispose()


def _postgresql_engine(url: URL, pool_size: int) -> AsyncEngine:
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name; asyncpg's argument is `ssl`
        query["ssl"] = query.pop("sslmode")
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        pool_size=pool_size,
        max_overflow=1,  # for the connection that listens
        pool_timeout=30,
        pool_pre_ping=True,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": 10,
            "command_timeout": 60,
            "server_settings": {
                "application_name": "ratchet",
                "lock_timeout": str(_LOCK_TIMEOUT_MS),
                "jit": "off",
                **SERVER_SETTINGS,
            },
        },
    )
    notice_silence(engine)
    return engine


def _sqlite_engine(url: URL, *, writes: bool, size: int, busy_timeout_s: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=60,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
        connect_args={"timeout": busy_timeout_s},
    )
    pragmas = _writer_pragmas() if writes else ("query_only = ON",)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
        cursor = connection.cursor()
        for pragma in (*pragmas, "cache_size = -16000", "temp_store = MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @sa.event.listens_for(engine.sync_engine, "invalidate")
    def roll_back(connection: Any, _record: object, _error: object) -> None:
        """A cancelled statement's cursor outlives its connection, and SQLite then keeps the transaction open, with its
        lock, until the garbage collector comes by."""
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()

    return engine


def _writer_pragmas() -> tuple[str, ...]:
    """The first two only count before the first table. `synchronous` is FULL because a spool segment is deleted once
    its rows are committed; `secure_delete` overwrites what is deleted, so that a deleted user is not in the file."""
    return (
        f"page_size = {PAGE_SIZE}",
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        "journal_size_limit = 67108864",
        "secure_delete = ON",
    )


def _dump(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY).decode()


@contextlib.contextmanager
def _temporary_errors() -> Iterator[None]:
    """Turn what passes by itself (locked, down, deadlock) or once somebody has seen to it (full, damaged) into
    TemporaryError; all else stays what it is."""
    try:
        yield
    except PoolTimeoutError as exc:
        raise TemporaryError("store: every connection is busy", retry_after_s=1.0) from exc
    except DBAPIError as exc:
        if not _passes(exc):
            raise
        raise TemporaryError(f"store: {_reason(exc)}", retry_after_s=1.0) from exc
    except (OSError, TimeoutError) as exc:
        raise TemporaryError(f"store: the database does not answer ({exc})", retry_after_s=1.0) from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:  # from COPY, and while connecting
        if isinstance(exc, ValueError) or not str(getattr(exc, "sqlstate", "08")).startswith(_RETRYABLE_STATES):
            raise
        raise TemporaryError(f"store: the database does not answer ({exc})", retry_after_s=1.0) from exc


def _passes(exc: DBAPIError) -> bool:
    state = getattr(exc.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_RETRYABLE_STATES)
    return isinstance(exc, OperationalError) or exc.connection_invalidated or _is_damaged(exc)


def _is_damaged(exc: DBAPIError) -> bool:
    return getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _reason(exc: DBAPIError) -> str:
    reason = _first_line(exc.orig)
    return f"{reason}: {_REMEDY}" if _is_damaged(exc) else reason


def _first_line(cause: object) -> str:
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
