"""The migrations build exactly the tables that the queries are written against, and only once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import proxy.store.migrate as migrate
from proxy.clock import ManualClock
from proxy.store.schema import metadata
from proxy.store.store import Store


async def test_the_migrated_tables_are_those_of_the_schema(store: Store) -> None:
    def difference(connection: sa.Connection) -> list[object]:
        options = {"compare_type": False, "include_object": not_a_partition}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with store._db.read() as connection:
        assert await connection.run_sync(difference) == []


def not_a_partition(thing: object, name: str | None, kind: str, *_: object) -> bool:
    return not (name or "")[-8:].isdigit()


async def test_many_who_open_a_new_store_at_once_all_succeed(store_url: str, clock: ManualClock) -> None:
    stores = await asyncio.gather(*(Store.open(store_url, clock=clock) for _ in range(4)))
    assert [(await store.totals()).requests for store in stores] == [0] * 4
    for store in stores:
        await store.close()


def test_the_head_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD
