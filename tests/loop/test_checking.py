"""Between a deployment and a test: the gate's word, a person's, copies of live requests, a challenger of one's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.actions import CancelRun
from policies.experiment import ABTestConfig
from policies.rows import CheckKind, ModelState
from policies.snapshot import CheckView
from proxy.loop.ports import NotReady
from proxy.loop.tick import Loop
from proxy.store.store import Store
from proxy.store.tables.control import CommandState
from tests.harness.loop import World, actions, rules, settle

WORSE = CheckView(id=0, done=True, verdict="reject", reasons=("31 of 200 answers are empty",))
RUNNING = CheckView(id=0, reasons=("12 of 200 answers are compared",), progress=0.06)
HELD = CheckView(id=0, done=True, verdict="hold", reasons=("the judge did not answer",))
SHADOWED = ABTestConfig(initial_challenger_traffic=0.5, shadow_share=0.25, shadow_hours=1.0)


async def order(loop: Loop, store: Store, verb: str, **args: Any) -> tuple[CommandState, str]:
    command = await store.commands.submit(verb, who="ann", why="for the test", args=args)
    await loop.tick()
    found = await store.commands.get(command.id)
    assert found is not None
    return found.state, found.detail or ""


async def test_what_the_gate_rejects_gets_no_user_and_frees_the_slot(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.gate.says = WORSE
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop))[-2:] == ["StartCheck", "FailCheck"]
        status = await loop.status()
        assert (status.phase.name, status.totals and status.totals.rejections) == ("idle", 1)
        assert world.routes().challenger is None
        assert not world.deployer.serving, "its server is stopped at once: no answer of it is open"
        [run] = await store.runs.list()
        [check] = await store.checks.list()
        assert (run.state, check.verdict, check.kind) == ("reject", "reject", CheckKind.GATE)
        assert await store.experiments.list() == []
        assert [event["reason"] for event in world.told.events if event["event"] == "check_rejected"] == [
            f"{world.deployer.ever[0]} was rejected before any user saw it: {WORSE.reasons[0]}"
        ]


async def test_while_it_is_checked_nobody_gets_the_challenger_and_status_says_how_far_it_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.gate.says = RUNNING
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        status = await loop.status()
        assert status.phase.name == "checking"
        assert status.check is not None
        assert (status.check.progress, status.next and status.next.reasons) == (0.06, RUNNING.reasons)
        assert world.routes().challenger is None
        loop = world.start(store)  # as after a crash: the same check goes on
        await settle(loop)
        assert set(world.gate.asked) == {1}
        world.gate.says = replace(RUNNING, done=True, verdict="pass")
        assert actions(await settle(loop)) == ["StartExperiment"]
        [check] = await store.checks.list()
        assert check.ended_us is not None


@pytest.mark.parametrize(("verb", "phase"), [("proceed", "testing"), ("cancel", "idle")])
async def test_a_check_that_holds_asks_a_person_and_does_as_it_is_told(tmp_path: Path, verb: str, phase: str) -> None:
    world = World(tmp_path)
    world.gate.says = HELD
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        assert [event["event"] for event in world.told.events].count("check_hold") == 1
        assert (await order(loop, store, verb))[0] is CommandState.DONE
        assert world.gate.cancelled == [1]
        await loop.look()
        assert (await loop.status()).phase.name == phase
        assert (world.routes().challenger is not None) == (verb == "proceed")


async def test_a_model_that_answers_no_recorded_request_is_deployed_again_and_then_given_up(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(deployment_retries=1))
    world.gate.says = CheckView(id=0, answers=False, may_pass=True, reasons=("it answered none of 3 requests",))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop))[-2:] == ["StartCheck", "RestartDeployment"]
        world.clock.advance(6.0)
        assert actions(await settle(loop)) == ["StartDeployment", "StartCheck", "AbandonModel"]
        assert [check.verdict for check in await store.checks.list()] == ["no_answer", "no_answer"]
        assert (await store.runs.list())[0].state == "failed"


async def test_copies_go_to_a_challenger_that_passed_and_users_only_when_its_hours_are_over(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(ab_test=SHADOWED))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        world.gate.says = replace(world.gate.says, done=True)
        assert actions(await settle(loop))[-2:] == ["StartCheck", "StartShadow"]
        gate, shadow = sorted(await store.checks.list(), key=lambda check: check.id)
        assert (gate.verdict, shadow.kind, shadow.verdict) == ("pass", CheckKind.SHADOW, None)
        table = world.routes()
        assert (table.challenger, table.shadow_share, table.check_id) == (None, 0.25, shadow.id)
        assert table.shadow is not None
        world.clock.advance(3601.0)
        assert actions(await settle(loop)) == ["StartExperiment"]
        table = world.routes()
        assert (table.shadow, table.shadow_share, table.check_id) == (None, 0.0, None)
        assert table.challenger is not None


async def test_a_shadow_that_finds_harm_sends_the_challenger_back_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(ab_test=SHADOWED))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        world.gate.says = replace(WORSE, done=False)
        assert actions(await settle(loop)) == ["FailCheck"]
        assert world.routes().shadow is None


async def test_a_challenger_is_brought_without_a_training(tmp_path: Path) -> None:
    world = World(tmp_path)
    rewrite = {"system": {"prepend": "Be brief."}}
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        asked = {"url": "http://models/mine", "name": "mine", "credential": "mine", "rewrite": json.dumps(rewrite)}
        assert (await order(loop, store, "challenge", **asked))[0] is CommandState.DONE
        assert actions(await settle(loop)) == ["StartCheck", "StartExperiment"]
        model = await store.models.named("mine")
        assert model is not None
        assert (model.state, model.credential, model.rewrite) == (ModelState.CHALLENGER, "mine", rewrite)
        challenger = world.routes().challenger
        assert challenger is not None
        assert challenger.rewrite == rewrite
        assert await store.runs.list() == []
        assert (await order(loop, store, "rollback"))[0] is CommandState.DONE
        world.clock.advance(1.0)
        state, said = await order(loop, store, "challenge", url="http://models/other", name="mine")
        assert (state, said) == (
            CommandState.REFUSED, "name: there is a model mine already; give the challenger another one")  # fmt: skip


async def test_a_brought_challenger_that_never_comes_up_can_be_cancelled_while_it_is_deployed(tmp_path: Path) -> None:
    """No run is behind it, and status says so between the order and what is done about it."""
    world = World(tmp_path)
    world.deployer.ready_answer = NotReady(reason="nobody answers there")
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        assert (await order(loop, store, "challenge", url="http://models/mine", name="mine"))[0] is CommandState.DONE
        await loop.tick()
        command = await store.commands.submit("cancel", who="ann", why="a typo", args={})
        seen = await loop.look()
        assert seen.plan is not None
        assert isinstance(seen.plan.action, CancelRun)
        await loop.tick()
        found = await store.commands.get(command.id)
        assert found is not None
        assert found.state is CommandState.DONE


async def test_the_champion_asked_otherwise_is_a_challenger_at_its_own_address(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        await order(loop, store, "challenge", rewrite='{"parameters": {"temperature": 0}}')
        [model] = await store.models.list((ModelState.DEPLOYING,))
        assert model.detail["result"] == {"url": world.base.url}


async def test_a_paused_loop_asks_the_challenger_nothing_and_sends_it_no_copies(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(ab_test=SHADOWED))
    world.gate.says = RUNNING
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        assert world.gate.paused is False
        await order(loop, store, "pause")
        await loop.tick()
        assert world.gate.paused is True
        assert (await loop.status()).phase.name == "checking"
        await order(loop, store, "resume")
        world.gate.says = replace(RUNNING, done=True, verdict="pass")
        assert actions(await settle(loop)) == ["StartShadow"]
        assert world.routes().shadow is not None
        world.clock.advance(1200.0)
        await order(loop, store, "pause")
        version, table = world.routes().version, world.routes()
        assert (table.shadow, table.shadow_share, table.check_id) == (None, 0.0, None)
        world.clock.advance(100_000.0)
        await settle(loop)
        assert world.routes().version == version, "nothing is written anew at each look"
        assert (await loop.status()).phase.name == "shadowing"
        await order(loop, store, "resume")
        await loop.tick()
        assert world.routes().shadow is not None, "of its hour 40 minutes are left"
        world.clock.advance(2401.0)
        assert actions(await settle(loop)) == ["StartExperiment"]
