"""The two implementations of the store: every test in this folder runs on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.clock import ManualClock
from proxy.store.store import Store
from tests.harness.pgbouncer import Pgbouncer, find_pgbouncer, running_pgbouncer
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import need
from tests.harness.tables import make_tables, sqlite_with_tables


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL server."""
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tables(postgres: PostgresServer) -> str:
    """Url of a database with tables and no rows, to be copied."""
    url = postgres.new_database()
    make_tables(url)
    return url


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[Pgbouncer]:
    """A private pgbouncer before it, in transaction mode: a session is another one after each transaction."""
    program = find_pgbouncer()
    need("pgbouncer", program is not None)
    assert program is not None
    with running_pgbouncer(program, postgres) as pooler:
        yield pooler


@pytest.fixture
def pooled_url(postgres: PostgresServer, postgres_tables: str, pgbouncer: Pgbouncer) -> Iterator[str]:
    """Url of a database with tables and no rows, through the pooler."""
    url = postgres.new_database(postgres_tables)
    yield pgbouncer.url(url)
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Url of a database with tables and no rows."""
    if request.param == "sqlite":
        yield sqlite_with_tables(tmp_path / "store.db")
        return
    server: Any = request.getfixturevalue("postgres")
    url = server.new_database(request.getfixturevalue("postgres_tables"))
    yield url
    server.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Url of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: Any = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)


@pytest.fixture
def clock() -> ManualClock:
    """The store's clock, for the test to move."""
    return ManualClock()


@pytest.fixture
async def store(store_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    """An open, empty store."""
    opened = await Store.open(store_url, clock=clock)
    yield opened
    await opened.close()
