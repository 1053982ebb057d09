"""A store that moves to another database is the same store afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.errors import PermanentError
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from proxy.store.tables.values import IngestBatch, RecordFilter
from tests.harness.exchanges import exchanges
from tests.harness.install import Install
from tests.harness.postgres import PostgresServer, find_binaries, running_postgres
from tests.harness.require import need

DAY_US = 86_400_000_000
START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    need("postgresql", binaries is not None)
    assert binaries is not None
    with running_postgres(binaries) as server:
        yield server


async def filled(url: str, clock: ManualClock, install: Install) -> Store:
    """Records of three days, votes, a model, a journal entry, the loop's state, a spool's position."""
    store = await Store.open(url, clock=clock)
    await store.models.add("champion")
    for day in range(3):
        records = tuple(exchanges(700, start_us=START_US + day * DAY_US))
        votes = tuple(install.vote(record, 1) for record in records[::7])
        await store.ingest.apply(
            IngestBatch(writer="w0-1-1-aa", segment=day, offset=day + 1, records=records, votes=votes)
        )
    lease = await store.leases.acquire("loop", "here", ttl_s=60)
    assert lease is not None
    await store.journal.intend("Install", fence=lease.fence, who="me", why="first", inputs={"a": [1.5, None, "ä"]})
    await store.journal.transition(LoopTransaction(fence=lease.fence, seq=1, state={"loop": {"phase": "idle"}}))
    return store


async def everything(store: Store) -> dict[str, object]:
    """What people and the loop can see of a store."""
    page = await store.records.list(RecordFilter(), limit=2100)
    views = [await store.records.get(row.id) for row in page.rows[::100]]
    return {
        "rows": page.rows,
        "views": views,
        "totals": await store.traffic.totals(),
        "samples": [sample async for sample in store.samples.iter()],
        "spools": await store.spools.positions(),
        "journal": await store.journal.recent(),
        "state": await store.state.all(),
        "models": await store.models.list(),
    }


async def test_everything_is_there_afterwards_and_goes_on(tmp_path: Path, postgres: PostgresServer) -> None:
    clock, url = ManualClock(START_US / 1e6 + 3 * 86_400), f"sqlite:///{tmp_path / 'old.db'}"
    install = Install(tmp_path / "data")
    old = await filled(url, clock, install)
    new = await Store.open(postgres.new_database(), clock=clock)
    before = await everything(old)
    assert await old.move_to(new) == 2100
    assert await everything(new) == before

    lease = await new.leases.acquire("loop", "there", ttl_s=60)
    assert lease is not None
    assert lease.fence == 2, "the old holder's fence is void in the new database"
    assert (await new.models.add("challenger")).id == 2, "ids count on"
    late = tuple(exchanges(10, start_us=START_US + 3 * DAY_US))
    again = IngestBatch(writer="w0-1-1-aa", segment=2, offset=3, records=late)
    assert (await new.ingest.apply(again)).duplicates == 10, "the spool was stored up to there"
    await new.close()
    await old.close()
    with pytest.raises(PermanentError, match="was moved to postgresql://ratchet@/test_"):
        await Store.open(url, clock=clock)


async def test_postgresql_is_not_moved_but_by_its_own_tools(tmp_path: Path, postgres: PostgresServer) -> None:
    """Other hosts may be writing to it."""
    clock, install = ManualClock(START_US / 1e6 + 3 * 86_400), Install(tmp_path / "data")
    old = await filled(postgres.new_database(), clock, install)
    new = await Store.open(f"sqlite:///{tmp_path / 'new.db'}", clock=clock)
    with pytest.raises(PermanentError, match="pg_dump"):
        await old.move_to(new)
    assert (await old.traffic.totals()).requests == 2100
    await old.close()
    await new.close()


async def test_a_database_in_use_is_not_moved_onto(tmp_path: Path, postgres: PostgresServer) -> None:
    clock, url = ManualClock(START_US / 1e6), f"sqlite:///{tmp_path / 'old.db'}"
    old = await filled(url, clock, Install(tmp_path / "data"))
    used = await Store.open(postgres.new_database(), clock=clock)
    await used.ingest.apply(IngestBatch(writer="", segment=0, offset=0, records=tuple(exchanges(1, start_us=START_US))))
    with pytest.raises(PermanentError, match="give an empty one"):
        await old.move_to(used)
    assert (await used.traffic.totals()).requests == 1
    await old.close()
    await used.close()
    await (await Store.open(url, clock=clock)).close()
