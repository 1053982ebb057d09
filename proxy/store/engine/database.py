"""Connections and transactions: the only module that knows which database it is talking to and how it fails.

SQLite: one writing connection, whose transactions begin IMMEDIATE so that they wait for another process's write
instead of failing half-way, and a few reading ones that a write never blocks (WAL). PostgreSQL: one pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

import asyncpg
import orjson
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.clock import Clock
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.private import create, make_folder
from proxy.store.engine.files import FileWatch
from proxy.store.engine.postgres import Postgres, dump
from proxy.store.engine.refusals import (
    DRIVER_ERRORS,
    ErrorSubject,
    RefusalKind,
    StoreAwayError,
    StoreRefusedError,
    explain,
)
from proxy.store.engine.sqlite import DRIVER, in_one_trip

__all__ = ["Database", "Heard"]

Dialect = Literal["sqlite", "postgresql"]

PAGE_SIZE: Final = 4096
"""Measured: larger pages leave more room unused, behind the last part of every block of bodies."""
_READERS: Final = 3
_LET_GO_S: Final = 15.0
"""For transactions that are under way when files are lost."""
_LISTEN_PING_S: Final = 20.0
_OVERTAKEN: Final = ("23505", "23514")
"""A key taken, or a day's partition dropped, between our look and our insert."""
_POLLED: Final = "store: a pooler stands before PostgreSQL, through which no notifications come; what other replicas " \
                 "change is asked for every few seconds; set store.listen_url to a direct url to hear of it at " \
                 "once"  # fmt: skip
_STATEMENTS_MIXED: Final = ("26000", "42P05")
_T = TypeVar("_T")
Heard = Callable[[StoreAwayError], None]
"""Is told of each error that is the database's fault."""


class Database:
    """An open database. `read()` and `write()` give a connection inside a transaction.

    No error of a driver leaves them: what passes is a `StoreAwayError`, what the database will never take a
    `StoreRefusedError` (`proxy.store.engine.refusals`).
    """

    def __init__(
        self,
        dialect: Dialect,
        writer: AsyncEngine,
        reader: AsyncEngine,
        clock: Clock,
        *,
        place: ErrorSubject,
        path: Path | None = None,
        postgres: Postgres | None = None,
        listener: Postgres | None = None,
    ) -> None:
        self.dialect: Final = dialect
        self.clock: Final = clock
        self.path: Final = path
        """The SQLite file."""
        self.known_days: set[int] = set()
        """PostgreSQL: days whose partitions are known to exist."""
        self.heard: Heard | None = None
        """Is told of each error that is the database's fault, however it is met."""
        self._writer = writer
        self._reader = reader
        self._in_use = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._open.set()
        self._watch = None if path is None else FileWatch(path)
        self._place = place
        self._postgres = postgres
        self._listener = listener or postgres

    @classmethod
    def connect(
        cls, url: str, *, clock: Clock, pool_size: int, busy_timeout_s: float, listen_url: str | None = None
    ) -> Self:
        """Engines for `url`; nothing is contacted yet. `listen_url`: where notifications are heard, if not there.

        Raises ConfigError for a url that is no database of ours, StoreAwayError where a file cannot be made.
        """
        parsed = _parsed(url, "store.url")
        match parsed.get_backend_name():
            case "sqlite" if parsed.database and parsed.database != ":memory:":
                return cls._sqlite(parsed, clock, busy_timeout_s)
            case "postgresql" | "postgres":
                return cls._postgresql(parsed, clock, pool_size, listen_url)
        raise ConfigError(
            "store.url: unknown kind of database; use sqlite:///path/to/file.db or postgresql://host/name"
        )

    @classmethod
    def _postgresql(cls, url: URL, clock: Clock, pool_size: int, listen_url: str | None) -> Self:
        postgres = Postgres(url, pool_size, listens=listen_url is None)
        listener = None
        if listen_url is not None:
            listener = Postgres(_parsed(listen_url, "store.listen_url"), 1, setting="store.listen_url")
        user = url.username or "the role"
        place = ErrorSubject(user=user, database=url.database or user)
        engine = postgres.engine
        return cls("postgresql", engine, engine, clock, place=place, postgres=postgres, listener=listener)

    @classmethod
    def _sqlite(cls, url: URL, clock: Clock, busy_timeout_s: float) -> Self:
        path = Path(str(url.database)).expanduser()
        place = ErrorSubject(path=str(path))
        try:
            make_folder(path.parent)
            create(path)
        except OSError as exc:
            raise explain(exc, place) from exc
        url = URL.create("sqlite+aiosqlite", database=str(path))
        return cls(
            "sqlite",
            _sqlite_engine(url, writes=True, size=1, busy_timeout_s=busy_timeout_s),
            _sqlite_engine(url, writes=False, size=_READERS, busy_timeout_s=busy_timeout_s),
            clock,
            place=place,
            path=path,
        )

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view; keep it short, on SQLite the write-ahead log cannot shrink meanwhile."""
        async with self._reading(self._reader) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """As `read`, and every statement sees the same moment; by itself PostgreSQL gives each one its own."""
        reader = self._reader
        if self.dialect == "postgresql":  # with the BEGIN: any statement may be too late, as ours behind a pooler
            reader = reader.execution_options(isolation_level="REPEATABLE READ")
        async with self._reading(reader) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _reading(self, reader: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._admitted(), reader.begin() as connection:
                yield connection
        except DRIVER_ERRORS as exc:
            raise await self._explained(exc, writing=False) from exc

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, rolled back by an exception."""
        async with self._writing(), self._writer.begin() as connection:
            yield connection

    async def transact(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, _T]]) -> _T:
        """The same around `work`, for one of many statements: on SQLite all of it is done in the driver's thread, which
        takes half as long, and holds up nobody. There it may wait for nothing but its statements; what computes for
        long is done `in_a_thread`.

        Cancelled, it waits until the statement that is under way has ended, and the transaction with it; where that was
        the commit, all of it is stored."""
        if self.dialect != "sqlite":
            async with self.write() as connection:
                return await work(connection)
        async with self._writing(), self._writer.connect() as connection:
            return await in_one_trip(connection, partial(_whole, connection, work))

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        try:
            async with self._admitted():
                yield
        except (IntegrityError, sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError) as exc:
            # SQLAlchemy's, and what comes straight from a driver
            cause = exc.orig if isinstance(exc, IntegrityError) else exc
            if getattr(cause, "sqlstate", None) not in _OVERTAKEN:
                raise explain(exc, self._place) from exc
            self.known_days.clear()
            raise StoreAwayError("another replica was faster; Ratchet retries automatically", RefusalKind.RACE) from exc
        except DRIVER_ERRORS as exc:
            raise await self._explained(exc, writing=True) from exc

    @contextlib.asynccontextmanager
    async def outside_transaction(self) -> AsyncIterator[AsyncConnection]:
        """A connection in autocommit, for VACUUM and its like."""
        try:
            async with self._admitted(), self._writer.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                yield connection
        except DRIVER_ERRORS as exc:
            raise await self._explained(exc, writing=False) from exc

    async def _explained(self, exc: BaseException, *, writing: bool) -> StoreAwayError | StoreRefusedError:
        """The error to raise in the place of a driver's; whoever watches the database is told."""
        error = explain(exc, self._place)
        if self._postgres is not None and _state(exc) in _STATEMENTS_MIXED and not self._postgres.pooled:
            self._postgres.pooled = True  # one that could not be seen through: spoken to as a pooler from now on
            await self._writer.dispose()
        if isinstance(error, StoreAwayError) and self.heard is not None:
            news = error.kind is not RefusalKind.RACE and (writing or error.kind is not RefusalKind.BUSY)
            if news:
                self.heard(error)
        return error

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
            try:
                make_folder(self.path.parent)
                create(self.path)
            except OSError as exc:
                raise explain(exc, self._place) from exc
        finally:
            self._open.set()

    async def _complete_file(self) -> None:
        """Write what is in the log into the file, which may have been moved away for somebody to keep."""
        with contextlib.suppress(*DRIVER_ERRORS):
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

        Raises TemporaryError once the connection is lost: notifications since then may have been missed, and
        PermanentError where a pooler stands before the database, through which none come.
        """
        assert self._listener is not None
        try:
            async with self._listener.engine.connect() as connection:
                if self._listener.pooled:
                    raise PermanentError(_POLLED)
                await self._hear(connection, channels, heard)
        except DRIVER_ERRORS as exc:
            raise explain(exc, self._place) from exc
        raise TemporaryError("store: the connection for notifications was lost", retry_after_s=1.0)

    async def _hear(self, connection: AsyncConnection, channels: Sequence[str], heard: Callable[[str], None]) -> None:
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
        if self._listener is not None:
            await self._listener.engine.dispose()


async def _whole(connection: AsyncConnection, work: Callable[[AsyncConnection], Coroutine[Any, Any, _T]]) -> _T:
    async with connection.begin():
        return await work(connection)


def _parsed(url: str, setting: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # whose words may hold the password
        raise ConfigError(f"{setting}: not a database url; use sqlite:///file.db or postgresql://…") from None


def _state(exc: BaseException) -> str:
    return str(getattr(getattr(exc, "orig", exc), "sqlstate", ""))


def _sqlite_engine(url: URL, *, writes: bool, size: int, busy_timeout_s: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        module=DRIVER,
        pool_size=size,
        max_overflow=0,
        pool_timeout=60,
        json_serializer=dump,
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
