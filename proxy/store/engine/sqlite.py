"""SQLite's driver, with one trip to its thread for each statement.

aiosqlite runs everything in a thread, and SQLAlchemy goes there four times for a statement: for a cursor, to execute
it, for its rows, to close the cursor. Each trip wakes two threads, which costs more than most of our statements. Here
all four are one trip. A cursor never outlives its statement, whoever is cancelled meanwhile: an open one would keep
its transaction open, too, and the lock with it.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import aiosqlite
from sqlalchemy.dialects.sqlite import aiosqlite as dialect
from sqlalchemy.util import await_only

__all__ = ["DRIVER"]


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

    __slots__ = ()

    _cursor_cls = OneTripCursor  # type: ignore[assignment]

    def in_its_thread(self, work: Callable[[sqlite3.Cursor], object]) -> _Done:
        """Do `work` with a new cursor, fetch its rows, and close it."""
        try:
            return await_only(self._in_its_thread(work))
        except Exception as exc:  # noqa: BLE001 - it raises, what SQLAlchemy's own would
            self._handle_exception(exc)

    async def _in_its_thread(self, work: Callable[[sqlite3.Cursor], object]) -> _Done:
        connection = self._connection
        async with self._execute_mutex:
            done: _Done = await connection._execute(_done, connection._conn, work)
            return done


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
