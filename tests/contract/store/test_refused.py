"""What a real database refuses, when it is opened and later: a sentence each time, and it works once that is mended."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from proxy.clock import ManualClock
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.store.engine.refusals import StoreAwayError
from proxy.store.store import Store
from tests.harness.postgres import PostgresServer


class Case:
    """A database of `server` and what a superuser does to it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.direct = server.new_database()
        self.name = self.direct.split("@/")[1].split("?")[0]
        self.role = f"plain_{self.name}"
        self.url = self.direct.replace("ratchet@", f"{self.role}:hunter2@")
        self.run(f"CREATE ROLE {self.role} LOGIN PASSWORD 'hunter2'")

    def own(self) -> None:
        """Let the role do what it needs."""
        self.run(f"ALTER DATABASE {self.name} OWNER TO {self.role}")

    def run(self, sql: str) -> None:
        command = ["psql", self._server.url(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def kick(self) -> None:
        """End the role's connections."""
        self.run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{self.role}'")

    def inside(self, sql: str) -> None:
        command = ["psql", self.direct, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql]
        subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def case(postgres: PostgresServer) -> Iterator[Case]:
    made = Case(postgres)
    yield made
    made.run(f"DROP DATABASE IF EXISTS {made.name} WITH (FORCE)")
    made.run(f"DROP ROLE {made.role}")


AT_START: dict[str, tuple[Callable[[Case], None], Callable[[Case], None], str]] = {
    "a plain role of PostgreSQL 15": (lambda _: None, Case.own, "CREATE ON SCHEMA public TO plain"),
    "no login": (
        lambda case: case.run(f"ALTER ROLE {case.role} NOLOGIN"),
        lambda case: (case.own(), case.run(f"ALTER ROLE {case.role} LOGIN"))[0],
        "PostgreSQL refuses the login",
    ),
    "no connection left": (
        lambda case: case.run(f"ALTER ROLE {case.role} CONNECTION LIMIT 0"),
        lambda case: (case.own(), case.run(f"ALTER ROLE {case.role} CONNECTION LIMIT -1"))[0],
        "max_connections",
    ),
    "no database": (
        lambda case: case.run(f"ALTER DATABASE {case.name} RENAME TO {case.name}_away"),
        lambda case: (case.run(f"ALTER DATABASE {case.name}_away RENAME TO {case.name}"), case.own())[0],
        "create it (createdb -O plain",
    ),
    "read-only": (
        lambda case: case.run(f"ALTER DATABASE {case.name} SET default_transaction_read_only = on"),
        lambda case: (case.run(f"ALTER DATABASE {case.name} RESET ALL"), case.own())[0],
        "point store.url at the primary",
    ),
    "no connections allowed": (
        lambda case: case.run(f"ALTER DATABASE {case.name} ALLOW_CONNECTIONS false"),
        lambda case: (case.run(f"ALTER DATABASE {case.name} ALLOW_CONNECTIONS true"), case.own())[0],
        "store: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", AT_START)
async def test_what_is_refused_at_the_start_works_once_it_is_mended(case: Case, how: str, clock: ManualClock) -> None:
    spoil, mend, says = AT_START[how]
    spoil(case)
    with pytest.raises(StoreAwayError) as caught:
        await Store.open(case.url, clock=clock)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    mend(case)
    store = await Store.open(case.url, clock=clock)
    await store.prove()
    await store.close()


LATER: dict[str, tuple[Callable[[Case], None], Callable[[Case], None], str]] = {
    "rights revoked": (
        lambda case: case.inside(f"REVOKE ALL ON secrets FROM {case.role}"),
        lambda case: case.inside(f"GRANT ALL ON secrets TO {case.role}"),
        "PostgreSQL denies permission",
    ),
    "made read-only": (
        lambda case: (case.run(f"ALTER ROLE {case.role} SET default_transaction_read_only = on"), case.kick())[0],
        lambda case: (case.run(f"ALTER ROLE {case.role} RESET ALL"), case.kick())[0],
        "read-only",
    ),
    "a table dropped": (
        lambda case: case.inside("ALTER TABLE secrets RENAME TO elsewhere"),
        lambda case: case.inside("ALTER TABLE elsewhere RENAME TO secrets"),
        "Ratchet's tables are not in the database",
    ),
    "login revoked": (
        lambda case: (case.run(f"ALTER ROLE {case.role} NOLOGIN"), case.kick())[0],
        lambda case: case.run(f"ALTER ROLE {case.role} LOGIN"),
        "refuses the login",
    ),
    "dropped": (
        lambda case: (case.kick(), case.run(f"ALTER DATABASE {case.name} RENAME TO {case.name}_away"))[0],
        lambda case: case.run(f"ALTER DATABASE {case.name}_away RENAME TO {case.name}"),
        "the database does not exist",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", LATER)
async def test_what_is_refused_later_is_told_to_whoever_watches(case: Case, how: str, clock: ManualClock) -> None:
    spoil, mend, says = LATER[how]
    case.own()
    store = await Store.open(case.url, clock=clock)
    told: list[str] = []
    store.watch(lambda error: told.append(error.sentence))
    spoil(case)
    said = [await refused(store) for _ in range(3)]  # the first may only be that the connection was lost
    assert says in said[-1]
    assert any(says in sentence for sentence in told)
    mend(case)
    said = [await refused(store) for _ in range(6)]  # connections that were made before come to their end
    assert said[-1] == ""
    await store.close()


async def refused(store: Store) -> str:
    try:
        await store.prove()
    except TemporaryError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://ann:hunter2@127.0.0.1:1/chats", "PostgreSQL is not running, or listens on another address"),
        ("postgresql://ann:hunter2@no.such.host.invalid/chats", "PostgreSQL's host name cannot be resolved"),
        ("postgresql://ann:hunter2@/chats?host=/nowhere", "correct the path in store.url"),
        ("postgresql://ann:hunter2@{silent}/chats?timeout=0.2", "does not answer in time"),
        ("postgresql://ann:hunter2@{silent}/chats?sslmode=verify-full&timeout=0.2", "store.url"),
    ],
)
async def test_a_server_that_is_not_there(url: str, says: str, clock: ManualClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreAwayError) as caught:
        await Store.open(url.format(silent=f"127.0.0.1:{silent.getsockname()[1]}"), clock=clock)
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://ann:hunter2@host:port/x", "postgresql://ann:hunter2@host/x?colour=red"])
async def test_a_malformed_url_is_an_error_of_the_settings_without_its_password(url: str, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match=r"store\.url") as caught:
        await Store.open(url, clock=clock)
    assert "hunter2" not in str(caught.value)


async def test_a_newer_schema_is_refused(empty_url: str, clock: ManualClock) -> None:
    store = await Store.open(empty_url, clock=clock)
    await store.close()
    if empty_url.startswith("sqlite"):
        with sqlite3.connect(empty_url.removeprefix("sqlite:///")) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
    else:
        other = await asyncpg.connect(empty_url)
        await other.execute("UPDATE alembic_version SET version_num = '9999'")
        await other.close()
    with pytest.raises(PermanentError, match="run the newer version"):
        await Store.open(empty_url, clock=clock)


def a_folder(path: Path) -> str:
    path.mkdir()
    return "is a folder"


def under_a_file(path: Path) -> str:
    path.parent.write_text("")
    return "there is a file of that name"


def no_database(path: Path) -> str:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database, " * 1000)
    return "the database file is damaged; stop `ratchet serve`, then restore a backup"


@pytest.mark.parametrize("spoil", [a_folder, under_a_file, no_database])
async def test_a_file_that_cannot_be_opened(spoil: Callable[[Path], str], tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "data" / "ratchet.db" if spoil is not a_folder else tmp_path / "ratchet.db"
    says = spoil(path)
    with pytest.raises(StoreAwayError) as caught:
        await Store.open(f"sqlite:///{path}", clock=clock)
    assert says in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_file_that_may_not_be_written(tmp_path: Path, clock: ManualClock) -> None:
    store = await Store.open(f"sqlite:///{tmp_path / 'ratchet.db'}", clock=clock)
    await store.close()
    (tmp_path / "ratchet.db").chmod(0o400)
    with pytest.raises(StoreAwayError, match="may not be"):
        await Store.open(f"sqlite:///{tmp_path / 'ratchet.db'}", clock=clock)
