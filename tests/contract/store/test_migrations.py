"""The migrations build exactly the tables that the queries are written against, and only once."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import proxy.store.migrate as migrate
from proxy.clock import ManualClock, SystemClock
from proxy.store import partitions
from proxy.store.engine import Database
from proxy.store.ingest import _row
from proxy.store.schema import durations, metadata, records
from proxy.store.store import Store
from tests.harness.exchanges import exchange


async def test_the_migrated_tables_are_those_of_the_schema(store: Store) -> None:
    def difference(connection: sa.Connection) -> list[object]:
        options = {"compare_type": False, "include_object": not_a_partition}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with store._db.read() as connection:
        assert await connection.run_sync(difference) == []


def not_a_partition(thing: object, name: str | None, kind: str, *_: object) -> bool:
    return not (name or "")[-8:].isdigit()


def older_revisions() -> list[str]:
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    return [script.revision for script in scripts.walk_revisions() if script.revision != migrate.HEAD]


@pytest.mark.parametrize("revision", older_revisions())
async def test_a_store_is_brought_up_to_date_while_an_older_version_writes_to_it(store_url: str, revision: str) -> None:
    clock = SystemClock()
    database = Database.connect(store_url, clock=clock, pool_size=2, busy_timeout_s=300.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, revision)
        known = await connection.run_sync(
            lambda sync: {column["name"] for column in sa.inspect(sync).get_columns("records")}
        )
    await partitions.create_ahead(database)
    written, finish = list[str](), asyncio.Event()

    async def write() -> None:
        """Rows with the columns that its version knows."""
        rng, last = random.Random(1), False
        while not last:
            last = finish.is_set()
            batch = tuple(exchange(int(clock.now() * 1e6), rng) for _ in range(20))
            rows = [_row(record, record.flags, None) for record in batch]
            async with database.write() as connection:
                await connection.execute(
                    sa.insert(records), [{name: row[name] for name in row if name in known} for row in rows]
                )
            written.extend(record.id for record in batch)

    writing = asyncio.create_task(write())
    while len(written) < 100:
        await asyncio.sleep(0.001)
    new = await Store.open(store_url, clock=clock, busy_timeout_s=300.0)
    before = len(written)
    finish.set()
    await writing
    assert len(written) > before, "the older version goes on"
    assert {view.row.id async for view in new.iter_records()} == set(written)
    await database.close()
    await new.close()


async def test_durations_by_ten_minutes_are_made_of_those_by_minute(store_url: str, clock: ManualClock) -> None:
    database = Database.connect(store_url, clock=clock, pool_size=2, busy_timeout_s=30.0)
    async with database.write() as connection:
        await connection.run_sync(migrate._upgrade, "0003")
        values = [(60, 600, 5, 1), (60, 1140, 5, 2), (60, 1200, 5, 4), (60, 1200, 6, 8), (3600, 0, 5, 7)]
        rows = [
            {"step_s": step, "at_s": at, "arm": 0, "model_id": 1, "bin": bin, "n": n} for step, at, bin, n in values
        ]
        await connection.execute(sa.insert(durations), rows)
    await database.close()
    upgraded = await Store.open(store_url, clock=clock)
    query = sa.select(durations.c.at_s, durations.c.bin, durations.c.n).where(durations.c.step_s == 600)
    async with upgraded._db.read() as connection:
        found = {tuple(row) for row in await connection.execute(query)}
    assert found == {(600, 5, 3), (1200, 5, 4), (1200, 6, 8)}
    await upgraded.close()


async def test_many_who_open_a_new_store_at_once_all_succeed(store_url: str, clock: ManualClock) -> None:
    stores = await asyncio.gather(*(Store.open(store_url, clock=clock, busy_timeout_s=300.0) for _ in range(4)))
    assert [(await store.totals()).requests for store in stores] == [0] * 4
    for store in stores:
        await store.close()


def test_the_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD
