"""Around the decisions: running and sleeping, the lease, upkeep, webhooks, probes, metrics."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from policies.estimates import PRODUCT_PAIRS
from policies.experiment import ABTestConfig
from policies.promotion import WatchDecision, WatchFacts, watch
from policies.records import Arm
from policies.state import Ledger, LoopState, Watching
from policies.triggers import TriggerConfig
from proxy.clock import SystemClock
from proxy.config import parse_config
from proxy.loop.act.leadership import LEASE, Leadership
from proxy.loop.adapters.messages import NotifyTarget
from proxy.loop.adapters.notify import WebhookNotifier
from proxy.loop.adapters.probe import HttpProbe
from proxy.loop.adapters.processes import identify
from proxy.loop.codec import to_json
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import Endpoint, Handle
from proxy.loop.service import open_loop, service_rules
from proxy.loop.state import DETECTOR_ENTRY, state_from_json
from proxy.store.store import Store
from proxy.tasks import spawn
from tests.harness.arms import arm_stats
from tests.harness.loop import HOUR_S, RecordingDeployer, World, rules, settle
from tests.harness.tables import sqlite_with_tables


class Receiver:
    """A real HTTP server: `posts` collects what /hook is sent; of `answers` (statuses) the last one stays."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.answers = [200]
        self.arrived = asyncio.Event()
        self.url = ""

    async def hook(self, request: web.Request) -> web.Response:
        self.posts.append(await request.json())
        self.arrived.set()
        return web.Response(status=self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    async def root(self, request: web.Request) -> web.Response:
        return web.Response(status=self.answers[0])

    async def got(self, n: int) -> None:
        async with asyncio.timeout(120):
            while len(self.posts) < n:
                await self.arrived.wait()
                self.arrived.clear()


@pytest.fixture
async def server() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", receiver.hook), web.get("/", receiver.root)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


# -------------------------------------------------------------------------------------------- running


async def test_the_service_runs_from_its_configuration_and_a_poke_wakes_it(tmp_path: Path) -> None:
    config = parse_config({"server": {"data_dir": str(tmp_path)}, "champion": {"url": "http://127.0.0.1:9"}})
    registry, clock, stop = CollectorRegistry(), SystemClock(), asyncio.Event()
    store = await Store.open(sqlite_with_tables(tmp_path / "ratchet.db"), clock=clock)
    try:
        async with open_loop(config, store, clock, metrics=LoopMetrics(registry, clock)) as loop:
            running = spawn(loop.run(stop), name="loop under test")
            command_id = await loop.submit("pause", {}, "ann", "maintenance")
            async with asyncio.timeout(120):
                while not (await loop.status()).phase.paused:
                    await asyncio.sleep(0.05)
            command = await store.commands.get(command_id)
            assert command is not None
            assert command.state.value == "done"
            stop.set()
            await running
        text = generate_latest(registry).decode()
        assert "ratchet_loop_paused 1.0" in text
        lease = await store.leases.get(LEASE)
        assert lease is not None
        assert lease.expires_us == 0  # given back
        assert (tmp_path / "routes.json").exists()
    finally:
        await store.close()


async def test_a_tick_that_fails_is_counted_and_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    registry = CollectorRegistry()
    path = tmp_path / "ratchet.db"
    store = await Store.open(f"sqlite:///{path}", clock=world.clock, busy_timeout_s=0.05)
    stop, running = asyncio.Event(), None
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # another process is writing, and does not end
            loop = world.start(store, metrics=LoopMetrics(registry, world.clock))
            running = spawn(loop.run(stop), name="loop under test")
            async with asyncio.timeout(120):
                while "ratchet_loop_tick_failures_total 1.0" not in generate_latest(registry).decode():
                    await asyncio.sleep(0.02)
            other.execute("ROLLBACK")
        loop.poke()
        async with asyncio.timeout(120):
            while "ratchet_loop_leader 1.0" not in generate_latest(registry).decode():
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        if running is not None:
            await running
        await store.close()


@pytest.mark.parametrize("status", [404, 503])
async def test_a_challenger_that_answers_nobody_is_gone_at_the_next_look_and_not_at_the_next_tick(
    tmp_path: Path, status: int
) -> None:
    """The clock stands still, so that no tick is ever due; between two of them the loop looks."""
    world = World(tmp_path)
    async with world.store() as store:
        registry = CollectorRegistry()
        await settle(world.start(store))
        await world.chat(store, users=60)
        await settle(world.start(store))
        assert world.routes().challenger is not None
        loop, stop = world.start(store, lease_s=6.0, metrics=LoopMetrics(registry, world.clock)), asyncio.Event()
        running = spawn(loop.run(stop), name="loop under test")
        async with asyncio.timeout(120):
            while "ratchet_loop_leader 1.0" not in generate_latest(registry).decode():
                await asyncio.sleep(0.02)  # its first tick sees nothing wrong
        await world.chat(store, users=18, each=1, status={Arm.CHALLENGER: status})
        async with asyncio.timeout(120):
            while world.routes().challenger is not None:
                await asyncio.sleep(0.02)
        stop.set()
        await running
    rolled_back = next(event for event in world.told.events if event["event"] == "rolled_back")
    what = "errors" if status == 503 else "refused requests"
    assert f"was withdrawn: Guardrail {what}: 100 % against 0 %" in rolled_back["reason"]


def test_a_promotion_that_an_older_version_began_to_watch_is_watched_on() -> None:
    """The old champion's frozen sums know no refusals: of these nothing follows, of all else as much as before."""
    watching = Watching(previous_id=1, experiment_id=1, promoted_at=0.0, before=arm_stats(Arm.CHAMPION, 600))
    state = LoopState(phase=watching, since=0.0, ledger=Ledger(installed_at=0.0, champion_id=2))
    kept = to_json(state)
    moments = kept["phase"]["before"]["moments"]
    there = dict(zip(PRODUCT_PAIRS, moments["products"], strict=True))
    products = [there.get((row, column), 0.0) for row in range(12) for column in range(row, 12)]
    kept["phase"]["before"]["moments"] = {**moments, "sums": moments["sums"][:12], "products": products}
    before = state_from_json(json.loads(json.dumps(kept))).phase.before  # type: ignore[union-attr]
    seen = {}
    for what in ("errors", "refused"):
        worse = arm_stats(Arm.CHAMPION, 600, **{what: (1.0, 0.0)})  # type: ignore[arg-type]
        facts = WatchFacts(promoted_at=0.0, before=before, after=worse, old_champion_healthy=True)
        seen[what] = watch(facts, ABTestConfig(), HOUR_S)
    assert seen["errors"].decision is WatchDecision.RETURN
    assert seen["refused"].decision is WatchDecision.KEEP
    unknown = next(one for one in seen["refused"].guardrails if one.name == "refused")
    assert unknown.reason == "no data for the champion yet"


def test_service_rules_follow_the_configuration() -> None:
    config = parse_config(
        {
            "champion": {"url": "http://127.0.0.1:9"},
            "trainer": {"kind": "command", "command": ["train"], "timeout_seconds": 60, "poll_seconds": 2},
            "deployer": {"ready_timeout_seconds": 30},
            "enable_ab_testing": False,
            "trigger_config": {"min_new_samples": 5},
        }
    )
    seen = service_rules(config)
    assert (seen.trains, seen.training_timeout_s, seen.poll_s, seen.ready_timeout_s) == (True, 60, 2, 30)
    assert not seen.enable_ab_testing
    assert seen.trigger.min_new_samples == 5


# ---------------------------------------------------------------------------------------------- lease


async def test_the_lease_of_a_dead_process_is_taken_over_at_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    dead = identify(child.pid)
    child.communicate(b"\n")
    async with world.store() as store:
        here = os.readlink("/proc/self/ns/pid")
        for holder, pids, taken in ((identify(os.getpid()), here, False), (dead, "pid:[1]", False), (dead, here, True)):
            detail = {**holder.as_json(), "pids": pids}
            held = await store.leases.acquire(LEASE, "other", ttl_s=30.0, detail=detail)
            assert held is not None
            lease = await Leadership(store).acquire()
            assert (lease is not None) == taken
        assert lease is not None
        assert lease.fence > held.fence


async def test_a_leader_that_can_not_renew_knows_before_it_is_told(tmp_path: Path) -> None:
    async with World(tmp_path).store() as store:
        leadership = Leadership(store, ttl_s=1.0)
        first = await leadership.acquire()
        async with asyncio.timeout(120):
            while leadership.leads:
                await asyncio.sleep(0.01)
        assert leadership.lapsed
        second = await leadership.acquire()
        assert first is not None
        assert second is not None
        assert second.fence == first.fence, "the store's clock stands still: nobody could have taken it"


# --------------------------------------------------------------------------------------------- upkeep


class MovingDeployer(RecordingDeployer):
    """Its servers come back on another port after a restart."""

    port = 1

    async def ensure(self, handle: Handle) -> Handle:
        return {**handle, "port": self.port}

    async def ready(self, handle: Handle) -> Endpoint:
        return Endpoint(url=f"http://models:{handle.get('port', 0)}")


async def test_a_model_server_that_came_back_elsewhere_gets_its_traffic(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.deployer = MovingDeployer()
    async with world.store() as store:
        loop = world.start(store)
        await world.chat(store, users=40)
        await settle(loop)
        table = world.routes()
        assert table.challenger is not None
        assert table.challenger.url == "http://models:1"
        world.deployer.port = 2
        await settle(loop)
        moved = world.routes()
        assert moved.challenger is not None
        assert moved.challenger.url == "http://models:2"
        assert moved.version > table.version
        assert moved.epoch == table.epoch


async def test_the_baseline_is_frozen_and_a_drop_in_quality_triggers(tmp_path: Path) -> None:
    triggers = TriggerConfig(enable_sample_count=False, enable_scheduled=False, min_usable_samples=20)
    world = World(tmp_path, rules=rules(trigger=triggers))
    async with world.store() as store:
        loop = world.start(store)
        for _ in range(12 * 4):
            await world.chat(store, users=10, each=1)
            world.clock.advance(6 * HOUR_S)
        assert await settle(loop) == []
        facts = (await loop.status()).triggers.facts
        assert facts.quality_baseline == pytest.approx(0.8, abs=0.02)
        started = []
        for _ in range(60):
            await world.chat(store, users=30, each=1, quality={Arm.CHAMPION: 0.5})
            world.clock.advance(HOUR_S)
            started = await settle(loop)
            if started:
                break
        assert started[0].plan is not None
        assert started[0].plan.reasons[0].startswith("a retrain is due: Quality ")
        assert (await store.state.get(DETECTOR_ENTRY))["detector"]["hours"] > 0


# ---------------------------------------------------------------------------------- webhooks and probes


async def test_a_webhook_is_retried_until_it_is_taken(server: Receiver) -> None:
    server.answers = [500, 503, 200]
    notifier = WebhookNotifier([NotifyTarget(f"{server.url}/hook")], timeout_s=120.0, retry_s=(0.01, 0.01))
    notifier.start()
    notifier.notify({"event": "promoted"})
    notifier.notify({"event": "watch_finished"})
    await server.got(4)
    await notifier.close()
    assert [post["event"] for post in server.posts] == ["promoted"] * 3 + ["watch_finished"]


async def test_what_a_receiver_missed_is_said_with_the_next_delivery(server: Receiver) -> None:
    server.answers = [500, 500, 200]
    notifier = WebhookNotifier([NotifyTarget(f"{server.url}/hook")], timeout_s=120.0, retry_s=(0.01,))
    notifier.start()
    notifier.notify({"event": "lost"})
    notifier.notify({"event": "heard"})
    await server.got(3)
    await notifier.close()
    assert (server.posts[-1]["event"], server.posts[-1]["missed"]) == ("heard", 1)


@pytest.mark.parametrize(("status", "alive"), [(200, True), (404, True), (401, True), (503, False)])
async def test_any_answer_but_a_gateways_error_is_a_sign_of_life(server: Receiver, status: int, alive: bool) -> None:
    server.answers = [status]
    assert await HttpProbe(timeout_s=120.0).answers(server.url) == alive


async def test_no_answer_is_no_sign_of_life(unused_tcp_port: int) -> None:
    assert not await HttpProbe(timeout_s=2.0).answers(f"http://127.0.0.1:{unused_tcp_port}")
    assert not await HttpProbe().answers("not a url")


# -------------------------------------------------------------------------------------------- metrics


async def test_metrics_status_and_plan_tell_the_same(tmp_path: Path) -> None:
    world = World(tmp_path)
    registry = CollectorRegistry()
    metrics = LoopMetrics(registry, world.clock)
    async with world.store() as store:
        loop = world.start(store, metrics=metrics)
        await world.chat(store, users=40)
        await settle(loop)
        world.clock.advance(0.5 * HOUR_S)
        await world.chat(store, users=20, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.75})
        await settle(loop)
        status = await loop.status()
        world.clock.advance(7.0)
    found = [sample for family in registry.collect() for sample in family.samples]
    samples = {(sample.name, *sample.labels.values()): sample.value for sample in found}
    seen = status.experiment.assessment
    assert samples["ratchet_loop_phase", "testing"] == 1.0
    assert samples["ratchet_loop_phase", "idle"] == 0.0
    assert samples["ratchet_loop_seconds_since_tick",] == 7.0
    assert samples["ratchet_loop_overdue_seconds",] == 0.0
    assert samples["ratchet_loop_retrains_total",] == 1.0
    assert samples["ratchet_experiment_share",] == status.experiment.share == 0.5
    assert samples["ratchet_experiment_lift", "estimate"] == seen.theta
    assert samples["ratchet_experiment_verdict", seen.verdict] == 1.0
    assert samples["ratchet_experiment_requests", "challenger"] == seen.challenger_requests == 30.0
    [counting] = [trigger for trigger in status.triggers.progress if trigger.name == "sample_count"]
    assert samples["ratchet_trigger_progress", "sample_count"] == counting.fraction
    due_in = status.next.wake_at - world.clock.now()
    world.clock.advance(due_in + 60.0)
    assert registry.get_sample_value("ratchet_loop_overdue_seconds") == pytest.approx(60.0)
    assert samples["ratchet_experiment_guardrail", "errors", "unknown"] in (0.0, 1.0)


def test_metrics_before_the_first_look_say_nothing_but_failures() -> None:
    registry = CollectorRegistry()
    LoopMetrics(registry, SystemClock())
    names = {family.name for family in registry.collect()}
    assert names == {"ratchet_loop_tick_failures"}
