"""A clock that was ahead is corrected: nothing that the loop remembers lies ahead of now, and samples count again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.records import Arm
from policies.state import Idle, Ledger, LoopState, Retiring, Retry, Training, Turn, Watching
from policies.state import Testing as UnderTest
from proxy.ids import RecordIds
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.instants import brought_back, dated, instants_of
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.codec import to_json
from proxy.loop.ports import Failed
from proxy.loop.state import DETECTOR_ENTRY, STATE_ENTRY, state_from_json
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import HOUR_S, World, actions, settle

_log = logging.getLogger("test")
NOW = 1_800_000_000.0
LONGEST_S = 600.0
instants = st.floats(NOW - 1e7, NOW + 1e7)
maybe = st.none() | instants


@st.composite
def states(draw: st.DrawFn) -> LoopState:
    def retry(action: str) -> Retry:
        return Retry(action=action, at=draw(instants), attempts=1, reason="x")

    def turn() -> Turn:
        return Turn(dataset_at=draw(maybe), retrain_at=draw(maybe))

    phase = draw(
        st.sampled_from(
            [
                Idle(),
                Training(run_id="run-1", before=turn()),
                Watching(previous_id=2, experiment_id=1, promoted_at=draw(instants), before=None),
            ]
        )
    )
    ledger = Ledger(
        champion_id=1,
        installed_at=draw(instants),
        last=turn(),
        usable_at=draw(maybe),
        last_failure_at=draw(maybe),
        last_rejection_at=draw(maybe),
        retiring=tuple(
            Retiring(id=n, name="m", due_at=draw(instants), retry=retry("Retire") if draw(st.booleans()) else None)
            for n in range(draw(st.integers(0, 2)))
        ),
    )
    retries = (retry("PrepareData"),) if draw(st.booleans()) else ()
    return LoopState(phase=phase, since=draw(instants), retries=retries, ledger=ledger)


def test_every_instant_of_a_state_is_known() -> None:
    """A field that is a time, and no wait, is among them: the property below holds of all that there is."""
    turn = Turn(dataset_at=1.0, retrain_at=2.0)
    ledger = Ledger(
        champion_id=1, installed_at=3.0, last=turn, usable_at=4.0, last_failure_at=5.0, last_rejection_at=6.0
    )
    found = dict(instants_of(LoopState(phase=Training(run_id="r", before=turn), since=7.0, ledger=ledger)))
    times = set(flat(to_json(LoopState(phase=Training(run_id="r", before=turn), since=7.0, ledger=ledger))))
    assert found.keys() == times
    watching = Watching(previous_id=2, experiment_id=1, promoted_at=8.0, before=None)
    assert dict(instants_of(LoopState(phase=watching, since=7.0, ledger=ledger)))["phase.promoted_at"] == 8.0


def flat(document: dict[str, Any], within: str = "") -> Iterator[str]:
    """Paths of the numbers with a fraction, as JSON has them."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{within}{name}.")
        elif isinstance(value, float):
            yield f"{within}{name}"


@given(state=states())
def test_nothing_that_happened_lies_ahead_and_no_wait_grows(state: LoopState) -> None:
    mended = brought_back(state, NOW, LONGEST_S)
    before = dict(instants_of(state))
    assert dict(instants_of(mended)) == {path: min(at, NOW) for path, at in before.items()}
    ahead_s = max(0.0, *(at - NOW for at in before.values()))
    for retry, was in zip(mended.all_retries, state.all_retries, strict=True):
        assert retry.at <= min(was.at, NOW + LONGEST_S)
    for model, was_due in zip(mended.ledger.retiring, state.ledger.retiring, strict=True):
        assert model.due_at <= was_due.due_at
        assert model.due_at <= max(NOW, was_due.due_at - ahead_s)
    assert brought_back(mended, NOW, LONGEST_S) == mended, "once is enough"
    assert brought_back(mended, NOW + 1.0, LONGEST_S) == mended


@given(state=states())
def test_a_state_of_a_clock_that_was_right_is_left_alone(state: LoopState) -> None:
    def short(retry: Retry) -> Retry:
        return replace(retry, at=min(retry.at, NOW + LONGEST_S))

    right = dated(state, {path: min(at, NOW) for path, at in instants_of(state)})
    retiring = tuple(replace(left, retry=left.retry and short(left.retry)) for left in right.ledger.retiring)
    right = replace(right, retries=tuple(map(short, right.retries)), ledger=replace(right.ledger, retiring=retiring))
    assert brought_back(right, NOW, LONGEST_S) == right


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
        assert [path for path, at in instants_of(state) if at > now] == []
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
        upkeep, hour_us = (
            Maintenance(store=store, deployer=world.deployer, troubles=ThrottledLog(_log, world.clock)),
            3_600_000_000,
        )
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
