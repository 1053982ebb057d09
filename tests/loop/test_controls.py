"""Orders of people: done or refused in the next tick, and journalled with who and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry

from policies.records import Arm
from policies.triggers import TriggerConfig
from policies.vocabulary import VERDICTS
from proxy.errors import TemporaryError
from proxy.loop.look.explain import explain, history, replay
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import NotReady
from proxy.loop.tick import Loop
from proxy.store.store import Store
from proxy.store.tables.control import CommandState, JournalState
from tests.harness.loop import HOUR_S, World, actions, rules, settle


async def order(loop: Loop, store: Store, verb: str, **args: object) -> tuple[str, str | None]:
    """Give an order and let the loop come to rest; what became of it."""
    command_id = await loop.submit(verb, args, "ann", "I say so")
    await settle(loop)
    command = await store.commands.get(command_id)
    assert command is not None
    assert command.state is not CommandState.PENDING
    return command.state.value, command.detail


async def test_a_whole_life_by_hand(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(trigger=TriggerConfig(min_usable_samples=20), enable_auto_promotion=False))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert (await order(loop, store, "promote"))[0] == "refused"
        assert (await order(loop, store, "trigger", no_train=True))[0] == "done"
        assert world.trainer.runs == {}
        assert (await order(loop, store, "trigger"))[0] == "done"
        table = world.routes()
        assert table.share == 0.5
        state, detail = await order(loop, store, "trigger")
        assert (state, detail) == ("refused", "one retrain at a time: the phase is testing, not idle")
        assert (await order(loop, store, "share", share=0.2))[0] == "done"
        assert world.routes().share == 0.2
        assert world.routes().epoch > table.epoch
        assert world.routes().salt == table.salt  # raising or lowering the share moves nobody the wrong way
        assert (await order(loop, store, "promote"))[0] == "done"
        assert world.routes().champion == table.challenger
        assert (await order(loop, store, "rollback"))[0] == "done"
        assert world.routes().champion.name == "base"
        totals = (await loop.status()).totals
        assert (totals.promotions, totals.returns, totals.rollbacks) == (1, 1, {})
        people = [entry for entry in await history(store) if entry["who"] == "ann"]
        assert len(people) == 7
        assert all("I say so" in " ".join(entry["reasons"]) for entry in people)


async def test_a_challenger_sent_back_by_hand_is_counted_as_such(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        assert (await order(loop, store, "rollback"))[0] == "done"
        assert world.routes().challenger is None
        assert (await loop.status()).totals.rollbacks == {"manual": 1}
        experiment = (await store.experiments.list())[0]
        assert (experiment.verdict, experiment.share) == ("withdrawn", 0.0)
        assert VERDICTS["withdrawn"] == "Withdrawn by a person"  # and not by the evidence


async def test_a_cancelled_run_stops_and_keeps_its_cool_down(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deployer.ready_answer = NotReady(reason="loading")
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        assert world.deployer.serving
        assert (await order(loop, store, "cancel"))[0] == "done"
        assert world.deployer.serving == {}
        await world.chat(store, users=40)
        assert actions(await settle(loop)) == []
        assert (await loop.status()).triggers.hold is not None
        assert (await store.runs.list())[0].state == "cancelled"


async def test_a_paused_loop_starts_nothing_and_still_protects(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await order(loop, store, "pause")
        await world.chat(store, users=40)
        assert actions(await settle(loop)) == []
        status = await loop.status()
        assert status.phase.paused
        assert status.next.held.action == "PrepareData"
        await order(loop, store, "resume")
        assert world.routes().challenger is not None
        await order(loop, store, "pause")
        world.clock.advance(2 * HOUR_S)
        await world.chat(store, users=80, quality={Arm.CHAMPION: 0.8, Arm.CHALLENGER: 0.4})
        assert actions(await settle(loop)) == ["RollBack"]


async def test_an_order_that_cannot_be_done_now_is_refused_not_repeated(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.datasets.error = TemporaryError("No space left on device")
    async with world.store() as store:
        loop = world.start(store)
        assert await order(loop, store, "trigger") == ("refused", "No space left on device")
        failed = [entry for entry in await store.journal.recent() if entry.state is JournalState.FAILED]
        assert [entry.action for entry in failed] == ["PrepareData"]


async def test_every_decision_can_be_explained_and_decided_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        not_yet = world.clock.now()
        world.clock.advance(2 * HOUR_S)
        await world.chat(store, users=80, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.85})
        await settle(loop)

        entries = [entry for entry in await store.journal.recent(limit=100) if "snapshot" in entry.inputs]
        assert len(entries) > 8
        for entry in entries:
            again = replay(entry)
            assert type(again.action).__name__ == (entry.action if entry.action != "Hold" else "NoneType")
            assert list(again.reasons) == entry.inputs["reasons"]

        why_not = await explain(store, not_yet)
        assert why_not["action"] == "Hold"
        assert why_not["inputs"]["assessment"]["verdict"] == "continue"
        assert why_not["reasons"][0] == "No request has come yet, for either arm."
        promoted = next(entry for entry in await history(store) if entry["action"] == "Promote")
        assert promoted["event"] == "promoted"
        assert promoted["phase"] == {"from": "promoting", "to": "watching"}
        earlier = await history(store, limit=3, before=promoted["at"])
        assert len(earlier) == 3
        assert all(entry["at"] < promoted["at"] for entry in earlier)
        assert await store.experiments.looks(1)


async def test_only_one_of_two_controllers_acts_and_the_other_shows(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        registry = CollectorRegistry()
        first = world.start(store, holder="one")
        second = world.start(store, holder="two", metrics=LoopMetrics(registry, world.clock))
        await world.chat(store, users=40)
        await settle(first)
        published = world.routes()
        world.routes_path.unlink()
        tick = await second.tick()
        assert (tick.leader, tick.plan, tick.transition) == (False, None, None)
        assert world.routes() == published
        status = await second.status()
        assert not status.leader
        assert status.phase.name == "testing"
        told = {family.name for family in registry.collect()}
        assert told == {f"ratchet_loop_{name}"
                        for name in ("tick_failures", "seconds_since_tick", "overdue_seconds", "leader")}  # fmt: skip
        await order(first, store, "pause")
        assert (await second.status()).phase.paused is False, "it was asked a moment ago"
        await second.tick()
        assert (await second.status()).phase.paused is True, "but now it knows of a change"
        world.clock.advance(31.0)
        assert (await second.tick()).leader
        assert not (await first.tick()).leader


async def test_people_are_told_of_each_change_after_it_is_written(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
    told = [event["event"] for event in world.told.events]
    assert told == ["dataset_ready", "training_started", "trained", "deployment_started", "check_started", "deployed"]
    assert world.told.events[-1]["phase"] == "testing"
    assert world.told.events[-1]["phase_before"] == "checking"


async def test_new_settings_are_a_new_version_of_the_routes(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        await settle(world.start(store))
        version = world.routes().version
        world.base = replace(world.base, url="http://models/elsewhere")
        await settle(world.start(store))
        assert world.routes().champion.url == "http://models/elsewhere"
        assert world.routes().version == version + 1
