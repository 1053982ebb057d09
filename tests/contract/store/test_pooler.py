"""The store through Debian's pgbouncer: sessions change hands after every transaction, and nothing may rest on one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from proxy.clock import SystemClock
from proxy.errors import PermanentError, TemporaryError
from proxy.store.control.state import Named
from proxy.store.engine.channels import STATE, notify
from proxy.store.engine.database import Database
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, RecordFilter
from tests.contract.store import test_control, test_ingest
from tests.harness.exchanges import exchanges
from tests.harness.pgbouncer import Pgbouncer, find_pgbouncer, running_pgbouncer
from tests.harness.postgres import PostgresServer
from tests.harness.require import need


@pytest.fixture
async def store(pooled_url: str, clock: object) -> AsyncIterator[Store]:
    """An open, empty store behind the pooler: what others test of a store holds here as well."""
    opened = await Store.open(pooled_url, clock=clock)  # type: ignore[arg-type]
    yield opened
    await opened.close()


async def test_several_hosts_make_the_tables_and_write_at_once(postgres: PostgresServer, pgbouncer: Pgbouncer) -> None:
    url = pgbouncer.url(direct := postgres.new_database())
    stores = await asyncio.gather(*(Store.open(url, clock=SystemClock()) for _ in range(3)))

    async def feed(n: int, store: Store) -> None:
        records = tuple(exchanges(200, start_us=int(time.time() * 1e6) + n * 1_000_000, seed=n))
        for first in range(0, 200, 20):
            some = records[first : first + 20]
            await store.ingest.apply(IngestBatch(writer=f"w{n}", segment=0, offset=first + 1, records=some))
            await store.prove()
            await store.models.list()

    await asyncio.gather(*(feed(n, store) for n, store in enumerate(stores)))
    assert (await stores[0].traffic.totals()).requests == 600
    page = await stores[1].records.list(RecordFilter(), limit=100)
    assert len(page.rows) == 100
    assert await stores[2].deletion.compact() == ""
    for store in stores:
        await store.close()
    postgres.drop_database(direct)


@pytest.mark.parametrize(
    "settings",
    [
        {"pool_mode": "session"},
        {"ignore_startup_parameters": "jit,lock_timeout,tcp_keepalives_idle,tcp_keepalives_interval,"
                                      "tcp_keepalives_count,tcp_user_timeout"},
        {"default_pool_size": "1"},
    ],
    ids=["in session mode", "that swallows our settings", "with one session"],
)  # fmt: skip
async def test_every_pooler_is_found_out(
    postgres: PostgresServer, postgres_tables: str, settings: dict[str, str]
) -> None:
    program = find_pgbouncer()
    need("pgbouncer", program is not None)
    assert program is not None
    direct = postgres.new_database(postgres_tables)
    with running_pgbouncer(program, postgres, **settings) as pooler:
        stores = [await Store.open(pooler.url(direct), clock=SystemClock(), pool_size=1) for _ in range(2)]
        for _ in range(3):
            await asyncio.gather(*(store.prove() for store in stores))
        with pytest.raises(PermanentError, match=r"set store\.listen_url"):
            await stores[0].listen(lambda _channel: None)
        for store in stores:
            await store.close()
    postgres.drop_database(direct)


async def test_one_that_hands_out_statements_is_refused_in_a_sentence(postgres: PostgresServer) -> None:
    program = find_pgbouncer()
    need("pgbouncer", program is not None)
    assert program is not None
    with (
        running_pgbouncer(program, postgres, pool_mode="statement") as pooler,
        pytest.raises(TemporaryError, match=r"uses pool_mode statement; set pool_mode = session"),
    ):
        await Store.open(pooler.url(postgres.url()), clock=SystemClock())


async def test_a_value_and_its_rows_are_of_one_moment(store: Store) -> None:
    """What the loop begins each tick with: its level of isolation comes before any other statement."""
    model = await store.models.add("base")
    lease = await store.leases.acquire("loop", "me", ttl_s=30.0)
    assert lease is not None
    await store.journal.transition(LoopTransaction(fence=lease.fence, state={"loop": {"champion_id": model.id}}))
    for _ in range(3):
        rows = await store.state.with_rows("loop", lambda value: Named(models=(value["champion_id"],)))
        assert rows is not None
        assert rows.models[model.id].name == "base"
    async with store._db.snapshot() as connection:
        assert await connection.scalar(sa.text("SHOW transaction_isolation")) == "repeatable read"
    async with store._db.read() as connection:
        assert await connection.scalar(sa.text("SHOW transaction_isolation")) == "read committed"


async def test_settings_last_as_long_as_a_transaction(pooled_url: str) -> None:
    database = Database.connect(pooled_url, clock=SystemClock(), pool_size=1, busy_timeout_s=1)
    async with database.write() as connection:
        shown = await connection.exec_driver_sql("SELECT current_setting('lock_timeout'), current_setting('jit')")
        assert tuple(shown.one()) == ("10s", "off")
    async with database.outside_transaction() as connection:
        shown = await connection.exec_driver_sql("SELECT current_setting('lock_timeout')")
        assert shown.scalar() == "0", "the next who gets this session finds it as it was"
    await database.close()


async def test_notifications_come_over_the_direct_url(pooled_url: str, postgres: PostgresServer) -> None:
    direct = postgres.url(pooled_url.split("@/")[1].split("?")[0])
    store = await Store.open(pooled_url, clock=SystemClock(), listen_url=direct)
    heard = asyncio.Event()
    listening = asyncio.create_task(store.listen(lambda channel: heard.set() if channel == STATE else None))
    while not heard.is_set():
        async with store._db.write() as connection:
            await notify(connection, STATE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await heard.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await store.close()


def _also_here(module: object) -> None:
    """The contract that counts most, once more behind the pooler."""
    for name, test in vars(module).items():
        if name.startswith("test_") and "cancelled" not in name and "store_url" not in test.__annotations__:
            globals()[name] = test


for _module in (test_control, test_ingest):
    _also_here(_module)
