"""What goes wrong outside ends in a stated phase with a stated reason."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from policies.lifecycle import Phase
from policies.records import Arm
from policies.triggers import TriggerConfig
from proxy.errors import PermanentError, TemporaryError
from proxy.loop.ports import DeployFailed, Failed, NotReady, Running
from proxy.loop.tick import Loop
from proxy.routes import write_routes
from proxy.store.store import Store
from proxy.store.tables.control import LoopTransaction
from tests.harness.loop import HOUR_S, World, actions, rules, settle


async def until_training(world: World, store: Store) -> Loop:
    """A loop whose trainer has taken a run and is at work."""
    world.trainer.outcome = Running(progress=0.25, message="epoch 1 of 4")
    loop = world.start(store)
    await settle(loop)
    await world.chat(store, users=40)
    assert actions(await settle(loop)) == ["PrepareData", "StartTraining"]
    return loop


async def until_testing(world: World, store: Store) -> Loop:
    loop = world.start(store)
    await settle(loop)
    await world.chat(store, users=40)
    await settle(loop)
    assert (await loop.status()).phase.name == Phase.TESTING
    return loop


async def phase_of(loop: Loop) -> tuple[str, str]:
    phase = (await loop.status()).phase
    return phase.name, phase.reason


async def test_nothing_fires_on_an_empty_history(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = world.start(store)
        for _ in range(30):
            assert actions(await settle(loop)) == []
            world.clock.advance(24 * HOUR_S)
        assert await phase_of(loop) == ("idle", "installed")


async def test_too_few_usable_samples_hold_without_a_cool_down(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.datasets.samples = 10
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop)) == ["PrepareData"]
        status = await loop.status()
        assert status.phase.name == "idle"
        assert status.last_retrain_at is None
        assert (await store.runs.list())[0].state == "too_small"
        world.datasets.samples = 150
        world.clock.advance(1.1 * HOUR_S)
        await world.chat(store, users=40)
        assert actions(await settle(loop))[:2] == ["PrepareData", "StartTraining"]


async def test_a_model_that_is_always_wrong_learns_from_those_who_correct_it(tmp_path: Path) -> None:
    triggers = TriggerConfig(enable_sample_count=False, schedule_interval_hours=1.0, min_usable_samples=20)
    world = World(tmp_path, rules=rules(trigger=triggers))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40, each=1, quality={Arm.CHAMPION: 0.1})
        world.clock.advance(2 * HOUR_S)
        assert actions(await settle(loop)) == []
        assert "0 usable samples" in (await loop.status()).triggers.hold
        names = [view.row.id async for view in store.records.iter()]
        await world.correct(store, names[:30], "what it should have said")
        world.clock.advance(2 * HOUR_S)
        assert actions(await settle(loop))[:2] == ["PrepareData", "StartTraining"]


async def test_a_training_that_fails_keeps_its_data_and_backs_off(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_training(world, store)
        assert (await loop.status()).run.progress == 0.25
        world.trainer.outcome = Failed(reason="the training returned an empty result; it needs a model_path")
        assert actions(await settle(loop)) == ["FailRun"]
        run = (await store.runs.list())[0]
        assert await phase_of(loop) == ("idle", f"{run.id} failed: {world.trainer.outcome.reason}")
        assert (tmp_path / "training" / run.id / "data.jsonl").exists()
        world.trainer.outcome = None
        assert actions(await settle(loop)) == []
        world.clock.advance(1.1 * HOUR_S)
        assert actions(await settle(loop))[:2] == ["PrepareData", "StartTraining"]


async def test_a_training_may_fail_with_words_that_no_file_can_hold(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_training(world, store)
        world.trainer.outcome = Failed(reason="cannot read 'caf\udce9'", kept="it raised OSError")
        assert actions(await settle(loop)) == ["FailRun"]
        run = (await store.runs.list())[0]
        assert (tmp_path / "training" / run.id / "failure.txt").read_text() == "cannot read 'caf?'\n"


async def test_a_training_that_the_trainer_forgot_is_lost_after_a_restart(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        await until_training(world, store)
        world.trainer.knows = False
        loop = world.start(store)
        assert actions(await settle(loop)) == ["FailRun"]
        assert "no longer knows the run" in (await phase_of(loop))[1]


async def test_a_training_that_never_ends_times_out_and_is_cancelled(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_training(world, store)
        world.clock.advance(25 * HOUR_S)
        assert actions(await settle(loop)) == ["FailRun"]
        assert world.trainer.calls["cancel"] == 1
        assert "trainer.timeout_seconds" in (await phase_of(loop))[1]


async def test_a_trainer_that_cannot_be_reached_is_tried_again_and_given_up(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.trainer.errors = [TemporaryError("connection refused", retry_after_s=10.0)] * 5
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop)) == ["PrepareData", "StartTraining"]
        waits = []
        done: list[str] = []
        while "FailRun" not in done:
            if done:
                assert set(done) == {"StartTraining"}
            retries = (await loop.status()).retries
            waits.append(retries[0].at - world.clock.now())
            world.clock.advance(waits[-1] + 0.1)
            done = actions(await settle(loop))
        assert [round(wait) for wait in waits] == [10, 20, 40, 80]
        assert "connection refused" in (await phase_of(loop))[1]


async def test_a_model_path_that_does_not_exist_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deployer.missing_path = True
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop))[-1] == "StartDeployment"
        phase, reason = await phase_of(loop)
        assert phase == "idle"
        assert "does not exist" in reason
        assert world.routes().challenger is None


@pytest.mark.parametrize("answer", [NotReady(reason="HTTP 503"), DeployFailed(reason="exit status 1")])
async def test_a_challenger_that_never_becomes_healthy_gets_no_user(tmp_path: Path, answer: object) -> None:
    world = World(tmp_path)
    world.deployer.ready_answer = answer  # type: ignore[assignment]
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        done = actions(await settle(loop))
        world.clock.advance(700.0)
        done += actions(await settle(loop))
        assert done[-1] == "AbandonModel"
        phase, reason = await phase_of(loop)
        assert phase == "idle"
        assert ("HTTP 503" in reason) or ("exit status 1" in reason)
        assert world.deployer.serving == {}
        assert world.routes().challenger is None


async def test_a_challenger_that_dies_is_rolled_back_and_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
        table = world.routes()
        assert table.challenger is not None
        world.deployer.dead.add(table.challenger.name)
        assert actions(await settle(loop)) == []
        world.clock.advance(700.0)
        assert actions(await settle(loop)) == ["RollBack"]
        assert world.routes().challenger is None
        assert world.routes().version > table.version
        assert world.deployer.serving  # open answers may still end
        world.clock.advance(31.0)
        assert actions(await settle(loop)) == ["Retire"]
        assert world.deployer.serving == {}


async def test_traffic_stays_where_it_is_when_the_old_champion_is_dead(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
        world.clock.advance(2 * HOUR_S)
        await world.chat(store, users=80, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.85})
        assert actions(await settle(loop)) == ["BeginPromotion", "Promote"]
        world.probe.alive = False
        await world.chat(store, users=80, status={Arm.CHAMPION: 500})
        assert actions(await settle(loop)) == []
        assert "stays where it is" in " ".join((await loop.status()).next.reasons)
        world.clock.advance(2.1 * HOUR_S)
        assert actions(await settle(loop)) == ["ReleaseControl", "HaltWatch"]
        assert world.routes().champion.name != "base"


async def test_a_clock_that_jumps_is_noted_and_fires_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
        for jump in (-400 * 24 * HOUR_S, 400 * 24 * HOUR_S):
            world.clock.jump(jump)
            assert actions(await settle(loop)) == []
            status = await loop.status()
            assert status.phase.name == "testing"
            assert "the clock jumped by" in status.notes[0]
        world.clock.jump(-HOUR_S)
        await world.chat(store, users=80, quality={Arm.CHAMPION: 0.8, Arm.CHALLENGER: 0.4})
        assert actions(await settle(loop)) == ["RollBack"]  # harm counts, whatever the clock says


async def test_a_database_restored_from_yesterday_decides_and_routes_still_grow(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
    shutil.copy(tmp_path / "ratchet.db", tmp_path / "backup.db")
    async with world.store() as store:
        loop = world.start(store)
        await store.commands.submit("rollback", who="ann", why="no")
        assert actions(await settle(loop)) == ["RollBack"]
        world.clock.advance(31.0)
        assert actions(await settle(loop)) == ["Retire"]
    table = world.routes()
    for name in ("ratchet.db-wal", "ratchet.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.db", tmp_path / "ratchet.db")
    async with world.store() as store:
        loop = world.start(store)
        assert actions(await settle(loop)) == []
        restored = world.routes()
        assert restored.version > table.version
        assert restored.challenger is not None  # the database says: testing …
        world.clock.advance(700.0)
        assert actions(await settle(loop)) == ["RollBack"]  # … but the challenger was stopped meanwhile
        assert "has not answered" in (await phase_of(loop))[1]
        installed = await store.journal.last("Install")
        assert installed is not None
        assert "newer than the database" in installed.why


async def test_rows_that_are_gone_lead_back_to_idle(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
        lease = await store.leases.get("loop")
        assert lease is not None
        state = await store.state.get("loop")
        broken = {"loop": {**state, "phase": {**state["phase"], "experiment_id": 99}}}
        await store.journal.transition(LoopTransaction(fence=lease.fence, state=broken))
        assert actions(await settle(loop)) == ["Recover"]
        assert (await phase_of(loop))[0] == "idle"
        assert world.routes().challenger is None


async def test_an_unreadable_route_table_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.store() as store:
        loop = await until_testing(world, store)
        table = world.routes()
        world.routes_path.write_text("{ half")
        await settle(loop)
        assert world.routes() == table
        write_routes(world.routes_path, replace(table, version=table.version + 5, share=0.9))
        await settle(loop)
        assert world.routes().share == table.share
        assert world.routes().version > table.version + 5


async def test_a_dataset_that_cannot_be_written_is_a_failed_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.datasets.error = PermanentError("rehearsal_buffer.jsonl does not exist")
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop)) == ["PrepareData"]
        assert (await store.runs.list())[0].error == "rehearsal_buffer.jsonl does not exist"
        assert (await loop.status()).totals.failed_retrains == 1


async def test_a_promotion_without_a_test_is_watched_and_finished(tmp_path: Path) -> None:
    world = World(tmp_path, rules=rules(enable_ab_testing=False))
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        assert actions(await settle(loop))[-2:] == ["BeginPromotion", "Promote"]
        await world.chat(store, users=40)
        world.clock.advance(2.1 * HOUR_S)
        assert actions(await settle(loop)) == ["FinishWatch"]
