"""A clock that was ahead is corrected: nothing that the loop remembers lies ahead of now, and samples count again."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from policies.records import Arm
from policies.state import Ledger, LoopState
from policies.state import Testing as UnderTest
from policies.transition import timestamps
from proxy.ids import RecordIds
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.quality import QualityReader
from proxy.loop.ports import Failed
from proxy.loop.state import DETECTOR_ENTRY, STATE_ENTRY, state_from_json
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import HOUR_S, World, actions, settle

NOW = 1_800_000_000.0
_log = logging.getLogger("test")


def unversioned(state: LoopState) -> LoopState:
    return replace(state, ledger=replace(state.ledger, routes_version=0))


async def state_of(store: Store) -> LoopState:
    entry = await store.state.get(STATE_ENTRY)
    assert entry is not None
    return state_from_json(entry)


@pytest.mark.parametrize("far_s", [90.0, 24 * HOUR_S, 400 * 24 * HOUR_S])
async def test_samples_count_again_once_the_clock_is_right(
    tmp_path: Path, far_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It is installed and prepares a dataset, of which nothing comes, while the clock is ahead."""
    world = World(tmp_path)
    world.trainer.outcome = Failed(reason="no luck")
    world.clock.jump(far_s)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        await world.chat(store, users=40)
        assert "PrepareData" in actions(await settle(loop))
        world.clock.jump(-far_s)
        await loop.tick()
        state, now = await state_of(store), world.clock.now()
        assert [path for path, at in timestamps(state) if at > now] == []
        assert sum("is dated now" in line for line in caplog.messages) == 1
        [said] = [entry for entry in await store.journal.recent() if "is dated now" in entry.why]
        assert said.action == "Install"
        world.trainer.outcome = None
        world.ids = RecordIds(world.keys)  # so are record ids, in new workers at the latest
        world.clock.advance(25 * HOUR_S)  # the cool-down after a failure
        await world.chat(store, users=40)
        assert "PrepareData" in actions(await settle(loop))
        assert sum("is dated now" in line for line in caplog.messages) == 1, "once"


async def test_a_test_that_began_ahead_of_time_has_begun_now(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.clock.jump(24 * HOUR_S)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        await world.chat(store, users=40)
        await settle(loop)
        world.clock.jump(-24 * HOUR_S)
        await loop.tick()
        state, now = await state_of(store), world.clock.now()
        assert isinstance(state.phase, UnderTest)
        row = await store.experiments.get(state.phase.experiment_id)
        assert row is not None
        assert max(row.started_us, row.epoch_started_us) <= now * 1e6
        assert state.since <= now
        await world.chat(store, users=200, quality={Arm.CHAMPION: 0.6, Arm.CHALLENGER: 0.95})
        world.clock.advance(1.1 * HOUR_S)
        assert actions(await settle(loop)), "the test is decided in its own time"


async def test_a_clock_that_goes_back_for_a_moment_makes_no_test_older(tmp_path: Path) -> None:
    """A test may be decided after an hour: a clock that was a day behind for a moment is no reason to decide sooner."""
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        await world.chat(store, users=40)
        await settle(loop)
        state = await state_of(store)
        assert isinstance(state.phase, UnderTest)
        before = await store.experiments.get(state.phase.experiment_id)
        for _ in range(2):
            for step_h in (4, 20):
                world.clock.jump(-step_h * HOUR_S)
                await loop.tick()
                assert (await state_of(store)).since <= world.clock.now()
                world.clock.advance(5.0)
            for step_h in (10, 14):
                world.clock.jump(step_h * HOUR_S)
                await loop.tick()
            again = await state_of(store)
            assert unversioned(again) == unversioned(state)
            assert await store.experiments.get(state.phase.experiment_id) == before


async def test_the_hours_of_a_clock_that_was_ahead_do_not_stop_the_drop_detector(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        evidence = EvidenceReader(store=store, clock=world.clock, ab_test=world.rules.ab_test)
        quality = QualityReader(store=store, clock=world.clock, evidence=evidence)
        troubles = ThrottledLog(_log, world.clock)
        upkeep = Maintenance(store=store, deployer=world.deployer, quality=quality, troubles=troubles)
        hour_us = 3_600_000_000
        state = LoopState(since=NOW, ledger=Ledger(champion_id=1, installed_at=NOW, baseline=0.8))
        ahead = await upkeep.detector(state, round(NOW * 1e6) + 24 * hour_us)
        loop = world.start(store)
        await loop.tick()
        lease = await store.leases.get("loop")
        assert lease is not None
        await store.journal.transition(LoopTransaction(fence=lease.fence, state={DETECTOR_ENTRY: ahead}))
        back = await upkeep.detector(state, round(NOW * 1e6))
        assert back is not None
        assert back["hour"] == round(NOW * 1e6) // hour_us - 1
