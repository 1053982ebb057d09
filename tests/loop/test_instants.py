"""A clock that was ahead is corrected: nothing that the loop remembers lies ahead of now, and samples count again."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.lifecycle import Phase
from policies.records import Arm
from policies.snapshot import Retiring, Retry
from proxy.ids import RecordIds
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.instants import brought_back
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.codec import from_json
from proxy.loop.ports import Failed
from proxy.loop.state import DETECTOR_ENTRY, STATE_ENTRY, LoopState
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import HOUR_S, World, actions, settle

_log = logging.getLogger("test")
NOW = 1_800_000_000.0
LONGEST_S = 600.0
INSTANTS = [field.name for field in fields(LoopState) if field.name.endswith(("_at", "_since"))]
instants = st.floats(NOW - 1e7, NOW + 1e7)


@st.composite
def states(draw: st.DrawFn) -> LoopState:
    always = ("installed_at", "phase_since")
    given_at: dict[str, Any] = {name: draw(instants if name in always else st.none() | instants) for name in INSTANTS}
    retries = tuple(
        Retry(action=action, at=draw(instants), attempts=1, reason="x")
        for action in draw(st.lists(st.sampled_from(["Retire", "PrepareData"]), unique=True))
    )
    retiring = tuple(Retiring(id=n, name="m", due_at=draw(instants)) for n in range(draw(st.integers(0, 2))))
    return LoopState(champion_id=1, retries=retries, retiring=retiring, **given_at)


@given(state=states())
def test_nothing_that_happened_lies_ahead_and_no_wait_grows(state: LoopState) -> None:
    mended = brought_back(state, NOW, LONGEST_S)
    for name in INSTANTS:
        before, after = getattr(state, name), getattr(mended, name)
        assert after == (None if before is None else min(before, NOW))
    ahead_s = max(0.0, *(getattr(state, name) - NOW for name in INSTANTS if getattr(state, name) is not None))
    for retry, was in zip(mended.retries, state.retries, strict=True):
        assert retry.at <= min(was.at, NOW + LONGEST_S)
    for model, was_due in zip(mended.retiring, state.retiring, strict=True):
        assert model.due_at <= was_due.due_at
        assert model.due_at <= max(NOW, was_due.due_at - ahead_s)
    assert brought_back(mended, NOW, LONGEST_S) == mended, "once is enough"
    assert brought_back(mended, NOW + 1.0, LONGEST_S) == mended


@given(state=states())
def test_a_state_of_a_clock_that_was_right_is_left_alone(state: LoopState) -> None:
    right = replace(
        state,
        **{name: min(at, NOW) for name in INSTANTS if (at := getattr(state, name)) is not None},
        retries=tuple(replace(retry, at=min(retry.at, NOW + LONGEST_S)) for retry in state.retries),
    )
    assert brought_back(right, NOW, LONGEST_S) == right


async def state_of(store: Store) -> LoopState:
    entry = await store.state.get(STATE_ENTRY)
    assert entry is not None
    return from_json(LoopState, entry)


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
        assert [name for name in INSTANTS if (getattr(state, name) or 0.0) > now] == []
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
        assert state.phase is Phase.TESTING
        assert state.experiment_id is not None
        row = await store.experiments.get(state.experiment_id)
        assert row is not None
        assert max(row.started_us, row.epoch_started_us) <= now * 1e6
        assert state.phase_since <= now
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
        assert state.experiment_id is not None
        before = await store.experiments.get(state.experiment_id)
        for _ in range(2):
            for step_h in (4, 20):
                world.clock.jump(-step_h * HOUR_S)
                await loop.tick()
                assert (await state_of(store)).phase_since <= world.clock.now()
                world.clock.advance(5.0)
            for step_h in (10, 14):
                world.clock.jump(step_h * HOUR_S)
                await loop.tick()
            again = await state_of(store)
            assert replace(again, routes_version=0) == replace(state, routes_version=0)
            assert await store.experiments.get(state.experiment_id) == before


async def test_the_hours_of_a_clock_that_was_ahead_do_not_stop_the_drop_detector(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        upkeep, hour_us = (
            Maintenance(store=store, deployer=world.deployer, troubles=ThrottledLog(_log, world.clock)),
            3_600_000_000,
        )
        state = LoopState(champion_id=1, installed_at=NOW, phase_since=NOW, baseline=0.8)
        ahead = await upkeep.detector(state, round(NOW * 1e6) + 24 * hour_us)
        loop = world.start(store)
        await loop.tick()
        lease = await store.leases.get("loop")
        assert lease is not None
        await store.transition(LoopTransaction(fence=lease.fence, state={DETECTOR_ENTRY: ahead}))
        back = await upkeep.detector(state, round(NOW * 1e6))
        assert back is not None
        assert back["hour"] == round(NOW * 1e6) // hour_us - 1
