"""A host's part of a deletion, and what housekeeping does with trainings that came to nothing: real files and rows."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from policies.rows import Run
from proxy.app.deletion import HostDeletion
from proxy.app.housekeeping import Housekeeping
from proxy.app.paths import DataDir
from proxy.clock import ManualClock
from proxy.config.storage import RetentionConfig, StoreConfig
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.tables import sqlite_with_tables

DAY_S = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_760_000_000.0)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=clock)
    yield opened
    await opened.close()


def dataset(folder: Path, *users: int) -> None:
    folder.mkdir(parents=True)
    rows = [f"r{n},{user},train,{n + 1},m,0,elsewhere," for n, user in enumerate(users)]
    (folder / "lineage.csv").write_text(
        "\n".join(["record_id,user,split,line,model,generation,author,vote", *rows, ""])
    )
    (folder / "data.jsonl").write_text("".join(f'{{"said by": {user}}}\n' for user in users))
    (folder / "manifest.json").write_text(json.dumps({"samples": len(users), "seen": len(users)}))


async def nothing_waits() -> None:
    """A spool that has been read."""


async def test_a_host_answers_for_its_own_places_once(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    data = DataDir(tmp_path)
    dataset(tmp_path / "training" / "run-1", 1, 2)
    dataset(tmp_path / "exports" / "mine", 1, 1, 2)
    await store.deletion.delete_user(1)
    host = HostDeletion(data, tmp_path / "training", store, clock)
    report = await host.answer(await host.pending(), nothing_waits)
    assert {place.place: place.removed for place in report.places} == {
        "spool": 0, "training data": 3, "what trainings said": 0
    }  # fmt: skip
    for folder in ("training/run-1", "exports/mine"):
        assert (tmp_path / folder / "data.jsonl").read_text() == '{"said by": 2}\n'
    assert await host.pending() == []
    assert await HostDeletion(data, tmp_path / "training", store, clock).pending() == [], "it is the same host"
    await store.deletion.delete_user(1)
    assert len(await host.pending()) == 1


async def test_a_place_that_cannot_be_cleared_is_said(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    dataset(tmp_path / "training" / "run-1", 1)
    (tmp_path / "training" / "run-1" / "data.jsonl").unlink()
    (tmp_path / "training" / "run-1" / f"lineage.csv.next.{os.getpid()}.tmp").mkdir()
    await store.deletion.delete_user(1)
    host = HostDeletion(DataDir(tmp_path), tmp_path / "training", store, clock)
    report = await host.answer(await host.pending(), nothing_waits)
    (failed,) = [place for place in report.places if place.failed]
    assert (failed.place, f"lineage.csv.next.{os.getpid()}.tmp" in failed.remains) == ("training data", True)


async def test_a_deletion_is_heard_of_while_it_runs(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    host = HostDeletion(DataDir(tmp_path), tmp_path / "training", store, clock)
    await store.deletion.delete_user(7)
    running = asyncio.ensure_future(host.run())
    async with asyncio.timeout(60):
        while await host.pending():
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize(("keep_days", "gone"), [(14.0, {"run-failed", "run-cancelled", "run-small"}), (0.0, set())])
async def test_folders_of_trainings_that_came_to_nothing_go_after_their_time(
    tmp_path: Path, store: Store, clock: ManualClock, keep_days: float, gone: set[str]
) -> None:
    now_us = int(clock.now() * 1e6)
    states = {"run-failed": "failed", "run-cancelled": "cancelled", "run-small": "too_small", "run-good": "trained",
              "run-data": "data_only", "run-young": "failed", "run-now": "training"}  # fmt: skip
    runs = []
    for name, state in states.items():
        (tmp_path / "training" / name).mkdir(parents=True)
        (tmp_path / "training" / name / "train.log").write_text("words")
        days = 13 if name == "run-young" else 15
        ended_us = None if state == "training" else now_us - days * DAY_S * 1_000_000
        runs.append(Run(id=name, state=state, trigger="t", started_us=1, ended_us=ended_us, trainer="callable"))
    (tmp_path / "training" / "of-somebody-else").mkdir()
    lease = await store.leases.acquire("loop", "test", ttl_s=60)
    assert lease is not None
    await store.journal.transition(LoopTransaction(fence=lease.fence, runs=tuple(runs)))
    config = replace(StoreConfig(), retention=RetentionConfig(failed_runs_days=keep_days))
    keeping = Housekeeping(config, store, clock, training_dir=tmp_path / "training")
    await keeping.run_once()
    left = {path.name for path in (tmp_path / "training").iterdir()}
    assert left == {*states, "of-somebody-else"} - gone
