"""A recipe that never wins stops after three, and goes on when a person says so; a month has its number."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from policies.brakes import Brake
from policies.snapshot import CheckView
from policies.triggers import TriggerConfig
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import Failed
from proxy.loop.tick import Loop
from proxy.status import Status, TriggerStatus
from proxy.store.store import Store
from tests.harness.loop import HOUR_S, World, actions, rules, settle

WORSE = CheckView(id=0, done=True, verdict="reject", reasons=("31 of 200 answers are empty",))
THREE = "Three challengers in a row were not better than the champion: triggers start no training until a person has "
RETRAINED = "PrepareData"


async def a_day_later(world: World, store: Store, loop: Loop) -> list[str]:
    """What the loop does with another day's traffic, which is enough for a training."""
    world.clock.advance(25 * HOUR_S)
    await world.chat(store, users=40)
    return actions(await settle(loop))


async def order(loop: Loop, store: Store, verb: str) -> None:
    await store.commands.submit(verb, who="ann", why="another recipe", args={})
    await loop.tick()


async def triggers_of(loop: Loop) -> TriggerStatus:
    status: Status = await loop.status()
    assert status.triggers is not None
    return status.triggers


async def stopped(world: World, store: Store, metrics: LoopMetrics | None = None) -> Loop:
    """After three challengers that the gate has sent back."""
    world.gate.says = WORSE
    loop = world.start(store, metrics=metrics)
    await world.chat(store, users=40)
    assert actions(await settle(loop))[-1] == "FailCheck"
    for _ in range(2):
        assert (await a_day_later(world, store, loop))[-1] == "FailCheck"
    assert await a_day_later(world, store, loop) == []
    return loop


async def test_three_in_a_row_stop_the_triggers_and_everybody_is_told(tmp_path: Path) -> None:
    world, registry = World(tmp_path), CollectorRegistry()
    async with world.store() as store:
        loop = await stopped(world, store, LoopMetrics(registry, world.clock))
        for _ in range(40):
            assert await a_day_later(world, store, loop) == []
        assert len(world.trainer.runs) == 3
        triggers = await triggers_of(loop)
        assert (triggers.brake, triggers.fired, triggers.facts.rejections_in_a_row) == (Brake.REJECTIONS, None, 3)
        assert (triggers.hold or "").startswith(THREE)
        told = [event for event in world.told.events if event["event"] == "stopped_after_rejections"]
        assert [event["reason"] for event in told] == [triggers.hold], "once, not at every look"
        shown = generate_latest(registry)
        assert b'ratchet_trigger_brake{brake="rejections"} 1.0' in shown
        assert b"ratchet_loop_rejections_in_a_row 3.0" in shown
        entry = (await store.journal.recent(limit=1))[0]
        assert entry.why == triggers.hold, "and `ratchet explain` has the reason"


@pytest.mark.parametrize("verb", ["trigger", "resume"])
async def test_a_person_lets_it_go_on_for_three_more(tmp_path: Path, verb: str) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await stopped(world, store)
        await order(loop, store, verb)
        await settle(loop)
        for _ in range(5):
            await a_day_later(world, store, loop)
        assert len(world.trainer.runs) == 6
        assert (await triggers_of(loop)).brake is Brake.REJECTIONS


async def test_a_restart_does_not_forget_how_many_there_were(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        await stopped(world, store)
        again = world.start(store)
        assert await a_day_later(world, store, again) == []
        assert (await triggers_of(again)).brake is Brake.REJECTIONS


async def test_trainings_that_fail_do_not_stop_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.trainer.outcome = Failed(reason="CUDA out of memory")
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        for _ in range(4):
            assert RETRAINED in await a_day_later(world, store, loop)
        assert (await triggers_of(loop)).brake is None


async def test_a_month_has_its_number_of_trainings_and_a_person_is_not_counted(tmp_path: Path) -> None:
    limits = TriggerConfig(
        min_new_samples=50, min_usable_samples=20, enable_scheduled=False, stop_after_rejections=0, max_runs_per_month=2
    )
    world = World(tmp_path, rules=rules(trigger=limits))
    world.gate.says = WORSE
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        first = world.clock.now()
        assert RETRAINED in actions(await settle(loop))
        assert RETRAINED in await a_day_later(world, store, loop)
        assert await a_day_later(world, store, loop) == []
        triggers = await triggers_of(loop)
        assert (triggers.brake, triggers.hold_until) == (Brake.MONTH, pytest.approx(first + 30 * 24 * HOUR_S, abs=60))
        await order(loop, store, "trigger")
        await settle(loop)
        assert len(world.trainer.runs) == 3
        assert (await triggers_of(loop)).facts.runs_at == triggers.facts.runs_at
        world.clock.advance(first + 30 * 24 * HOUR_S + 60 - world.clock.now())
        await world.chat(store, users=40)
        assert RETRAINED in actions(await settle(loop))


async def test_who_sets_no_number_for_the_month_pays_no_count(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await loop.tick()
        assert (await triggers_of(loop)).facts.runs_at is None
