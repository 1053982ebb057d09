"""The stages of a ramp, and the watch with its control: what status, metrics and the journal say of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from policies.records import Arm
from proxy.loop.look.explain import history
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.tick import Loop
from proxy.routes import read_routes
from proxy.store.store import Store
from proxy.web.console.road import road_of
from tests.harness.loop import HOUR_S, World, actions, rules, settle

BETTER = {Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.8}


def world(root: Path) -> World:
    base = rules()
    ab_test = replace(base.ab_test, initial_challenger_traffic=0.45, stages=(0.45, 0.5))
    return World(root, rules=replace(base, ab_test=ab_test))


def samples(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    found = [sample for family in registry.collect() for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in found}


async def to_the_watch(stage: World, store: Store, loop: Loop) -> None:
    """A challenger with users, and a promotion."""
    await stage.chat(store, users=200)
    await settle(loop)
    await win(stage, store, loop)


async def win(stage: World, store: Store, loop: Loop) -> None:
    for _ in range(3):
        stage.clock.advance(0.4 * HOUR_S)
        await stage.chat(store, users=200, quality=BETTER)
        await settle(loop)


async def test_every_stage_is_in_the_journal_the_status_and_the_metrics(tmp_path: Path) -> None:
    stage = world(tmp_path)
    registry = CollectorRegistry()
    async with stage.store() as store:
        loop = stage.start(store, metrics=LoopMetrics(registry, stage.clock))
        await stage.chat(store, users=200)
        await settle(loop)
        assert samples(registry)["ratchet_experiment_next_share",] == 0.5
        for hours in (0.3, 0.3, 0.2):
            stage.clock.advance(hours * HOUR_S)
            await stage.chat(store, users=200, quality=BETTER)
            await settle(loop)
        status = await loop.status()
        raised = next(entry for entry in await history(store) if entry["action"] == "RaiseShare")
    assert (raised["event"], raised["experiment_id"]) == ("stage_reached", status.experiment.id)
    assert raised["outcome"]["reason"] == "no harm so far: the challenger's share rises from 45 % to 50 %"
    assert status.phase.reason.endswith(" serves 50 % of the users")
    first, second = status.experiment.assessment.stages
    assert (first.share, second.share) == (0.45, 0.5)
    assert first.started_at < second.started_at
    assert (first.challenger_requests, second.challenger_requests) == (600, 300)
    seen = samples(registry)
    for number, one in (("1", first), ("2", second)):
        assert seen["ratchet_experiment_stage_share", number] == one.share
        assert seen["ratchet_experiment_stage_part", number] == one.part
        assert seen["ratchet_experiment_stage_requests", number, "champion"] == one.champion_requests
        assert seen["ratchet_experiment_stage_requests", number, "challenger"] == one.challenger_requests
        assert seen["ratchet_experiment_stage_users", number, "challenger"] == one.challenger_users == 100
        assert seen["ratchet_experiment_stage_lift", number, "lower"] == one.lower
    assert ("ratchet_experiment_next_share",) not in seen, "half of the users is the last stage"
    assert seen["ratchet_experiment_requests", "challenger"] == 900


async def test_the_watch_is_shown_with_its_control_until_that_is_released(tmp_path: Path) -> None:
    stage = world(tmp_path)
    registry = CollectorRegistry()
    async with stage.store() as store:
        loop = stage.start(store, metrics=LoopMetrics(registry, stage.clock))
        await stage.chat(store, users=200)
        await settle(loop)
        assert ("ratchet_watch_holdback_share",) not in samples(registry)
        await win(stage, store, loop)
        await stage.chat(store, users=200)
        await settle(loop)
        watch, seen = (await loop.status()).watch, samples(registry)
        assert (watch.concurrent, watch.holdback_share) == (True, 0.1)
        assert (watch.requests, watch.users, watch.control_requests, watch.control_users) == (540, 180, 60, 20)
        assert seen["ratchet_watch_holdback_share",] == 0.1
        assert (seen["ratchet_watch_requests", "champion"], seen["ratchet_watch_requests", "control"]) == (540, 60)
        assert (seen["ratchet_watch_users", "champion"], seen["ratchet_watch_users", "control"]) == (180, 20)
        assert sum(seen["ratchet_watch_guardrail", "errors", state] for state in ("pass", "unknown", "block")) == 1

        stage.probe.alive = False
        await settle(loop)
        stage.clock.advance(stage.rules.ready_timeout_s + 60)
        assert actions(await settle(loop)) == ["ReleaseControl"]
        status, seen = await loop.status(), samples(registry)
        watch = status.watch
    assert "gets all users" in status.phase.reason
    assert (watch.concurrent, watch.holdback_share, watch.control_requests) == (False, 0.0, None)
    assert seen["ratchet_watch_holdback_share",] == 0.0
    assert ("ratchet_watch_requests", "control") not in seen
    assert read_routes(stage.routes_path).control is None


async def test_a_watch_has_parts_and_the_model_that_turns_bad_in_the_last_is_sent_back(tmp_path: Path) -> None:
    stage = world(tmp_path)
    registry = CollectorRegistry()
    async with stage.store() as store:
        loop = stage.start(store, metrics=LoopMetrics(registry, stage.clock))
        await to_the_watch(stage, store, loop)
        first = read_routes(stage.routes_path)
        await stage.chat(store, users=200, each=6)
        stage.clock.advance(0.3 * stage.rules.ab_test.watch_hours * HOUR_S)
        assert actions(await settle(loop)) == ["RenewWatch"]
        second = read_routes(stage.routes_path)
        assert second.epoch > first.epoch
        assert replace(second, epoch=first.epoch, version=first.version) == first, "everybody stays where he is"

        await stage.chat(store, users=100, each=2)
        await settle(loop)
        watch, seen = (await loop.status()).watch, samples(registry)
        assert (watch.parts, watch.renews) == (2, False)
        assert (watch.requests, watch.users, watch.control_requests, watch.control_users) == (1260, 180, 140, 20)
        assert seen["ratchet_watch_parts",] == 2
        assert seen["ratchet_watch_requests", "champion"] == 1260
        [test] = await store.experiments.list(10)
        steps = await road_of(store, await loop.status(), stage.rules.ab_test, test.challenger_model_id, test)
        tested = next(step for step in steps if step.name == "Test")
        assert tested.sentence.endswith(f"Epoch {first.epoch - 1}."), "of the test, and of no part of the watch"

        await stage.chat(store, users=100, each=2, status={Arm.CHAMPION: 503})
        assert actions(await settle(loop)) == ["ReturnTraffic"]
        renewed = next(entry for entry in await history(store) if entry["action"] == "RenewWatch")
        ended = next(entry for entry in await history(store) if entry["action"] == "ReturnTraffic")
    assert (renewed["event"], renewed["outcome"]["epoch"]) == ("watch_renewed", second.epoch)
    assert renewed["outcome"]["reason"].startswith("part 2 of the watch begins: ")
    assert "harm is proven" in ended["outcome"]["reason"]
    assert read_routes(stage.routes_path).control is None


async def test_a_watch_without_its_first_parts_control_goes_on(tmp_path: Path) -> None:
    """The old champion dies in the second part: what it served in the first is no comparison any more."""
    stage = world(tmp_path)
    async with stage.store() as store:
        loop = stage.start(store)
        await to_the_watch(stage, store, loop)
        await stage.chat(store, users=200, each=6)
        stage.clock.advance(0.3 * stage.rules.ab_test.watch_hours * HOUR_S)
        assert actions(await settle(loop)) == ["RenewWatch"]
        stage.probe.alive = False
        await settle(loop)
        stage.clock.advance(stage.rules.ready_timeout_s + 60)
        assert actions(await settle(loop)) == ["ReleaseControl"]
        watch = (await loop.status()).watch
        assert (watch.parts, watch.concurrent, watch.requests, watch.control_requests) == (2, False, 1080, None)
        stage.clock.advance(stage.rules.ab_test.watch_hours * HOUR_S)
        assert actions(await settle(loop))[0] == "FinishWatch"


async def test_the_families_are_there_while_nothing_is_tested(tmp_path: Path) -> None:
    stage = world(tmp_path)
    registry = CollectorRegistry()
    async with stage.store() as store:
        await settle(stage.start(store, metrics=LoopMetrics(registry, stage.clock)))
    families = {family.name: family.samples for family in registry.collect()}
    mine = {name for name in families if name.startswith(("ratchet_experiment_stage_", "ratchet_watch_"))}
    assert mine >= {"ratchet_experiment_stage_share", "ratchet_watch_requests", "ratchet_watch_remaining_seconds"}
    assert all(families[name] == [] for name in mine), "what is unknown is absent, not 0"
