"""Retention and the archive: no day goes before it is written there, whatever its age, whatever the archive's state."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="the archive needs the extra `archive`")

import fsspec
from prometheus_client import CollectorRegistry

from proxy.app.housekeeping import ArchiveMetrics, Housekeeping
from proxy.clock import ManualClock
from proxy.config.storage import ArchiveConfig, RetentionConfig, StoreConfig
from proxy.store.archive import ArchiveSource, ArchiveStore
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord
from tests.harness.exchanges import exchange, vote

DAY_S = 86_400
FIRST = 20_000
"""A day: 2024-10-04."""


class Site:
    """A store that keeps two days, and an archive beside it."""

    def __init__(self, store: Store, clock: ManualClock, folder: Path) -> None:
        self.store, self.clock, self.folder = store, clock, folder
        self.rng = random.Random(5)
        self.config = StoreConfig(
            retention=RetentionConfig(bodies_days=2, records_days=2), archive=ArchiveConfig(url=str(folder))
        )
        self.registry = CollectorRegistry()
        self.metrics = ArchiveMetrics(self.registry, self.config.archive, clock)
        self.keeping = Housekeeping(self.config, store, clock, self.metrics)
        self.position = 0

    async def log(self, day: float, n: int = 3) -> list[NewRecord]:
        """`n` records of a day counted from FIRST."""
        self.position += 1
        at_us = int((FIRST + day) * DAY_S * 1e6)
        made = [exchange(at_us + i * 1000, self.rng) for i in range(n)]
        await self.store.ingest.apply(IngestBatch(writer="w", segment=0, offset=self.position, records=tuple(made)))
        return made

    async def at(self, day: float) -> None:
        """Housekeeping at this time."""
        self.clock.advance((FIRST + day) * DAY_S - self.clock.now())
        await self.keeping.run_once()

    def told(self) -> tuple[float | None, float | None]:
        """What the metrics say: failures, and days that the archive is behind."""
        names = ("ratchet_archive_failures_total", "ratchet_archive_behind_days")
        return self.registry.get_sample_value(names[0]), self.registry.get_sample_value(names[1])

    async def stored(self) -> set[str]:
        """Records in the store that have their body."""
        return {view.row.id async for view in self.store.records.iter() if view.body is not None}

    async def archived(self) -> set[str]:
        """Records in the archive that have their body."""
        source = ArchiveSource(ArchiveStore(str(self.folder)))
        return {view.row.id async for view in source.records.iter() if view.body is not None}


@pytest.fixture
def clock() -> ManualClock:
    """The morning of the first day."""
    return ManualClock(FIRST * DAY_S + 3600.0)


@pytest.fixture
def site(store: Store, clock: ManualClock, tmp_path: Path) -> Site:
    return Site(store, clock, tmp_path / "archive")


def ids(*days: list[NewRecord]) -> set[str]:
    return {record.id for day in days for record in day}


async def test_days_are_archived_by_themselves_and_then_dropped(site: Site) -> None:
    first, second, third = [await site.log(day + 0.5) for day in range(3)]
    await site.at(0.9)
    assert await site.archived() == set(), "a day that has not ended is not written"
    await site.at(2.9)
    assert await site.archived() == ids(first, second)
    assert await site.stored() == ids(first, second, third), "none is old enough"
    await site.at(5.9)
    assert await site.archived() == ids(first, second, third)
    assert await site.stored() == set()


async def test_nothing_is_dropped_while_the_archive_is_out_of_reach(site: Site) -> None:
    days = [await site.log(day + 0.5) for day in range(3)]
    site.folder.write_text("no folder")
    await site.at(30.5)
    assert await site.stored() == ids(*days)
    site.folder.unlink()
    await site.at(30.6)
    assert await site.stored() == set()
    assert await site.archived() == ids(*days)


async def test_metrics_tell_how_far_the_archive_is_behind(site: Site) -> None:
    [await site.log(day + 0.5) for day in range(3)]
    assert site.told() == (0, None), "no pass yet: not known"
    await site.at(1.5)
    assert site.told() == (0, 0)
    site.clock.advance(DAY_S)
    assert site.told() == (0, 1), "the second day has ended, the next pass is due"
    kept = site.folder.rename(site.folder.with_name("elsewhere"))
    site.folder.write_text("no folder")
    await site.at(2.6)
    failures, behind = site.told()
    assert (failures, behind) == (3, 1), "a pass, and retention's questions about the first day, bodies and records"
    site.folder.unlink()
    kept.rename(site.folder)
    await site.at(2.7)
    assert site.told() == (3, 0)


async def test_another_pass_is_waited_for_and_no_failure(site: Site) -> None:
    await site.log(0.5)
    site.clock.advance(DAY_S)
    other = await site.store.leases.acquire("archive", "another host", ttl_s=120)
    assert other is not None
    await site.keeping.run_once()
    assert site.told() == (0, None)
    await site.store.leases.release(other)
    await site.keeping.run_once()
    assert site.told() == (0, 0)


class Keyless(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """A bucket whose driver raises errors of its own, as boto3's does without credentials."""

    protocol = "keyless"

    def ls(self, path: str, detail: bool = True, **_: object) -> list[object]:
        raise RuntimeError("Unable to locate credentials")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        raise RuntimeError("Unable to locate credentials")


async def test_a_driver_that_raises_what_it_likes_keeps_nothing_else_from_being_done(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    fsspec.register_implementation("keyless", Keyless, clobber=True)
    first = await site.log(0.5)
    config = replace(site.config, archive=ArchiveConfig(url="keyless://bucket"))
    site.keeping = Housekeeping(config, site.store, site.clock, site.metrics)
    await site.at(30.5)
    assert await site.stored() == ids(first)
    assert "Unable to locate credentials" in caplog.text
    assert site.told() == (3, None)


async def test_what_came_late_for_an_archived_day_is_archived_before_the_day_goes(site: Site) -> None:
    early = await site.log(0.5)
    await site.at(1.5)
    assert await site.archived() == ids(early)
    await site.at(4.2)
    assert await site.stored() == set()
    late = await site.log(0.6)
    await site.store.ingest.apply(
        IngestBatch(writer="v", segment=0, offset=1, votes=(vote(late[0].id, int(site.clock.now() * 1e6), site.rng),))
    )
    await site.at(4.3)
    assert await site.stored() == ids(late), "the pass of this day was made: it waits for another"
    await site.at(4.4)
    assert await site.stored() == set()
    assert await site.archived() == ids(early, late)


async def test_a_batch_over_midnight_keeps_its_bodies_until_both_days_are_archived(site: Site) -> None:
    """Its block of bodies belongs to the first day, some of its records to the second."""
    over = await site.log(1 - 0.002 / DAY_S, 4)
    assert len({record.id[:12] for record in over}) == 4
    keeping = Housekeeping(
        replace(site.config, retention=RetentionConfig(bodies_days=0.2, records_days=0.2)), site.store, site.clock
    )
    site.keeping = keeping
    await site.at(1.5)
    assert await site.stored() == ids(over)
    await site.at(2.5)
    assert await site.archived() == ids(over)


async def test_a_store_that_is_too_large_drops_only_what_is_archived(site: Site) -> None:
    days = [await site.log(day + 0.5, 200) for day in range(4)]
    site.keeping = Housekeeping(
        replace(site.config, retention=RetentionConfig(bodies_days=0, records_days=0, max_bytes=1)),
        site.store,
        site.clock,
    )
    await site.at(3.6)
    assert await site.archived() == ids(*days[:3])
    kept = await site.stored()
    assert ids(*days[2:]) <= kept, "the last finished day may share a block with today"
    assert not ids(*days[:2]) & kept


async def test_without_an_archive_nothing_waits_for_one(site: Site) -> None:
    await site.log(0.5)
    site.keeping = Housekeeping(replace(site.config, archive=ArchiveConfig()), site.store, site.clock)
    await site.at(30.5)
    assert await site.stored() == set()
    assert not site.folder.exists()
