"""A database that goes back, to an older copy or to nothing, gets what it lacks from the spool: each record and each
vote once, in rows and in sums. What the spool has no more is counted."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from prometheus_client.registry import CollectorRegistry

from proxy.clock import ManualClock
from proxy.config import parse_config
from proxy.config.serving import SpoolConfig
from proxy.ingest import Gap, IngestMetrics, Ingestor
from proxy.ingest.ledger import LEDGER_FILE
from proxy.metrics.traffic import TrafficMetrics
from proxy.spool import SpoolReader, SpoolWriter
from proxy.store.ingest.spools import PositionError
from proxy.store.store import Store
from proxy.store.tables.values import NO_POSITION, IngestBatch, NewRecord, RecordFilter
from tests.harness.exchanges import exchange, exchanges, new_id
from tests.harness.frames import feedback_frame, of_record
from tests.harness.require import full
from tests.harness.tables import sqlite_with_tables

KEEP_S = 900.0
SEGMENT_BYTES = 16_384
"""A dozen exchanges: a writer is soon at its next segment."""


class Copies(Protocol):
    """Makes databases: a copy of the one at a url, to which nobody is connected, or one without rows."""

    def __call__(self, url: str | None) -> str: ...


@pytest.fixture
def copies(store_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Copies]:
    if store_url.startswith("sqlite"):

        def of_file(url: str | None) -> str:
            path = tmp_path / f"copy-{len(list(tmp_path.glob('copy-*.db')))}.db"
            if url is None:
                return sqlite_with_tables(path)
            shutil.copyfile(url.removeprefix("sqlite:///"), path)
            return f"sqlite:///{path}"

        yield of_file
        return
    server: Any = request.getfixturevalue("postgres")
    empty: str = request.getfixturevalue("postgres_tables")
    made: list[str] = []

    def of_database(url: str | None) -> str:
        made.append(str(server.new_database(empty if url is None else url)))
        return made[-1]

    yield of_database
    for url in made:
        server.drop_database(url)


class Host:
    """One host: writers, a controller on some database, and what was acknowledged."""

    def __init__(self, directory: Path, clock: ManualClock, url: str, seed: int = 1) -> None:
        self.spool = directory / "spool"
        self.clock = clock
        self.url = url
        self.rng = random.Random(seed)
        self.writers: list[SpoolWriter] = []
        self.records: list[NewRecord] = []
        self.votes = 0
        self.gaps: list[Gap] = []
        self.store: Store | None = None

    async def open(self, url: str | None = None) -> None:
        """A controller starts, on this database from now on."""
        self.url = url or self.url
        self.store = await Store.open(self.url, clock=self.clock)
        config = parse_config({"champion": {"url": "http://localhost:1"}, "store": {"ingest_batch": 10}})
        registry = CollectorRegistry()
        self.metrics = IngestMetrics(registry)
        self.ingestor = Ingestor(
            config,
            self.store,
            SpoolReader(self.spool, keep_s=KEEP_S, clock=self.clock),
            TrafficMetrics(registry),
            self.clock,
            metrics=self.metrics,
            on_gap=self.gaps.append,
        )

    async def close(self) -> None:
        """It ends, as by kill -9."""
        if self.store is not None:
            await self.store.close()
            self.store = None

    def writer(self) -> SpoolWriter:
        self.writers.append(
            SpoolWriter(self.spool, SpoolConfig(fsync="never", segment_bytes=SEGMENT_BYTES), clock=self.clock)
        )
        return self.writers[-1]

    def write(self, writer: SpoolWriter, n: int) -> None:
        """So many answers, and a vote for every fourth."""
        for _ in range(n):
            record = exchange(int(self.clock.now() * 1e6) + len(self.records), self.rng)
            self.records.append(record)
            assert writer.append(of_record(record))
            if len(self.records) % 4 == 0:
                at_us = int(self.clock.now() * 1e6)
                said = {"fid": new_id(at_us, self.rng), "id": record.id, "feedback": 1, "tr": 15}
                assert writer.append(feedback_frame(at_us, said))
                self.votes += 1

    async def drain(self) -> None:
        """To the end of the spool. A round that read nothing but what a deletion has overwritten counts no frame."""
        while await self.ingestor.run_once() or await self.ingestor.run_once():
            self.clock.advance(1.0)  # the ledger is written once a second

    async def assert_exact(self) -> None:
        """All that was acknowledged is stored once."""
        assert self.store is not None
        page = await self.store.records.list(RecordFilter(), limit=10_000, texts=False)
        assert sorted(row.id for row in page.rows) == sorted(record.id for record in self.records)
        totals = await self.store.traffic.totals()
        assert (totals.requests, totals.votes.positive) == (len(self.records), self.votes)
        view = await self.store.records.get(self.records[-1].id)
        assert view is not None
        assert view.body == self.records[-1].body, "and what they said can be read"


@pytest.fixture
async def host(tmp_path: Path, clock: ManualClock, store_url: str) -> AsyncIterator[Host]:
    made = Host(tmp_path, clock, store_url)
    await made.open()
    yield made
    await made.close()
    for writer in made.writers:
        writer.close()


@pytest.mark.parametrize("after", [NO_POSITION, (0, 99), (0, 101), (1, 0), (7, 100)])
async def test_a_batch_from_elsewhere_changes_nothing(store: Store, clock: ManualClock, after: tuple[int, int]) -> None:
    """It is refused by the position in the database, whichever way that is wrong."""
    first, second = exchanges(2, start_us=int(clock.now() * 1e6))
    await store.ingest.apply(
        IngestBatch(writer="w", segment=0, offset=100, after=NO_POSITION, frames=1, records=(first,))
    )
    with pytest.raises(PositionError, match="up to segment 0 at 100"):
        await store.ingest.apply(
            IngestBatch(writer="w", segment=0, offset=200, after=after, frames=1, records=(second,))
        )
    assert (await store.traffic.totals()).requests == 1
    assert await store.spools.positions() == {"w": (0, 100)}
    await store.ingest.apply(
        IngestBatch(writer="w", segment=0, offset=200, after=(0, 100), frames=1, records=(second,))
    )
    assert (await store.spools.counted())["w"].frames == 2


_PAIR = full("each of the three with both values of the others, in four of the eight cases")


@pytest.mark.parametrize(
    ("store_url", "empty", "restarted"),
    [
        ("sqlite", False, False),
        ("sqlite", True, True),
        ("postgresql", False, True),
        ("postgresql", True, False),
        pytest.param("sqlite", False, True, marks=_PAIR),
        pytest.param("sqlite", True, False, marks=_PAIR),
        pytest.param("postgresql", False, False, marks=_PAIR),
        pytest.param("postgresql", True, True, marks=_PAIR),
    ],
    indirect=["store_url"],
)
async def test_a_database_that_is_behind_is_fed_again(
    host: Host, copies: Copies, *, empty: bool, restarted: bool
) -> None:
    """By the controller that was there before and by one that starts on it; writers that ended meanwhile included."""
    dead, live = host.writer(), host.writer()
    host.write(dead, 24)
    host.write(live, 24)
    await host.drain()
    await host.close()
    older = copies(None if empty else host.url)
    await host.open()
    host.write(dead, 36)
    host.write(live, 36)
    dead.close()
    await host.drain()
    await host.assert_exact()
    had = host.store
    if restarted:
        await host.close()
        await host.open(older)
    else:
        assert host.store is not None
        host.store = host.ingestor._store = await Store.open(older, clock=host.clock)
        assert had is not None
        await had.close()
        host.clock.advance(2.0)  # it asks now and then, also where nothing comes
    host.write(host.writer(), 8)
    await host.drain()
    await host.assert_exact()
    frames = len(host.records) - 8 + (len(host.records) - 8) // 4
    assert [(gap.again, gap.lost) for gap in host.gaps] == [(frames if empty else frames - 60, 0)]
    assert not host.ingestor.feeding_again
    assert host.metrics.again.value == host.gaps[0].again


async def test_what_the_spool_has_no_more_is_counted(host: Host, copies: Copies) -> None:
    """Segments are kept for a while only; the rest is fed again, and how many are lost is exact."""
    writer = host.writer()
    host.write(writer, 12)
    await host.drain()
    await host.close()
    older = copies(host.url)
    await host.open()
    host.write(writer, 48)
    await host.drain()
    host.clock.advance(KEEP_S + 1)
    await host.drain()
    assert not list(host.spool.glob("*/*.kept"))
    host.write(writer, 48)
    await host.drain()
    await host.close()
    await host.open(older)
    await host.drain()
    [gap] = host.gaps
    assert (gap.again + gap.lost, gap.since_us > 0) == (120, True)
    assert gap.lost > 0
    assert host.store is not None
    kept = (await host.store.traffic.totals()).requests, (await host.store.traffic.totals()).votes.positive
    assert 15 + gap.again == sum(kept)
    host.clock.advance(2.0)
    await host.drain()
    assert len(host.gaps) == 1, "said once"


async def test_what_was_kept_goes_where_nothing_is_kept_any_more(host: Host) -> None:
    writer = host.writer()
    host.write(writer, 24)
    await host.drain()
    assert list(host.spool.glob("*/*.kept"))
    writer.close()
    await host.drain()
    host.clock.advance(KEEP_S + 1)
    await host.drain()
    assert [path.name for path in host.spool.iterdir()] == [LEDGER_FILE]


@pytest.mark.parametrize("ahead", [(1, 10**9), (99, 5), (2, 10**9)])
async def test_a_position_behind_all_that_there_is_is_no_reason_to_skip(host: Host, ahead: tuple[int, int]) -> None:
    """A spool from a backup, a file that a power cut has shortened: what is there is read, what was stored is known."""
    writer = host.writer()
    host.write(writer, 16)
    assert host.store is not None
    await host.store.ingest.apply(IngestBatch(writer=writer.name, segment=ahead[0], offset=ahead[1], after=NO_POSITION))
    await host.drain()
    await host.assert_exact()
    host.write(writer, 16)
    await host.drain()
    await host.assert_exact()


async def test_positions_of_others_are_left_alone(host: Host) -> None:
    """Another host's writer, or one of an earlier installation."""
    assert host.store is not None
    await host.store.ingest.apply(IngestBatch(writer="w9-9-9-other", segment=3, offset=7, after=NO_POSITION))
    host.write(host.writer(), 10)
    await host.drain()
    await host.assert_exact()
    assert (await host.store.spools.positions())["w9-9-9-other"] == (3, 7)


async def test_a_deleted_user_does_not_come_back(host: Host, copies: Copies) -> None:
    """Not even into a copy from before the deletion, which knows nothing of it: what is kept of them is gone."""
    await host.close()
    older = copies(host.url)
    await host.open()
    writer = host.writer()
    host.write(writer, 24)
    await host.drain()
    assert host.store is not None
    reader = SpoolReader(host.spool, keep_s=KEEP_S, clock=host.clock)
    user = host.records[0].user_hash
    assert user is not None
    await host.store.deletion.delete_user(user)
    assert reader.wipe(await host.store.spools.positions()) > 0
    assert not list(host.spool.glob("*/*.kept"))
    host.clock.advance(1.0)
    host.write(writer, 10)
    await host.drain()
    await host.close()
    await host.open(older)
    await host.drain()
    assert host.store is not None
    page = await host.store.records.list(RecordFilter(), limit=1000, texts=False)
    later = {record.id for record in host.records[24:]}
    assert {row.id for row in page.rows} == later, "what was written afterwards is fed again"


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=full("two other stories")) for n in (2, 3))])
async def test_however_often_it_goes_back_all_is_there_once(host: Host, copies: Copies, seed: int) -> None:
    """A story by chance: writers come and die, controllers too; the database goes back to any copy, or to nothing."""
    rng = random.Random(seed)
    host.rng = random.Random(seed + 100)
    older: list[str | None] = [None]
    living = [host.writer()]
    for _ in range(14):
        host.write(rng.choice(living), rng.randrange(1, 30))
        match rng.randrange(5):
            case 0:
                living.append(host.writer())
            case 1 if len(living) > 1:
                living.pop(rng.randrange(len(living))).close()
            case 2:
                await host.ingestor.run_once()
            case 3:
                await host.ingestor.run_once()
                await host.close()
                older.append(copies(host.url))
                await host.open()
            case _:
                await host.ingestor.run_once()
                await host.close()
                await host.open(copies(rng.choice(older)))
        host.clock.advance(0.5)
    await host.drain()
    await host.assert_exact()
    assert all(gap.lost == 0 for gap in host.gaps)
