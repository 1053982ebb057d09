"""A test that is adjusted by its users' past: read once when it begins, beside the ticks, and never twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from policies.experiment import evaluate
from policies.lifecycle import Phase
from policies.past import PastMoments
from policies.plan import LoopRules
from policies.records import TESTED, Arm
from policies.triggers import TriggerConfig
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.explain import explain
from proxy.store.store import Store
from proxy.tasks import spawn
from tests.harness.loop import HOUR_S, World, rules, settle


def adjusted(**changes: object) -> LoopRules:
    """Rules with the setting on."""
    plain = rules()
    test = replace(plain.ab_test, cuped=True, **changes)  # type: ignore[arg-type]
    return replace(plain, ab_test=test, terms={"ab_test_config.cuped": "true"})


async def pasts_in(store: Store) -> dict[Arm, PastMoments | None]:
    row = await store.experiments.running()
    assert row is not None
    arms = await store.statistics.arms(row.id, row.epoch)
    return {arm: arms[arm].past for arm in TESTED}


async def test_the_past_is_there_when_the_test_has_begun(tmp_path: Path) -> None:
    world = World(tmp_path, rules=adjusted())
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        assert (await loop.status()).phase.name == Phase.TESTING
        await loop.finish()
        assert await pasts_in(store) == dict.fromkeys(TESTED, PastMoments())
        world.clock.advance(HOUR_S)
        await world.chat(store, users=60, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.7})
        past = await pasts_in(store)
        assert {arm: found.users if found else None for arm, found in past.items()} == dict.fromkeys(TESTED, 20)
        row = await store.experiments.running()
        assert row is not None
        reader = EvidenceReader(store=store, clock=world.clock, ab_test=world.rules.ab_test)
        seen = evaluate(await reader.facts(row), world.rules.ab_test, world.clock.now())
        assert seen.past is not None
        assert seen.past.users == (20, 20)
        assert seen.past.saved > 0.5, "the users score in the test as they did before"


async def test_a_restart_reads_what_a_crash_left_unread(tmp_path: Path) -> None:
    """The arms say that their past is not there yet; users came meanwhile."""
    world = World(tmp_path, rules=adjusted())
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        await loop.finish()
        async with store._db.write() as connection:
            await connection.exec_driver_sql("UPDATE arm_stats SET past = NULL")
        await world.chat(store, users=10)
        assert await pasts_in(store) == dict.fromkeys(TESTED)
        again = world.start(store)
        await settle(again)
        await again.finish()
        past = await pasts_in(store)
        assert {arm: found.users if found else None for arm, found in past.items()} == dict.fromkeys(TESTED, 5)


async def test_nothing_is_read_where_it_is_off(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        await loop.finish()
        await world.chat(store, users=10)
        assert await pasts_in(store) == dict.fromkeys(TESTED)
        assert not await store.pasts.complete(1)


@pytest.mark.parametrize("days", [0.0001, 28.0])
async def test_it_goes_back_as_far_as_the_setting_says(tmp_path: Path, days: float) -> None:
    world = World(tmp_path, rules=adjusted(history_days=days))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        world.clock.advance(HOUR_S / 2)
        await settle(loop)
        await loop.finish()
        await world.chat(store, users=10)
        found = (await pasts_in(store))[Arm.CHAMPION]
        assert found is not None
        assert found.users == (5 if days > 1 else 0)


async def test_what_it_saves_is_known_while_the_loop_runs_and_said_by_explain(tmp_path: Path) -> None:
    """Two weeks of users with a habit: `ratchet explain` says so, and does not while nobody has looked."""
    world = World(tmp_path, rules=rules(trigger=TriggerConfig(min_new_samples=10**6, enable_scheduled=False)))
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        for _ in range(28):
            await world.chat(store, users=40)
            world.clock.advance(24 * HOUR_S)
        assert (await explain(store))["past_saving"] is None
        stop = asyncio.Event()
        running = spawn(loop.run(stop), name="the loop")
        async with asyncio.timeout(30):
            while store.past_savings.known is None:
                await asyncio.sleep(0.01)
        stop.set()
        await running
        said = (await explain(store))["past_saving"]
        assert said is not None
        assert said["users"] == said["with_past"] == 40
        assert said["saved"] > 0.9
        assert (await explain(store, world.clock.now()))["past_saving"] is None
