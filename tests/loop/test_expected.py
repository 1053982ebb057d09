"""The traffic that `ratchet power` computes with, as a real store has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.assessment import QualityMeasure
from policies.estimates import Metric
from policies.experiment import ABTestConfig
from policies.lifecycle import Phase
from policies.power import Habit
from policies.records import Arm
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.expected import Expected, ExpectedReader, habits_of
from proxy.store.store import Store
from tests.harness.loop import HOUR_S, World, settle

DAY_US = 86_400_000_000


def test_users_who_come_about_equally_often_are_one_group() -> None:
    visits = {1: 40, 2: 10, 9: 2, 12: 1, 100: 1}
    assert habits_of(visits, 2.0) == (
        Habit(users=40.0, requests_per_day=0.5),
        Habit(users=10.0, requests_per_day=1.0),
        Habit(users=3.0, requests_per_day=5.0),
        Habit(users=1.0, requests_per_day=50.0),
    )
    assert habits_of({}, 1.0) == ()


async def expected(world: World, store: Store, test: ABTestConfig, *, scored: bool = False) -> Expected:
    evidence = EvidenceReader(store=store, clock=world.clock, ab_test=test)
    reader = ExpectedReader(store=store, ab_test=test, evidence=evidence, scored_by_application=scored)
    return await reader.read(round(world.clock.now() * 1e6))


async def test_before_any_test_it_knows_who_comes_and_that_format_checks_measure_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        assert await expected(world, store, world.rules.ab_test) == Expected()
        await world.chat(store, users=40)
        seen = await expected(world, store, world.rules.ab_test)
        assert (seen.requests_per_day, seen.users, seen.profiles) == (120.0, 40.0, None)
        assert seen.habits == (Habit(users=40.0, requests_per_day=3.0),)
        assert (seen.scored_rate, seen.vote_rate, seen.positive_rate, seen.saving) == (0.0, 0.0, None, None)
        assert (await expected(world, store, world.rules.ab_test, scored=True)).scored_rate == 1.0


async def test_a_test_says_how_the_champions_metrics_vary(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        await world.chat(store, users=200)
        await settle(loop)
        seen = await expected(world, store, world.rules.ab_test)
        assert seen.measure is QualityMeasure.FORMAT_CHECK, "they differ here, so they say something"
        assert seen.profiles is not None
        [quality] = seen.profiles
        assert (quality.metric, quality.per_request) == (Metric.QUALITY, 1.0)
        assert quality.mean == pytest.approx(0.805, abs=0.005)
        nothing = await expected(world, store, ABTestConfig())
        assert nothing.profiles is None, "nobody has voted: that cannot be measured"


async def test_the_watch_after_a_promotion_is_of_another_champion(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        world.clock.advance(HOUR_S)
        await world.chat(store, users=200, quality={Arm.CHAMPION: 0.6, Arm.CHALLENGER: 0.8})
        await settle(loop)
        assert (await loop.status()).phase.name == Phase.WATCHING
        before = (await expected(world, store, world.rules.ab_test)).profiles
        await world.chat(store, users=200, quality={Arm.CHAMPION: 0.9, Arm.CHALLENGER: 0.6})
        assert before is not None
        assert (await expected(world, store, world.rules.ab_test)).profiles == before
