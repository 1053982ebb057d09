"""The dataset of real records in the real store: votes, corrections, opt-outs and deleted users."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from policies.lifecycle import Event
from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.clock import ManualClock
from proxy.loop.dataset import StoreDatasetBuilder
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import DatasetRequest, Manifest
from proxy.status import DatasetStatus, status_json
from proxy.store.store import Store
from proxy.store.tables.values import IngestBatch, NewRecord, RecordFilter, RecordFlag
from tests.harness.exchanges import exchange, vote
from tests.harness.loop import World, settle
from tests.harness.tables import sqlite_with_tables

T0 = 1_700_000_000_000_000
CONFIG = DataGeneratorConfig(holdout_share=0.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "store.db"), clock=ManualClock(T0 / 1e6 + 3600))
    yield opened
    await opened.close()


def logged(n: int, user: int, **changes: object) -> NewRecord:
    """A good exchange of this user, `n` seconds after T0."""
    return exchange(T0 + n * 1_000_000, random.Random(n), **{"user_hash": user, "quality": 0.9} | changes)


async def dataset(store: Store, folder: Path, run_id: str = "run-1") -> Manifest:
    request = DatasetRequest(run_id=run_id, until_s=T0 / 1e6 + 3600, config_fingerprint="")
    return await StoreDatasetBuilder(store.samples, CONFIG, folder).build(request)


def lines(manifest: Manifest) -> list[dict[str, list[dict[str, str]]]]:
    return [json.loads(line) for line in Path(manifest.data_path).read_text().splitlines()]


async def test_from_the_log_to_the_training_file(store: Store, tmp_path: Path) -> None:
    good, disliked, corrected, secret = (
        logged(1, 1),
        logged(2, 2),
        logged(3, 3, quality=0.1),
        logged(4, 4, flags=RecordFlag.NO_TRAIN),
    )
    coin = random.Random(0)
    votes = (
        vote(disliked.id, T0, coin, feedback=-1),
        vote(corrected.id, T0, coin, feedback=-1, correction="What a person would have said."),
    )
    batch = IngestBatch(writer="w", segment=1, offset=1, records=(good, disliked, corrected, secret), votes=votes)
    await store.ingest.apply(batch)
    manifest = await dataset(store, tmp_path)
    assert good.body is not None
    assert corrected.body is not None
    assert lines(manifest) == [
        {"messages": [*good.body.messages, {"role": "assistant", "content": good.body.response_text}]},
        {"messages": [*corrected.body.messages, {"role": "assistant", "content": "What a person would have said."}]},
    ]
    assert manifest.dropped == {"negative_feedback": 1}
    assert (manifest.first_record_id, manifest.last_record_id) == (good.id, corrected.id)


async def test_a_deleted_user_is_in_no_later_dataset(store: Store, tmp_path: Path) -> None:
    records = tuple(logged(n, user=n % 3) for n in range(30))
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records))
    before = await dataset(store, tmp_path, "run-1")
    await store.deletion.delete_user(1)
    after = await dataset(store, tmp_path, "run-2")
    assert (before.samples, after.samples) == (30, 20)
    lineage = (tmp_path / "run-2/lineage.csv").read_text().splitlines()[1:]
    assert {line.split(",")[1] for line in lineage} == {"0", "2"}


async def test_a_long_history_is_read_in_chunks_newest_first(store: Store, tmp_path: Path) -> None:
    records = tuple(logged(n, user=n) for n in range(450))
    await store.ingest.apply(IngestBatch(writer="w", segment=1, offset=1, records=records))
    manifest = await dataset(store, tmp_path)
    assert manifest.seen == 450
    assert manifest.samples + sum(manifest.dropped.values()) == 450
    order = [line.split(",")[0] for line in (tmp_path / "run-1/lineage.csv").read_text().splitlines()[1:]]
    assert order == sorted(order)


class Halting:
    """A store that stops giving samples after so many, until it may go on."""

    def __init__(self, store: Store, after: int) -> None:
        self.store, self.after = store, after
        self.halted, self.go_on = asyncio.Event(), asyncio.Event()

    async def iter(self, **bounds: Any) -> AsyncIterator[Sample]:
        count = 0
        async for sample in self.store.samples.iter(**bounds):
            if count == self.after:
                self.halted.set()
                await self.go_on.wait()
            count += 1
            yield sample

    def judged(self, **bounds: Any) -> AsyncIterator[Sample]:
        return self.store.samples.judged(**bounds)


async def test_the_status_says_how_far_a_dataset_has_come(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        source = Halting(store, after=220)
        builder = StoreDatasetBuilder(source, replace(CONFIG, deduplicate=False), tmp_path / "training")
        registry = CollectorRegistry()
        metrics = LoopMetrics(registry, world.clock)
        loop = world.start(store, datasets=builder, building=lambda: builder.building, metrics=metrics)
        await settle(loop)
        await world.chat(store, users=250, each=1)
        assert "building" not in status_json(await loop.status())
        assert registry.get_sample_value("ratchet_loop_dataset_records", {"state": "kept"}) is None
        ticking = asyncio.create_task(loop.tick())
        await source.halted.wait()
        status = await loop.status()
        assert (status.phase.name, status.building) == ("idle", DatasetStatus(seen=200, kept=200))
        assert status.notes == (
            "Training data is being prepared: 200 records read, 200 samples kept so far. "
            "Commands are carried out when it is done.",
        )
        assert registry.get_sample_value("ratchet_loop_dataset_records", {"state": "kept"}) == 200
        source.go_on.set()
        tick = await ticking
        assert tick.transition is not None
        assert tick.transition.event is Event.DATASET_READY
        assert "building" not in status_json(await loop.status())
        assert registry.get_sample_value("ratchet_loop_dataset_records", {"state": "kept"}) is None


async def test_a_user_who_is_deleted_while_a_dataset_is_built_is_not_in_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        source = Halting(store, after=220)
        builder = StoreDatasetBuilder(source, replace(CONFIG, deduplicate=False), tmp_path / "training")
        loop = world.start(store, datasets=builder)
        await settle(loop)
        await world.chat(store, users=250, each=1)
        ticking = asyncio.create_task(loop.tick())
        await source.halted.wait()  # the newest have been read
        newest = (await store.records.list(RecordFilter(), limit=3)).rows[-1]
        assert newest.user_hash is not None
        await store.deletion.delete_user(newest.user_hash)
        source.go_on.set()
        tick = await ticking
        assert tick.transition is not None
        (run,) = tick.transition.runs
        folder = tmp_path / "training" / run.id
        assert newest.id not in (folder / "lineage.csv").read_text()
        assert run.manifest is not None
        assert run.manifest["samples"] == len((folder / "data.jsonl").read_text().splitlines())
        assert (run.manifest["deleted"]["lines"], run.manifest["dropped"]["deleted_user"]) == (1, 1)
