"""A deployment that failed: the model is kept, tried again by itself, and served by order, all without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.rows import ModelState
from policies.state import LoopState, LoopTotals
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.ports import DeployFailed, Handle, NotReady
from proxy.loop.tick import Loop
from proxy.store.store import Store
from proxy.store.tables.control import CommandState
from tests.harness.loop import HOUR_S, RecordingDeployer, World, actions, rules, settle


class Stubborn(RecordingDeployer):
    """Some of its models cannot be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.unstoppable: set[str] = set()
        self.refused = 0

    async def retire(self, handle: Handle) -> None:
        if handle["name"] in self.unstoppable:
            self.refused += 1
            raise PermanentError("HTTP 500")
        await super().retire(handle)


async def order(loop: Loop, store: Store, verb: str, **args: Any) -> tuple[CommandState, str]:
    command = await store.commands.submit(verb, who="ann", why="the GPU is back", args=args)
    await loop.tick()
    found = await store.commands.get(command.id)
    assert found is not None
    return found.state, found.detail or ""


async def state_of(loop: Loop) -> LoopState:
    state = await loop._journal.state()
    assert state is not None
    return state


async def failed_deployment(world: World, store: Store) -> Loop:
    """A run whose model never came up."""
    loop = world.start(store)
    await world.chat(store, users=40)
    world.deployer.ready_answer = DeployFailed(reason="exit status 1")
    assert actions(await settle(loop))[-1] == "AbandonModel"
    world.deployer.ready_answer = None
    return loop


async def test_the_model_of_a_failed_deployment_is_served_by_order_without_a_training(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await failed_deployment(world, store)
        [run], before = await store.runs.list(), await state_of(loop)
        model = await store.models.named(run.id.replace("run-", "model-"))
        assert model is not None
        assert (run.state, model.state, model.path) == ("failed", ModelState.FAILED, f"/models/{run.id}")
        world.clock.advance(HOUR_S)
        state, said = await order(loop, store, "deploy", run=run.id)
        assert (state, said) == (CommandState.DONE, f"{model.name} of {run.id} is deployed again: ann asked for "
                                 "`deploy` (the GPU is back)")  # fmt: skip
        assert actions(await settle(loop)) == ["StartCheck", "StartExperiment"]
        assert world.routes().challenger is not None
        after = await state_of(loop)
        assert len(world.trainer.runs) == len(world.datasets.built) == 1
        assert (after.ledger.totals, after.ledger.last, after.ledger.failures_in_a_row) == (
            before.ledger.totals, before.ledger.last, before.ledger.failures_in_a_row)  # fmt: skip
        entry = await store.journal.last("Redeploy")
        assert entry is not None
        assert (entry.who, entry.run_id, entry.outcome and entry.outcome["event"]) == ("ann", run.id, "redeployed")


async def test_a_deployment_by_order_that_fails_is_no_failed_retrain(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await failed_deployment(world, store)
        [run], before = await store.runs.list(), await state_of(loop)
        world.deployer.ready_answer = DeployFailed(reason="exit status 1")
        assert (await order(loop, store, "deploy", run=run.id))[0] is CommandState.DONE
        assert actions(await settle(loop)) == ["AbandonModel"]
        after = await state_of(loop)
        assert (after.ledger.totals, after.ledger.failures_in_a_row, after.ledger.last_failure_at) == (
            before.ledger.totals, before.ledger.failures_in_a_row, before.ledger.last_failure_at)  # fmt: skip
        assert (await store.runs.list())[0].state == "failed"
        world.deployer.ready_answer = None
        assert (await order(loop, store, "deploy", run=run.id))[0] is CommandState.DONE, "as often as it takes"
        assert actions(await settle(loop)) == ["StartCheck", "StartExperiment"]


async def test_what_was_sent_back_can_be_tested_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        [run] = await store.runs.list()
        assert (await order(loop, store, "rollback"))[0] is CommandState.DONE
        assert (await state_of(loop)).ledger.retiring, "its open answers may still end"
        assert (await order(loop, store, "deploy", run=run.id))[0] is CommandState.DONE
        await settle(loop)
        assert (await state_of(loop)).ledger.retiring == (), "and it is not stopped under its new users"
        world.clock.advance(31.0)
        await settle(loop)
        assert world.deployer.serving
        assert world.routes().challenger is not None


async def refusal(loop: Loop, store: Store, **args: Any) -> str:
    state, said = await order(loop, store, "deploy", **args)
    assert state is CommandState.REFUSED
    assert not [retry for retry in (await loop.status()).retries if retry.action == "Redeploy"], "not repeated"
    return said


async def test_an_order_that_cannot_be_carried_out_is_refused_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await failed_deployment(world, store)
        [run] = await store.runs.list()
        assert await refusal(loop, store, run="run-9") == "there is no run run-9"
        for nothing in ({}, {"run": ""}, {"run": True}):
            assert (await refusal(loop, store, **nothing)).startswith("run: name a run")
        world.deployer.missing_path = True
        assert f"model_path /models/{run.id} does not exist" in await refusal(loop, store, run=run.id)
        world.deployer.missing_path = False
        deploy, world.deployer.deploy = world.deployer.deploy, _away  # type: ignore[method-assign]
        assert await refusal(loop, store, run=run.id) == "connection refused"
        world.deployer.deploy = deploy  # type: ignore[method-assign]
        world.datasets.samples = 5
        await order(loop, store, "trigger")
        too_small = (await store.runs.list())[0].id
        assert too_small != run.id
        assert await refusal(loop, store, run=too_small) == f"{too_small} has returned no model: it is too small"
        await order(loop, store, "deploy", run=run.id)
        assert await refusal(loop, store, run=run.id) == "one challenger at a time: the phase is deploying, not idle"
        await settle(loop)
        await order(loop, store, "promote")
        await settle(loop)
        await world.chat(store, users=40)
        world.clock.advance(2.1 * HOUR_S)
        await settle(loop)
        assert (await refusal(loop, store, run=run.id)).endswith("is the champion already")


async def _away(*_: Any) -> Handle:
    raise TemporaryError("connection refused")


@pytest.mark.parametrize("late", [False, True])
async def test_what_may_pass_is_tried_again_by_itself(tmp_path: Path, late: bool) -> None:
    world = World(tmp_path, rules=rules(deployment_retries=2))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        world.deployer.ready_answer = NotReady(reason="loading") if late else DeployFailed(reason="-9", may_pass=True)
        done, waits = actions(await settle(loop)), []
        while done[-1] != "AbandonModel":
            if done[-1] == "StartDeployment":
                assert late
                world.clock.advance(601.0)
            else:
                assert done[-1] == "RestartDeployment"
                assert not world.deployer.serving
                [retry] = (await loop.status()).retries
                waits.append(round(retry.at - world.clock.now()))
                world.clock.advance(retry.at - world.clock.now() + 0.1)
            done += actions(await settle(loop))
        assert waits == [5, 10]
        assert done.count("StartDeployment") == 3
        assert (await state_of(loop)).ledger.totals == LoopTotals(runs=1, retrains=1, failed_retrains=1)
        world.deployer.ready_answer = None
        [run] = await store.runs.list()
        assert (await order(loop, store, "deploy", run=run.id))[0] is CommandState.DONE
        assert actions(await settle(loop)) == ["StartCheck", "StartExperiment"]


async def test_what_comes_up_at_the_second_attempt_is_tested(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(deployment_retries=1))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        world.deployer.ready_answer = DeployFailed(reason="no memory", may_pass=True)
        assert actions(await settle(loop))[-1] == "RestartDeployment"
        world.deployer.ready_answer = None
        world.clock.advance(5.1)
        assert actions(await settle(loop)) == ["StartDeployment", "StartCheck", "StartExperiment"]
        assert (await state_of(loop)).ledger.totals.failed_retrains == 0


@pytest.mark.parametrize("how", ["abandoned", "cancelled"])
async def test_a_model_that_cannot_be_stopped_does_not_keep_the_loop_in_its_phase(tmp_path: Path, how: str) -> None:
    world = World(tmp_path)
    world.deployer = deployer = Stubborn()
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        deployer.ready_answer = NotReady(reason="loading")
        await settle(loop)
        [name] = deployer.serving.values()
        deployer.unstoppable.add(name)
        if how == "abandoned":
            world.clock.advance(601.0)
            await settle(loop)
        else:
            assert (await order(loop, store, "cancel"))[0] is CommandState.DONE
            await settle(loop)
        status = await loop.status()
        assert status.phase.name == "idle"
        assert [retry.about for retry in status.retries] == [name]
        deployer.unstoppable.clear()
        world.clock.advance(11.0)
        assert actions(await settle(loop)) == ["Retire"]
        assert deployer.serving == {}
        assert (await store.models.named(name)).state is ModelState.FAILED  # type: ignore[union-attr]


async def test_what_could_not_be_stopped_is_before_it_is_deployed_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deployer = deployer = Stubborn()
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        deployer.ready_answer = NotReady(reason="loading")
        await settle(loop)
        [name] = deployer.serving.values()
        deployer.unstoppable.add(name)
        world.clock.advance(601.0)
        await settle(loop)
        [run] = await store.runs.list()
        state, said = await order(loop, store, "deploy", run=run.id)
        assert (state, said) == (CommandState.REFUSED, "HTTP 500")
        deployer.unstoppable.clear()
        deployer.ready_answer = None
        assert (await order(loop, store, "deploy", run=run.id))[0] is CommandState.DONE
        assert deployer.ever == [name, name]
        assert (await state_of(loop)).all_retries == ()


async def test_the_first_of_three_that_cannot_be_stopped_keeps_no_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deployer = deployer = Stubborn()
    async with world.store() as store:
        loop = world.start(store)
        await settle(loop)
        names = await _sent_back(world, store, loop, 3)
        assert sorted(deployer.serving.values()) == sorted(names)
        deployer.unstoppable.add(names[0])
        for _ in range(10):
            world.clock.advance(5 * HOUR_S)
            await loop.tick()
        assert list(deployer.serving.values()) == [names[0]]
        assert deployer.refused > 5, "and it is tried on and on"
        [retry] = (await loop.status()).retries
        assert (retry.action, retry.about) == ("Retire", names[0])


async def _sent_back(world: World, store: Store, loop: Loop, count: int) -> list[str]:
    """Models that have served and are due to be stopped, all at once."""
    from dataclasses import replace

    from policies.state import Retiring
    from proxy.loop.codec import to_json
    from proxy.store.tables.control import LoopTransaction

    names, due = [], []
    for number in range(count):
        model = await store.models.add(f"old-{number}", url=f"http://models/old-{number}")
        handle = await world.deployer.deploy(model.id, model.name, None, {})
        lease = await store.leases.get("loop")
        assert lease is not None
        ready = replace(model, state=ModelState.READY, detail={"handle": handle})
        due.append(Retiring(id=model.id, name=model.name, due_at=world.clock.now() + 60.0))
        state = await state_of(loop)
        state = replace(state, ledger=replace(state.ledger, retiring=tuple(due)))
        await store.journal.transition(
            LoopTransaction(fence=lease.fence, models=(ready,), state={"loop": to_json(state)})
        )
        names.append(model.name)
    return names
