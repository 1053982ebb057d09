"""Every error of a database is one sentence with a remedy, for a person; none is a driver's own exception."""

from __future__ import annotations

import errno
import sqlite3
import ssl
from itertools import product

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError, NoResultFound, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from proxy.errors import PermanentError, TemporaryError
from proxy.store.engine.refusals import (
    POSTGRESQL,
    SQLITE,
    ErrorSubject,
    RefusalKind,
    StoreAwayError,
    StoreRefusedError,
    explain,
)

PLACE = ErrorSubject(user="ann", database="chats", path="/var/lib/ratchet.db")
ERRORS = [cls for cls in vars(asyncpg.exceptions).values() if isinstance(cls, type)]
KNOWN = sorted({cls.sqlstate for cls in ERRORS if issubclass(cls, asyncpg.PostgresError) and cls.sqlstate})
STATES = st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5)
CODES = sorted(value for name, value in vars(sqlite3).items() if name.startswith("SQLITE_") and isinstance(value, int))


def postgres_error(state: str, words: str = "the server's words") -> asyncpg.PostgresError:
    error = asyncpg.PostgresError.new({"S": "FATAL", "C": state, "M": words, "D": "a detail: hunter2"})
    assert isinstance(error, asyncpg.PostgresError)
    return error


def sqlite_error(code: int, words: str = "SQLite's words") -> sqlite3.Error:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


def assert_a_sentence(error: StoreAwayError | StoreRefusedError, of: object = "") -> str:
    """`of`: which of many it is."""
    text = str(error)
    assert text.startswith("store: "), of
    assert "\n" not in text, of
    assert "; " in text, f"what is wrong; what to do about it {of}"
    assert "{" not in text, of
    assert "hunter2" not in text, of
    assert isinstance(error, TemporaryError | PermanentError), of
    assert error.sentence == text.removeprefix("store: "), of
    return text


def test_every_state_that_is_known_has_a_sentence() -> None:
    for state in sorted({*KNOWN, *(key.ljust(5, "0") for key in POSTGRESQL)}):
        text = assert_a_sentence(explain(postgres_error(state), PLACE), state)
        assert state.startswith("22") or "the server's words" in text, state


@given(STATES, st.text(max_size=60))
def test_a_state_that_nobody_knows_has_a_sentence_too(state: str, words: str) -> None:
    error = asyncpg.PostgresError(words.replace("{", "(").replace("hunter2", ""))
    error.sqlstate = state
    assert_a_sentence(explain(error, PLACE))


def test_every_code_of_sqlite_has_a_sentence() -> None:
    for code in CODES:
        assert_a_sentence(explain(sqlite_error(code), PLACE), code)


def test_every_error_of_the_system_has_a_sentence() -> None:
    for number, place in product(sorted(errno.errorcode), (PLACE, ErrorSubject(user="ann", database="chats"))):
        error = explain(OSError(number, "the system's words"), place)
        assert isinstance(error, StoreAwayError), f"nothing that was to be stored is to blame ({number})"
        assert_a_sentence(error, errno.errorcode[number])


@pytest.mark.parametrize(
    ("state", "words", "kind", "says"),
    [
        ("28P01", "password authentication failed", RefusalKind.PERSON, "put the correct one into store.url"),
        ("28000", "no pg_hba.conf entry for host", RefusalKind.PERSON, "pg_hba.conf"),
        ("3D000", 'database "chats" does not exist', RefusalKind.PERSON, "createdb -O ann chats"),
        ("42501", "permission denied for schema public", RefusalKind.PERSON, "CREATE ON SCHEMA public TO ann"),
        ("42501", "permission denied for table records", RefusalKind.PERSON, 'ALTER DATABASE "chats" OWNER TO ann'),
        ("25006", "cannot execute INSERT in a read-only transaction", RefusalKind.PERSON, "primary"),
        ("53300", "sorry, too many clients already", RefusalKind.AWAY, "max_connections"),
        ("57P03", "the database system is starting up", RefusalKind.AWAY, "retries automatically"),
        (
            "42704",
            'unrecognized configuration parameter "tcp_user_timeout"',
            RefusalKind.PERSON,
            "PostgreSQL 12 or newer",
        ),
        ("42P05", "prepared statement already exists", RefusalKind.PERSON, "pool_mode"),
        ("26000", "prepared statement does not exist", RefusalKind.PERSON, "pool_mode"),
        ("08P01", "unsupported startup parameter: options", RefusalKind.PERSON, "ignore_startup_parameters"),
        ("08P01", "no such database: chats", RefusalKind.PERSON, "add chats to its [databases]"),
        ("08003", "closed: transaction blocks not allowed in statement pooling mode", RefusalKind.PERSON, "pool_mode"),
        ("40P01", "deadlock detected", RefusalKind.RACE, "automatically"),
        ("55P03", "canceling statement due to lock timeout", RefusalKind.BUSY, "holds a lock"),
        ("XX001", "invalid page in block 7", RefusalKind.DAMAGED, "backup"),
        ("23502", "null value in column", RefusalKind.CONTENT, "set aside"),
        ("53100", "could not extend file", RefusalKind.PERSON, "free some space"),
    ],
)
def test_what_postgresql_says_names_its_remedy(state: str, words: str, kind: RefusalKind, says: str) -> None:
    error = explain(postgres_error(state, words), PLACE)
    assert error.kind is kind
    assert says in assert_a_sentence(error)


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (sqlite3.SQLITE_NOTADB, RefusalKind.DAMAGED, "damaged; stop `ratchet serve`, then restore a backup"),
        (sqlite3.SQLITE_CORRUPT | 1 << 8, RefusalKind.DAMAGED, "backup"),
        (sqlite3.SQLITE_READONLY | 8 << 8, RefusalKind.PERSON, "/var/lib/ratchet.db is not writable"),
        (sqlite3.SQLITE_CANTOPEN, RefusalKind.PERSON, "/var/lib/ratchet.db cannot be opened"),
        (sqlite3.SQLITE_FULL, RefusalKind.PERSON, "the disk of /var/lib/ratchet.db is full"),
        (sqlite3.SQLITE_IOERR | 4 << 8, RefusalKind.PERSON, "dmesg"),
        (sqlite3.SQLITE_BUSY, RefusalKind.BUSY, "locked by another process"),
        (sqlite3.SQLITE_CONSTRAINT, RefusalKind.CONTENT, "set aside"),
    ],
)
def test_what_sqlite_says_names_its_remedy(code: int, kind: RefusalKind, says: str) -> None:
    error = explain(sqlite_error(code), PLACE)
    assert error.kind is kind
    assert says in assert_a_sentence(error)


@pytest.mark.parametrize(
    "exc",
    [
        PoolTimeoutError("QueuePool limit"), PendingRollbackError("again"), NoResultFound("none"), TimeoutError(),
        ssl.SSLError("no common cipher"), ConnectionResetError(), asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state"), sqlite3.ProgrammingError("closed"),
        asyncpg.exceptions.ClientConfigurationError("no such file: root.crt"),
        DBAPIError("INSERT INTO records VALUES (?)", ("hunter2",), sqlite_error(sqlite3.SQLITE_FULL)),
    ],
    ids=lambda exc: type(exc).__name__,
)  # fmt: skip
def test_whatever_a_driver_raises_is_a_sentence_without_values(exc: Exception) -> None:
    assert_a_sentence(explain(exc, PLACE))


def test_a_value_that_the_driver_could_not_send_is_not_repeated() -> None:
    class DataError(asyncpg.InterfaceError, ValueError):
        pass

    error = explain(DataError("invalid input for query argument $1: 'hunter2'"), PLACE)
    assert error.kind is RefusalKind.CONTENT
    assert_a_sentence(error)


def test_the_tables_hold_no_sentence_twice_as_long_as_a_line() -> None:
    for refusal in (*POSTGRESQL.values(), *SQLITE.values()):
        assert len(f"{refusal.what}; {refusal.remedy}") < 260
