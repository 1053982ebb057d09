"""A database file, or its log, that is removed or replaced under us is noticed; what SQLite does itself is no news."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchange
from tests.harness.tables import sqlite_with_tables


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=ManualClock())
    yield opened
    await opened.close()


async def add(store: Store, seed: int) -> str:
    record = exchange(1_700_000_000_000_000, random.Random(seed))
    await store.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=(record,)))
    return record.id


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_copy(path: Path) -> None:
    shutil.copyfile(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def move(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


@pytest.mark.parametrize("harm", [remove, replace_by_a_copy, move])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
async def test_a_file_that_is_gone_is_noticed_and_a_new_one_begun(
    store: Store, tmp_path: Path, harm: Callable[[Path], None], end: str
) -> None:
    first = await add(store, 1)
    assert store.lost_file() is None
    harm(tmp_path / f"store.db{end}")
    assert store.lost_file() == tmp_path / f"store.db{end}"
    assert "was removed or replaced" in await store.mend()
    assert (store.lost_file(), await store.mend()) == (None, "")
    second = await add(store, 2)
    await store.close()
    again = await Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock=ManualClock())
    assert await again.records.get(second) is not None, "what is stored from then on is kept"
    if end:
        assert await again.records.get(first) is not None, "and what was in the log is in the file"
    await again.close()


async def test_a_log_that_sqlite_begins_anew_is_not_lost(store: Store) -> None:
    """As it does once nobody has the file open."""
    for seed in range(3):
        await add(store, seed)
        assert store.lost_file() is None
        await store._db._reader.dispose()
        await store._db._writer.dispose()
        assert store.lost_file() is None
    assert await store.mend() == ""


async def test_a_file_that_was_moved_away_has_all_that_was_stored(store: Store, tmp_path: Path) -> None:
    """For whoever moved it; and its log is not taken for that of the next one."""
    first = await add(store, 1)
    move(tmp_path / "store.db")
    await store.mend()
    assert await store.records.get(first) is None
    kept = await Store.open(f"sqlite:///{tmp_path / 'store.moved'}", clock=ManualClock())
    assert await kept.records.get(first) is not None
    await kept.close()


async def test_a_database_without_tables_gets_them(store: Store, tmp_path: Path) -> None:
    async with store._db.write() as connection:
        await connection.exec_driver_sql("DROP TABLE alembic_version")
        tables = await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in tables.fetchall():
            if not name.startswith("sqlite_"):
                await connection.exec_driver_sql(f"DROP TABLE {name}")
    assert "no tables" in await store.mend()
    assert await store.records.get(await add(store, 1)) is not None
