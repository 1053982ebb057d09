"""What only SQLite has: one file, other processes on it, a lock, and its size."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.clock import ManualClock, SystemClock
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchange, exchanges, vote

WRITER = """
import asyncio, sys
from proxy.clock import SystemClock
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch
from tests.harness.exchanges import exchanges

async def main(url, name, seed):
    store = await Store.open(url, clock=SystemClock(), busy_timeout_s=300)
    records = list(exchanges(200, start_us=1_700_000_000_000_000, seed=seed))
    for n in range(0, 200, 10):
        await store.ingest.apply(IngestBatch(writer=name, segment=0, offset=n + 1, records=tuple(records[n:n + 10])))
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def test_two_processes_write_one_new_file(path: Path) -> None:
    """Both create the schema, learn a dictionary and write: nothing is lost and the file stays whole."""
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}"]
    processes = [subprocess.Popen([*command, f"writer-{seed}", str(seed)]) for seed in (1, 2)]
    assert [process.wait(600) for process in processes] == [0, 0]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*), count(body) FROM records").fetchone() == (400, 400)
    store = await Store.open(f"sqlite:///{path}", clock=SystemClock())
    for record in exchanges(200, start_us=1_700_000_000_000_000, seed=2):
        view = await store.records.get(record.id)
        assert view is not None
        assert view.body == record.body
    await store.close()


async def test_a_second_store_in_one_process_leaves_the_first_its_log(path: Path, clock: ManualClock) -> None:
    """Whoever closes the file as the last process removes its write-ahead log: nobody may think that it is the last."""
    first = await Store.open(f"sqlite:///{path}", clock=clock)
    second = await Store.open(f"sqlite:///{path}", clock=clock)
    visit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM records').fetchall()"
    for number in (1, 2):
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", f"{visit}; c.close()", str(path)], check=True)
        record = exchange(int(clock.now() * 1e6) + number, random.Random(number))
        await first.ingest.apply(IngestBatch(writer="w", segment=0, offset=number, records=(record,)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (2,)
    await second.close()
    await first.close()


async def test_a_locked_database_is_a_temporary_error_and_then_works(path: Path, clock: ManualClock) -> None:
    store = await Store.open(f"sqlite:///{path}", clock=clock, busy_timeout_s=0.1)
    record = exchange(int(clock.now() * 1e6), random.Random(1))
    batch = IngestBatch(writer="w", segment=0, offset=1, records=(record,))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TemporaryError, match="locked"):
        await store.ingest.apply(batch)
    assert (await store.traffic.totals()).requests == 0  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert len((await store.ingest.apply(batch)).records) == 1
    await store.close()


async def test_a_cancelled_batch_can_be_delivered_again(path: Path, clock: ManualClock) -> None:
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    records = tuple(exchanges(300, start_us=int(clock.now() * 1e6)))
    batch = IngestBatch(writer="w", segment=0, offset=1, records=records)
    for delay_s in (0.0, 0.005, 0.02):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay_s):
                await store.ingest.apply(batch)
                raise TimeoutError  # it was quick: then the next delivery finds it there
    await store.ingest.apply(batch)
    assert (await store.traffic.totals()).requests == 300
    await store.close()


async def test_little_more_than_half_a_kilobyte_a_record(path: Path, clock: ManualClock) -> None:
    """1.4 KB of request and response, 5,000 of them, indices and all; without the first thousand, which teach a
    dictionary that must know no sentence of anybody's."""
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    records = list(exchanges(6000, start_us=int(clock.now() * 1e6)))
    spoken = sum(r.request_bytes + r.response_bytes for r in records) / len(records)
    assert 1300 < spoken < 1500
    sizes = {}
    for n in range(0, 6000, 500):
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=n + 1, records=tuple(records[n : n + 500])))
        sizes[n + 500] = await pages(path)
    await store.close()
    assert (sizes[6000] - sizes[1000]) / 5000 < 590


async def pages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        count, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    return int(count) * int(size)


async def test_nothing_a_deleted_user_wrote_is_left_in_the_file(path: Path, clock: ManualClock) -> None:
    now_us = int(clock.now() * 1e6)
    rng = random.Random(1)
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    records = tuple(exchange(now_us + i, rng, user_hash=i % 2) for i in range(50))
    votes = tuple(vote(r.id, now_us, rng, comment=f"owl-{r.user_hash}") for r in records)
    await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=1, records=records, votes=votes))
    ids = [bytes.fromhex(record.id) for record in records]
    await store.deletion.delete_user(1)
    kept = b"".join(file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm"))
    await store.close()
    assert (b"owl-0" in kept, b"owl-1" in kept) == (True, False)
    assert [record_id in kept for record_id in ids] == [True, False] * 25


async def test_freed_room_is_given_back(path: Path, clock: ManualClock) -> None:
    from proxy.config.storage import RetentionConfig

    store = await Store.open(f"sqlite:///{path}", clock=clock)
    records = tuple(exchanges(4000, start_us=int(clock.now() * 1e6), step_us=1000))
    for n in range(0, 4000, 1000):
        await store.ingest.apply(IngestBatch(writer="w", segment=0, offset=n + 1, records=records[n : n + 1000]))
    before = await pages(path)
    clock.advance(3 * 86400)
    pruned = await store.retention.prune(RetentionConfig(bodies_days=1, records_days=1))
    assert (pruned.bodies, pruned.records) == (4000, 4000)
    assert await pages(path) < before / 4
    await store.close()


async def test_a_newer_schema_is_refused_by_name(path: Path, clock: ManualClock) -> None:
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(PermanentError, match="schema 9999"):
        await Store.open(f"sqlite:///{path}", clock=clock)


@pytest.mark.parametrize("healthy_bytes", [0, 4096])
async def test_a_damaged_file_is_named_and_a_backup_in_its_place_works(
    path: Path, clock: ManualClock, healthy_bytes: int
) -> None:
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    await store.close()
    backup = path.read_bytes()
    path.write_bytes(backup[:healthy_bytes] + b"\xa5" * (len(backup) - healthy_bytes))
    with pytest.raises(TemporaryError, match=r"the database file is damaged; .*backup"):
        await Store.open(f"sqlite:///{path}", clock=clock)
    path.write_bytes(backup)
    store = await Store.open(f"sqlite:///{path}", clock=clock)
    await store.ping()
    await store.close()


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
async def test_a_url_that_is_no_database_of_ours_is_refused(url: str, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        await Store.open(url, clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
