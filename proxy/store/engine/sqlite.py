"""SQLite's driver, with one trip to its thread for each statement, or for all of a transaction.

aiosqlite runs everything in a thread, and SQLAlchemy goes there four times for a statement: for a cursor, to execute
it, for its rows, to close the cursor. Each trip wakes two threads, which costs more than most of our statements. Here
all four are one trip. A cursor never outlives its statement, whoever is cancelled meanwhile: an open one would keep
its transaction open, too, and the lock with it.

A transaction of many statements goes there once (`in_one_trip`): the coroutine that makes them runs in that thread, to
its end and without an event loop, so that it may wait for nothing but its own statements. Nobody else uses the
connection meanwhile, and whoever is cancelled waits until the thread has let go of it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import aiosqlite
from sqlalchemy.dialects.sqlite import aiosqlite as dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import await_only

__all__ = ["DRIVER", "OneTripConnection", "at_hand", "in_one_trip"]

_T = TypeVar("_T")


class _Done(NamedTuple):
    """What is known of a statement once it has been executed."""

    rows: Sequence[Any]
    description: Any
    rowcount: int
    lastrowid: int | None


class OneTripCursor:
    """What SQLAlchemy asks of a cursor. All rows are here when `execute` returns."""

    arraysize = 1

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._done = _Done((), None, -1, None)
        self._rows: deque[Any] = deque()

    @property
    def description(self) -> Any:
        """Names of the columns; None for a statement without rows."""
        return self._done.description

    @property
    def rowcount(self) -> int:
        """Rows that were changed; -1 for a statement that changes none."""
        return self._done.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Key of the row that was inserted last."""
        return self._done.lastrowid

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> None:
        """Execute one statement, and fetch its rows."""
        self._go(lambda cursor: cursor.execute(operation, parameters or ()))

    def executemany(self, operation: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Execute one statement for each of these parameters."""
        self._go(lambda cursor: cursor.executemany(operation, parameters))

    def _go(self, work: Callable[[sqlite3.Cursor], object]) -> None:
        self._done = self._connection.in_its_thread(work)
        self._rows = deque(self._done.rows)

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._rows.popleft() if self._rows else None

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next rows."""
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        rows = list(self._rows)
        self._rows.clear()
        return rows

    def __iter__(self) -> Iterator[Any]:
        while self._rows:
            yield self._rows.popleft()

    def setinputsizes(self, *_sizes: Any) -> None:
        """SQLite needs none."""

    def close(self) -> None:
        """SQLite's own cursor is closed already."""
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """As SQLAlchemy calls it once all rows are fetched."""


class OneTripConnection(dialect.AsyncAdapt_aiosqlite_connection):
    """SQLAlchemy's, with our cursors where rows are not streamed."""

    __slots__ = ("_given_up", "_there")

    _cursor_cls = OneTripCursor  # type: ignore[assignment]

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._there = False
        """A coroutine is being run in the driver's thread; nobody else uses the connection."""
        self._given_up = False
        """Nobody waits for that any more: it ends before its next statement."""

    def in_its_thread(self, work: Callable[[sqlite3.Cursor], object]) -> _Done:
        """Do `work` with a new cursor, fetch its rows, and close it."""
        try:
            return await_only(self._at_once(work) if self._there else self._in_its_thread(work))
        except Exception as exc:  # noqa: BLE001 - it raises, what SQLAlchemy's own would
            self._handle_exception(exc)

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Execute one statement, and fetch its rows as the driver has them. For who has the connection `at_hand`."""
        self._refuse_if_given_up()
        return self._conn.execute(statement, parameters).fetchall()

    def changed(self, statement: str, parameters: Sequence[Any]) -> int:
        """Execute one statement; returns how many rows it changed."""
        self._refuse_if_given_up()
        return self._conn.execute(statement, parameters).rowcount

    def change_all(self, statement: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Execute one statement for each of these parameters."""
        self._refuse_if_given_up()
        self._conn.executemany(statement, parameters)

    def commit(self) -> None:
        """Commit, as everything else in the driver's thread."""
        if self._there:
            self._refuse_if_given_up()
            self._conn.commit()
        else:
            super().commit()

    def rollback(self) -> None:
        """Roll back, in the same thread."""
        if self._there:
            self._conn.rollback()
        else:
            super().rollback()

    @property
    def _conn(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._connection._conn
        return connection

    async def _in_its_thread(self, work: Callable[[sqlite3.Cursor], object]) -> _Done:
        connection = self._connection
        async with self._execute_mutex:
            done: _Done = await connection._execute(_done, connection._conn, work)
            return done

    async def _at_once(self, work: Callable[[sqlite3.Cursor], object]) -> _Done:
        """The same where this is its thread. A coroutine, for SQLAlchemy insists on one."""
        self._refuse_if_given_up()
        return _done(self._conn, work)

    @property
    def here(self) -> bool:
        """Whether the coroutine that is running does so in the driver's thread."""
        return self._there

    def _refuse_if_given_up(self) -> None:
        if self._given_up:
            raise sqlite3.OperationalError("interrupted")

    async def run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run `work`, which uses this connection and waits for nothing else, in the driver's thread."""
        async with self._execute_mutex:
            try:
                result: _T = await self._connection._execute(self._run, work)
            except asyncio.CancelledError:
                self._given_up = True
                try:
                    await self._ended()
                finally:
                    self._given_up = False
                raise
            return result

    def _run(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        self._there = True
        running = work()
        try:
            running.send(None)
        except StopIteration as done:
            result: _T = done.value
            return result
        finally:
            running.close()
            self._there = False
        raise RuntimeError("a transaction in SQLite's thread waits for what is not there")

    async def _ended(self) -> None:
        """Wait until the thread has done what it was given; cancelled or not, for until then the transaction is open
        and the connection not ours."""
        while True:
            try:
                await self._connection._execute(_nothing)
                return
            except asyncio.CancelledError:
                continue


async def in_one_trip(connection: AsyncConnection, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run `work`, which uses `connection`, one of this driver's, in the driver's thread. It may wait for nothing but
    what the connection does. Where this is cancelled, `work` is stopped at its next statement, and awaited."""
    raw: Any = (await connection.get_raw_connection()).dbapi_connection
    assert isinstance(raw, OneTripConnection)
    return await raw.run(work)


def at_hand(connection: AsyncConnection) -> OneTripConnection | None:
    """The driver's connection, for statements that need nothing of SQLAlchemy: to go through it costs ten times what
    most of them do. None where this is not the driver's thread, or another driver."""
    if connection.dialect.name != "sqlite":
        return None
    raw: Any = connection.sync_connection.connection.dbapi_connection  # type: ignore[union-attr]
    return raw if isinstance(raw, OneTripConnection) and raw.here else None


def _nothing() -> None: ...


def _done(connection: sqlite3.Connection, work: Callable[[sqlite3.Cursor], object]) -> _Done:
    cursor = connection.cursor()
    try:
        work(cursor)
        rows = cursor.fetchall() if cursor.description is not None else ()
        return _Done(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()


class _Driver(dialect.AsyncAdapt_aiosqlite_dbapi):
    def connect(self, *args: Any, **options: Any) -> OneTripConnection:
        """A connection whose thread ends with the process."""
        return OneTripConnection(self, super().connect(*args, **options)._connection)


DRIVER: Final = _Driver(aiosqlite, sqlite3)
"""For the engine's `module`."""
