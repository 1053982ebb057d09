"""Whatever a database says instead of doing its work, as one sentence with its remedy.

One table for each kind of database: which error, what it means in a person's words, what to do about it, and what the
program does meanwhile. No exception of a driver leaves the store: a raw one ended whoever had not thought of it. What
no table knows has a sentence, too. Of an error's own words only the first line is shown, and never the values of a
statement; no url is, for it may hold a password.
"""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, DisconnectionError, PendingRollbackError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from proxy.errors import PermanentError, TemporaryError

__all__ = [
    "DRIVER_ERRORS",
    "OLDEST_POSTGRESQL",
    "POSTGRESQL",
    "SQLITE",
    "ErrorSubject",
    "Refusal",
    "RefusalKind",
    "StoreAwayError",
    "StoreRefusedError",
    "explain",
]  # fmt: skip

OLDEST_POSTGRESQL: Final = 12
"""Older ones know neither `tcp_user_timeout` nor half of what partitions need."""
DRIVER_ERRORS: Final = (
    SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, sqlite3.Error, OSError,
)  # fmt: skip
"""All that the drivers of a database raise; TimeoutError is an OSError."""
_SOON_S: Final = 1.0
_LATER_S: Final = 5.0


class RefusalKind(Enum):
    """What an error means for whoever met it."""

    RACE = "two were at the same thing: at once again, and no news"
    BUSY = "somebody holds what is needed: again in a moment"
    AWAY = "the database is not there: again until it is"
    PERSON = "somebody has to see to it: again now and then"
    DAMAGED = "what the database has stored is broken: a working answer to something else proves nothing"
    CONTENT = "what it was given: the same again fails again"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an error is called here. `remedy` may name {user}, {database} and {path}."""

    what: str
    remedy: str
    kind: RefusalKind = RefusalKind.PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSubject:
    """The database that an error is about, as far as a sentence may name it."""

    user: str = "the role"
    database: str = "the database"
    path: str | None = None
    """SQLite's file."""


class StoreAwayError(TemporaryError):
    """The database cannot do it now. `kind` says why; `sentence` is the text without its topic."""

    def __init__(self, sentence: str, kind: RefusalKind) -> None:
        retry_s = (
            0.1
            if kind is RefusalKind.RACE
            else _LATER_S
            if kind in (RefusalKind.PERSON, RefusalKind.DAMAGED)
            else _SOON_S
        )
        super().__init__(f"store: {sentence}", retry_after_s=retry_s)
        self.sentence = sentence
        self.kind = kind


class StoreRefusedError(PermanentError):
    """The database does not take what it was given."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"store: {sentence}")
        self.sentence = sentence
        self.kind = RefusalKind.CONTENT


_POOLER: Final = "set pool_mode = session there, or give a direct url; Ratchet itself needs pool_mode session or " \
                 "transaction"  # fmt: skip

POSTGRESQL: Final[Mapping[str, Refusal]] = {
    "08": Refusal("the connection to PostgreSQL was lost", "Ratchet retries automatically", RefusalKind.AWAY),
    "08P01": Refusal("PostgreSQL, or a pooler in front of it, rejects the connection",
                     "see its log; a pooler needs the database and the user in its own settings, and pool_mode "
                     "session or transaction", RefusalKind.AWAY),
    "0A": Refusal("PostgreSQL does not support the statement, or its tables were just changed",
                  f"Ratchet retries automatically; use PostgreSQL {OLDEST_POSTGRESQL} or newer", RefusalKind.AWAY),
    "21": Refusal("PostgreSQL refuses a value", "the refused data is set aside", RefusalKind.CONTENT),
    "22": Refusal("PostgreSQL refuses a value", "the refused data is set aside", RefusalKind.CONTENT),
    "23": Refusal("PostgreSQL refuses a row", "the refused data is set aside", RefusalKind.CONTENT),
    "25": Refusal("PostgreSQL ended a transaction", "Ratchet retries automatically", RefusalKind.AWAY),
    "25006": Refusal("PostgreSQL is read-only, like a standby",
                     "point store.url at the primary, or switch default_transaction_read_only off"),
    "26000": Refusal("a pooler in front of PostgreSQL mixes up prepared statements", _POOLER),
    "28": Refusal("PostgreSQL refuses the login", "correct user and password in store.url (or store.url_file), or let "
                  "{user} in (pg_hba.conf, ALTER ROLE {user} LOGIN)"),
    "28P01": Refusal("PostgreSQL refuses the password", "put the correct one into store.url (or store.url_file)"),
    "3D000": Refusal("the database does not exist",
                     "create it (createdb -O {user} {database}), or correct the name in store.url"),
    "3F000": Refusal("the schema does not exist", "create it, or correct search_path of {user}"),
    "40": Refusal("another transaction was in the way", "Ratchet retries automatically", RefusalKind.RACE),
    "42": Refusal("PostgreSQL and the tables in it are not what this version expects",
                  f"use PostgreSQL {OLDEST_POSTGRESQL} or newer and a database of Ratchet's own, or restore a backup"),
    "42501": Refusal("PostgreSQL denies permission",
                     'make {user} the owner of the database (ALTER DATABASE "{database}" OWNER TO {user}) and of '
                     "Ratchet's tables, or GRANT the missing rights"),
    "42704": Refusal("PostgreSQL does not know a required setting",
                     f"use PostgreSQL {OLDEST_POSTGRESQL} or newer"),
    "42P01": Refusal("Ratchet's tables are not in the database",
                     "an empty database gets its tables automatically; if only some are missing, restore a backup, or "
                     "drop the others too"),
    "42P05": Refusal("a pooler in front of PostgreSQL mixes up prepared statements", _POOLER),
    "42P07": Refusal("the database has tables that are not Ratchet's", "give Ratchet a database of its own"),
    "53": Refusal("PostgreSQL has run out of resources", "give its machine more memory or disk", RefusalKind.AWAY),
    "53100": Refusal("PostgreSQL's disk is full", "free some space"),
    "53300": Refusal("PostgreSQL has no connections left",
                     "raise max_connections, lower store.pool_size, or put pgbouncer in front of it", RefusalKind.AWAY),
    "54": Refusal("PostgreSQL refuses what is too large", "the refused data is set aside", RefusalKind.CONTENT),
    "55": Refusal("PostgreSQL is busy with something else", "Ratchet retries automatically", RefusalKind.BUSY),
    "55P03": Refusal("another session holds a lock",
                     "Ratchet retries automatically; pg_stat_activity shows which", RefusalKind.BUSY),
    "57": Refusal("PostgreSQL has ended the connection", "Ratchet retries automatically", RefusalKind.AWAY),
    "57014": Refusal("PostgreSQL has ended a statement that took too long",
                     "Ratchet retries automatically; see statement_timeout of {user}", RefusalKind.BUSY),
    "57P03": Refusal("PostgreSQL is starting, stopping or recovering",
                     "Ratchet retries automatically; a standby needs hot_standby to accept connections, and "
                     "store.url must name the primary", RefusalKind.AWAY),
    "58": Refusal("PostgreSQL reports a disk error", "see its log"),
    "F0": Refusal("PostgreSQL reports an error in its settings", "see its log"),
    "XX001": Refusal("data in PostgreSQL is damaged", "restore a backup, or fail over", RefusalKind.DAMAGED),
    "XX002": Refusal("an index in PostgreSQL is damaged", "REINDEX, or restore a backup", RefusalKind.DAMAGED),
}  # fmt: skip
"""By SQLSTATE, or its first letters: the longest counts."""

_POOLERS: Final[Mapping[str, Refusal]] = {
    "transaction blocks": Refusal("the pooler in front of PostgreSQL uses pool_mode statement", _POOLER),
    "prepared statement": POSTGRESQL["26000"],
    "startup parameter": Refusal("the pooler in front of PostgreSQL rejects a connection setting",
                                 "add it to its ignore_startup_parameters, or leave it out of store.url"),
    "no such database": Refusal("the pooler in front of PostgreSQL does not know the database",
                                "add {database} to its [databases], or correct the name in store.url"),
    "no such user": Refusal("the pooler in front of PostgreSQL does not know the user", "add {user} to its auth_file"),
    "max_client_conn": Refusal("the pooler in front of PostgreSQL has no connections left", "raise its max_client_conn",
                               RefusalKind.AWAY),
    "query_wait_timeout": Refusal("the pooler in front of PostgreSQL got no connection in time",
                                  "check that PostgreSQL runs; raise the pooler's default_pool_size",
                                  RefusalKind.AWAY),
    "login failed": Refusal("the pooler in front of PostgreSQL cannot log in there, or cannot reach it",
                            "see its log", RefusalKind.AWAY),
    "cannot connect": Refusal("the pooler cannot reach PostgreSQL", "start PostgreSQL, or see the pooler's log",
                              RefusalKind.AWAY),
}  # fmt: skip
"""What pgbouncer says, under one SQLSTATE."""

_OF_PUBLIC: Final = Refusal(
    "PostgreSQL denies permission",
    "since PostgreSQL 15 a plain role may create nothing in schema public: as a superuser, GRANT USAGE, CREATE ON "
    'SCHEMA public TO {user}, or make it the owner (ALTER DATABASE "{database}" OWNER TO {user})',
)
_UNKNOWN: Final = Refusal("the database refuses", "see its log", RefusalKind.CONTENT)

_BEGIN_ANEW: Final = "stop `ratchet serve`, then restore a backup, or move the file away to start with an empty one"
SQLITE: Final[Mapping[int, Refusal]] = {
    sqlite3.SQLITE_ERROR: Refusal("the tables in {path} are not what this version expects", _BEGIN_ANEW),
    sqlite3.SQLITE_PERM: Refusal("{path} is not accessible", "give this user the right to read and write it"),
    sqlite3.SQLITE_BUSY: Refusal("{path} is locked by another process", "Ratchet retries automatically; end the "
                                 "process (fuser shows which)", RefusalKind.BUSY),
    sqlite3.SQLITE_LOCKED: Refusal("{path} is locked", "Ratchet retries automatically", RefusalKind.BUSY),
    sqlite3.SQLITE_NOMEM: Refusal("out of memory while using {path}", "give the machine more memory", RefusalKind.AWAY),
    sqlite3.SQLITE_READONLY: Refusal("{path} is not writable", "give this user the right to write it and its "
                                     "folder, or mount the disk for writing"),
    sqlite3.SQLITE_INTERRUPT: Refusal("a statement was interrupted", "Ratchet retries automatically", RefusalKind.BUSY),
    sqlite3.SQLITE_IOERR: Refusal("the disk of {path} reports errors", "check the disk (df, dmesg)"),
    sqlite3.SQLITE_CORRUPT: Refusal("the database file is damaged", _BEGIN_ANEW, RefusalKind.DAMAGED),
    sqlite3.SQLITE_FULL: Refusal("the disk of {path} is full", "free some space"),
    sqlite3.SQLITE_CANTOPEN: Refusal("{path} cannot be opened", "make sure that its folder exists and that this user "
                                     "can write to it"),
    sqlite3.SQLITE_PROTOCOL: Refusal("{path} is locked by another process", "Ratchet retries automatically",
                                     RefusalKind.BUSY),
    sqlite3.SQLITE_SCHEMA: Refusal("the tables were just changed", "Ratchet retries automatically",
                                   RefusalKind.BUSY),
    sqlite3.SQLITE_TOOBIG: Refusal("SQLite refuses what is too large", "the refused data is set aside",
                                   RefusalKind.CONTENT),
    sqlite3.SQLITE_CONSTRAINT: Refusal("SQLite refuses a row", "the refused data is set aside", RefusalKind.CONTENT),
    sqlite3.SQLITE_MISMATCH: Refusal("SQLite refuses a value", "the refused data is set aside", RefusalKind.CONTENT),
    sqlite3.SQLITE_NOLFS: Refusal("the file system of {path} cannot hold a file this large", "use another file system"),
    sqlite3.SQLITE_AUTH: Refusal("{path} is not accessible", "give this user the right to read and write it"),
    sqlite3.SQLITE_NOTADB: Refusal("the database file is damaged", _BEGIN_ANEW, RefusalKind.DAMAGED),
}  # fmt: skip
"""By the primary result code."""

_SYSTEM: Final[Mapping[int, Refusal]] = {
    errno.ECONNREFUSED: Refusal("PostgreSQL is not running, or listens on another address",
                                "start it, or correct host and port in store.url", RefusalKind.AWAY),
    errno.ENOENT: Refusal("there is no such socket", "start PostgreSQL, or correct the path in store.url",
                           RefusalKind.AWAY),
    errno.EHOSTUNREACH: Refusal("PostgreSQL's host cannot be reached", "check the network, or correct the host "
                                "in store.url", RefusalKind.AWAY),
    errno.ENETUNREACH: Refusal("PostgreSQL's host cannot be reached", "check the network, or correct the host "
                               "in store.url", RefusalKind.AWAY),
    errno.ENOSPC: Refusal("the disk of {path} is full", "free some space"),
    errno.EDQUOT: Refusal("the disk of {path} is full for this user", "raise the quota"),
    errno.EROFS: Refusal("{path} is not writable", "mount the disk for writing"),
    errno.EACCES: Refusal("{path} is not accessible", "give this user the right to read and write it and its folder"),
    errno.EPERM: Refusal("{path} is not accessible", "give this user the right to read and write it and its folder"),
    errno.ENOTDIR: Refusal("the folder of {path} cannot be created: there is a file of that name", "correct store.url"),
    errno.EEXIST: Refusal("the folder of {path} cannot be created: there is a file of that name", "correct store.url"),
    errno.EISDIR: Refusal("{path} is a folder", "name a file in store.url"),
    errno.EIO: Refusal("the disk of {path} reports errors", "check the disk (df, dmesg)"),
    errno.EMFILE: Refusal("this process has no file descriptors left", "raise its limit (LimitNOFILE)",
                           RefusalKind.AWAY),
}  # fmt: skip
_SILENT: Final = Refusal("the database does not answer in time", "check that its machine runs and can be reached, and "
                         "that host and port in store.url are correct", RefusalKind.AWAY)  # fmt: skip
_NO_NAME: Final = Refusal("PostgreSQL's host name cannot be resolved", "correct it in store.url, or check DNS",
                          RefusalKind.AWAY)  # fmt: skip
_NO_TLS: Final = Refusal("the TLS handshake with PostgreSQL failed", "set sslmode in store.url, or correct the "
                         "certificates")  # fmt: skip
_NO_CONNECTION: Final = Refusal(
    "the database does not answer", "check that it runs and can be reached", RefusalKind.AWAY
)
_SETTING: Final = Refusal("store.url has a setting that does not work", "correct it")
_NO_PRIMARY: Final = Refusal("no host in store.url matches target_session_attrs",
                             "add the primary", RefusalKind.AWAY)  # fmt: skip
_CROWDED: Final = Refusal(
    "all connections to the database are busy", "raise store.pool_size if this goes on", RefusalKind.BUSY
)
_DEFECT: Final = Refusal("unexpected error in the store", "please report it", RefusalKind.CONTENT)


def explain(exc: BaseException, place: ErrorSubject) -> StoreAwayError | StoreRefusedError:
    """The sentence for any of `DRIVER_ERRORS`, as the error to raise instead."""
    cause = _cause(exc)
    refusal = _refusal(exc, cause, place)
    words = _words(cause, refusal)
    sentence = f"{f'{words}: ' if words else ''}{refusal.what}; {refusal.remedy}"
    for name in ("user", "database", "path"):  # not format(): the words are anybody's
        sentence = sentence.replace(f"{{{name}}}", getattr(place, name) or "the database file")
    return (
        StoreRefusedError(sentence) if refusal.kind is RefusalKind.CONTENT else StoreAwayError(sentence, refusal.kind)
    )


def _cause(exc: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy wraps it, and its adapter for asyncpg wraps it once more."""
    if isinstance(exc, StatementError) and exc.orig is not None:
        exc = exc.orig
    inner = exc.__cause__
    return inner if isinstance(inner, asyncpg.PostgresError | asyncpg.InterfaceError) else exc


def _refusal(exc: BaseException, cause: BaseException, place: ErrorSubject) -> Refusal:
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _by_state(str(state), str(cause))
    if isinstance(cause, sqlite3.Error):
        return _of_sqlite(cause)
    if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
        return _NO_PRIMARY
    if isinstance(cause, asyncpg.exceptions.ClientConfigurationError):
        return _SETTING
    if isinstance(cause, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return _UNKNOWN if isinstance(cause, ValueError) else _NO_CONNECTION
    if isinstance(cause, OSError):
        return _of_system(cause, place)
    if isinstance(exc, PoolTimeoutError):
        return _CROWDED
    away = isinstance(exc, DisconnectionError | PendingRollbackError) or _is_closed(exc)
    return _NO_CONNECTION if away else _DEFECT


def _by_state(state: str, words: str) -> Refusal:
    if state == "42501" and "schema public" in words:
        return _OF_PUBLIC
    if state.startswith("08"):  # a pooler has this one number for all that it refuses
        for begin, refusal in _POOLERS.items():
            if begin in words:
                return refusal
    found = (POSTGRESQL.get(state[:length]) for length in (5, 2))
    return next((refusal for refusal in found if refusal is not None), _UNKNOWN)


def _of_sqlite(cause: sqlite3.Error) -> Refusal:
    code = getattr(cause, "sqlite_errorcode", None)
    if code is None:  # raised by Python's module itself, like "Cannot operate on a closed database"
        return _NO_CONNECTION if isinstance(cause, sqlite3.OperationalError) else _UNKNOWN
    if code & 0xFF == sqlite3.SQLITE_ERROR and not str(cause).startswith("no such"):
        return _UNKNOWN
    return SQLITE.get(code & 0xFF, _UNKNOWN)


def _of_system(cause: OSError, place: ErrorSubject) -> Refusal:
    if isinstance(cause, ssl.SSLError) or "SSL" in str(cause):
        return _NO_TLS
    if isinstance(cause, socket.gaierror):
        return _NO_NAME
    if isinstance(cause, TimeoutError):
        return _SILENT
    if cause.errno == errno.ENOENT and place.path is not None:
        return SQLITE[sqlite3.SQLITE_CANTOPEN]
    return _SYSTEM.get(cause.errno or 0, _NO_CONNECTION)


def _is_closed(exc: BaseException) -> bool:
    return isinstance(exc, DBAPIError) and exc.connection_invalidated


def _words(cause: BaseException, refusal: Refusal) -> str:
    """The error's own words, unless they may hold what somebody said."""
    if isinstance(cause, ValueError) and not isinstance(cause, asyncpg.exceptions.ClientConfigurationError):
        return type(cause).__name__
    if refusal is _DEFECT or str(getattr(cause, "sqlstate", "")).startswith("22"):
        return type(cause).__name__
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.strerror:
        return cause.strerror
    return next(iter(str(cause).splitlines()), "")
