"""An install with a past, for the console: a real loop on a real store has trained, tested, promoted, and tests again.

The story takes two days of a clock that the test moves; decisions, looks, statistics and sums are the loop's and the
store's own. Only the users, the trainer and the deployer are made up (`tests.harness.loop`).
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from prometheus_client.registry import CollectorRegistry

from policies.agreement import standing_of
from policies.cuped import PastSaving
from policies.experiment import ABTestConfig
from policies.gate import GateVerdict
from policies.plan import LoopRules
from policies.records import Arm, Outcome
from policies.triggers import TriggerConfig
from proxy.app.own_votes import OwnVotes
from proxy.clock import ManualClock
from proxy.config import Config, parse_config
from proxy.config.judge import JudgeConfig
from proxy.ids import RecordIds
from proxy.ingest import Ingestor
from proxy.loop.look import explain
from proxy.loop.ports import DatasetRequest, Manifest, Succeeded
from proxy.loop.tick import Loop
from proxy.metrics.traffic import TrafficMetrics
from proxy.routes import RouteTable
from proxy.spool import SpoolReader
from proxy.status import JudgeStatus, Status, TroubleStatus
from proxy.store.store import Store
from proxy.store.tables.schema import checks
from proxy.store.tables.values import IngestBatch, NewRecord, NewVote, RecordFlag
from proxy.tasks import cancel_and_wait, spawn
from proxy.web.admin import AdminServices, create_admin_app
from proxy.web.console import with_console
from tests.harness.compared_answers import compared_rows, gate_report, seed_rows
from tests.harness.dataset_files import write_dataset
from tests.harness.exchanges import exchange, vote
from tests.harness.loop import FolderDatasets, World, settle
from tests.harness.webserver import serving

__all__ = ["Admin", "ConsoleStage"]

T = TypeVar("T")

_SCORER = "openai:judge-large:5f0c2a11"
_STEP_S = 7200.0
"""Between two looks of the loop."""
_COMMENTS = ("Wrong part number.", "Exactly what I needed, thank you.", "Too long.")


class CuratedDatasets(FolderDatasets):
    """As its parent, and says what a real selection leaves out. The lines of the first dataset go with its training."""

    def __init__(self, root: Path, spoken: list[NewRecord]) -> None:
        super().__init__(root)
        self._spoken = spoken
        """What users have said so far: lines are made of it."""

    async def build(self, request: DatasetRequest) -> Manifest:
        manifest = await super().build(request)
        folder = self.root / request.run_id
        (folder / "train.log").write_text(
            "".join(f"step {step:4d}  loss {2.1 / (1 + step / 60):.4f}\n" for step in range(0, 400, 10))
        )
        dropped = {"low_quality": 311, "near_duplicate": 84, "no_feedback": 402, "user_cap": 27}
        manifest = replace(
            manifest,
            samples=1_164,
            holdout_samples=118,
            rehearsal_samples=116,
            seen=1_990,
            dropped=dropped,
            sha256="b94cdecd0f55adb2b1f6d97b8bd82f0ddc734e51a45832fd830ae62f420cb092",
            models={"base": 1_048, "": 116},
        )
        spoken = [record for record in self._spoken if record.outcome is Outcome.OK and record.body is not None]
        write_dataset(folder, manifest, spoken[-60:], left_out=[record.id for record in spoken[:30]])
        return manifest

    async def discard(self, run_id: str) -> None:
        if run_id == self.built[0]:
            await super().discard(run_id)
            (self.root / run_id / "holdout.jsonl").unlink(missing_ok=True)


def _rules() -> LoopRules:
    return LoopRules(
        trigger=TriggerConfig(min_new_samples=400, min_usable_samples=20, cooldown_hours=18.0),
        ab_test=ABTestConfig(
            initial_challenger_traffic=0.15,
            stages=(0.15, 0.3, 0.5),
            latency_weight=0.1,
            feedback_weight=0.3,
            min_duration_hours=6,
            watch_hours=6,
        ),
    )


def _arm_of(user: int, table: RouteTable) -> Arm:
    """Of one of the 400 users: the first have the challenger, the last are the control."""
    place = user % 100 / 100
    if table.challenger is not None and place < table.share:
        return Arm.CHALLENGER
    return Arm.CONTROL if table.control is not None and place >= 1 - table.control_share else Arm.CHAMPION


def _gone_wrong(chance: float) -> dict[str, Any]:
    """Half of it shows in the status; the rest only in the answer."""
    if chance < 0.003:
        return {"status": 503, "outcome": Outcome.UPSTREAM_ERROR}
    if chance < 0.004:
        return {"status": 404, "outcome": Outcome.REFUSED}
    if chance < 0.005:
        return {"outcome": Outcome.INCOMPLETE}
    return {"outcome": Outcome.UPSTREAM_ERROR, "flags": RecordFlag.UNREAD | RecordFlag.STREAMED}


@dataclass
class ConsoleStage:
    """The world, its loop and its store, and the admin port before them."""

    root: Path
    ends_at: float = 1_767_225_600.0
    """When the story ends, Unix seconds: 2026-01-01."""
    token: str | None = None
    hours: float = 48.0
    """Length of the story."""
    per_hour: int = 70
    """Exchanges in an hour."""
    failing: bool = False
    """The store is away."""
    grafana: str | None = None
    """`admin.grafana_url`."""
    changed: dict[str, Any] = field(default_factory=dict)
    """What the status says instead of what is so."""

    def __post_init__(self) -> None:
        self.clock = ManualClock(self.ends_at - self.hours * 3600)
        self.world = World(self.root, rules=_rules(), clock=self.clock)
        self.spoken: list[NewRecord] = []
        """Every exchange of the story so far."""
        self.voted: list[tuple[str, int]] = []
        """Records of the story that got a vote, and the vote."""
        self.world.datasets = CuratedDatasets(self.root / "training", self.spoken)
        self.world.trainer.outcome = Succeeded(
            result={"model_path": "/models/adapter-7", "metrics": {"loss": 0.2714, "samples_per_second": 41.5}}
        )
        self.rng = random.Random(4)
        self._batches = 0
        self.votes = OwnVotes(self.config, self.root / "spool", RecordIds(self.world.keys), self.clock)
        """Given in the console; `Admin.ingest` stores them."""

    async def play(self, store: Store) -> Loop:
        """Two days: a challenger that wins, the watch, and one that is still being tested."""
        loop = self.world.start(store)
        await settle(loop)
        while self.clock.now() < self.ends_at:
            await self._traffic(store)
            await settle(loop)
        await self._compare(store)
        await self._judge(store)
        return loop

    async def _judge(self, store: Store) -> None:
        """What a judge says that agrees with people in four of five answers, and of a few says nothing."""
        lease = await store.leases.acquire("judge", "test", ttl_s=30)
        assert lease is not None
        await store.judgements.ask(lease, _SCORER, [record_id for record_id, _ in self.voted])
        for record_id, thumb in self.voted:
            right = self.rng.random() < 0.8
            score = None if self.rng.random() < 0.05 else 0.9 if (thumb > 0) == right else 0.2
            reason = "It answers what was asked." if score else "unreadable: no verdict in: I cannot say."
            await store.judgements.answer(record_id, _SCORER, score=score, tokens=412, reason=reason)

    async def _compare(self, store: Store) -> None:
        """What the gate of each challenger has asked, and found: the world's gate says only that it passed."""
        asked = [record for record in self.spoken if record.outcome is Outcome.OK and record.body is not None]
        for check in await store.checks.list():
            rows = compared_rows(check.id, 60, start_us=check.started_us, seed=check.id, records=asked)
            await seed_rows(store, rows)
            words = "conversations of 60 users: scored 0.012 worse on average: it is not worse by 0.07 or more"
            async with store._db.write() as connection:
                summary = gate_report(GateVerdict.PASS, words, rows).document()
                await connection.execute(sa.update(checks).where(checks.c.id == check.id).values(summary=summary))

    async def _traffic(self, store: Store) -> None:
        """The traffic until the next look, as the route table sends it; a fifth of the answers gets a vote."""
        table = self.world.routes()
        records: list[NewRecord] = []
        votes: list[NewVote] = []
        for _ in range(round(self.per_hour * _STEP_S / 3600)):
            self.clock.advance(3600 / self.per_hour)
            at_us = int(self.clock.now() * 1e6)
            user = self.rng.randrange(400)
            arm = _arm_of(user, table)
            model = (table.champion, table.challenger, table.control)[arm] or table.champion
            good = 0.72 if model.model_id == 1 else 0.86
            record = self._exchange(at_us, arm, model.model_id, good)
            record = replace(record, conversation=-user - 1)
            record = replace(record, user_hash=user + 1, experiment_id=table.experiment_id, epoch=table.epoch)
            if not self._batches and not records:
                record = replace(record, model_id=0)  # as in a server's first moments, before the loop's first look
            records.append(record)
            self.spoken.append(record)
            if self.rng.random() < 0.2:
                thumb = 1 if self.rng.random() < good else -1
                self.voted.append((record.id, thumb))
                comment = self.rng.choice(_COMMENTS) if self.rng.random() < 0.2 else None
                votes.append(vote(record.id, at_us + 1000, self.rng, feedback=thumb, comment=comment))
        self._batches += 1
        batch = IngestBatch(
            writer="w0-1-1", segment=self._batches, offset=1, records=tuple(records), votes=tuple(votes)
        )
        await store.ingest.apply(batch)

    def _exchange(self, at_us: int, arm: Arm, model_id: int, good: float) -> NewRecord:
        quality = min(1.0, max(0.0, round(self.rng.gauss(good, 0.12), 3)))
        record = exchange(at_us, self.rng, arm=arm, served_by=arm, model_id=model_id, config_id=0, quality=quality)
        chance = self.rng.random()
        if chance < 0.006:
            return replace(record, **_gone_wrong(chance), quality=None, quality_source=None, completion_tokens=None)
        if chance < 0.01:
            return replace(record, outcome=Outcome.CLIENT_DISCONNECT, quality=None, quality_source=None)
        if arm is Arm.CHALLENGER and chance < 0.014:
            return replace(record, served_by=Arm.CHAMPION, flags=RecordFlag.FALLBACK)
        return record

    @property
    def config(self) -> Config:
        """Settings that agree with the story's rules."""
        found = parse_config({"server": {"data_dir": str(self.root)}, "champion": {"url": "http://127.0.0.1:1"}})
        found = replace(found, ab_test_config=self.world.rules.ab_test, trigger_config=self.world.rules.trigger)
        judge = JudgeConfig(kind="openai", url="http://127.0.0.1:1/v1", model="judge-large")
        return replace(found, admin=replace(found.admin, token=self.token, grafana_url=self.grafana), judge=judge)

    async def _judge_status(self, store: Store) -> JudgeStatus:
        sums = await store.judgements.sums(_SCORER, since_us=0)
        return JudgeStatus(
            scorer=_SCORER,
            trust="rectified",
            standing=standing_of(await store.judgements.agreement(_SCORER)),
            judged=sums.judged,
            mean=sums.mean,
            failed=sums.failed,
            tokens=sums.tokens,
            asked_hour=31,
            asked_day=412,
            lag_s=75.0,
        )

    def services(self, loop: Loop, store: Store) -> AdminServices:
        """What the controller hands to the admin port."""

        async def history(limit: int, before: float | None) -> list[dict[str, Any]]:
            return await explain.history(store, limit, before)

        async def status() -> Status:
            trouble = "the store cannot be reached: the disk is gone" if self.failing else None
            troubles = {"store": TroubleStatus(sentence=trouble, since=self.clock.now())} if trouble else {}
            judge = None if self.failing else await self._judge_status(store)
            found = replace(await loop.status(), version="test", trouble=trouble, troubles=troubles, judge=judge)
            return replace(found, **self.changed)

        return AdminServices(
            config=self.config,
            clock=self.clock,
            keys=self.world.keys,
            metrics=lambda accept: (b"", "text/plain"),
            status=status,
            health=lambda: {"status": "ok"},
            store=lambda: None if self.failing else store,
            submit=loop.submit,
            explain=lambda at: explain.explain(store, at),
            history=history,
            vote=self.votes.write,
        )


class Admin:
    """The stage's admin port, on an event loop in a thread of its own, for tests that drive a browser."""

    def __init__(self, stage: ConsoleStage) -> None:
        self.stage = stage
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._act = asyncio.Event()
        self._up: Future[str] = Future()

    def let_the_loop_act(self) -> None:
        """The next look: orders that were given are done or refused."""
        self._loop.call_soon_threadsafe(self._act.set)

    def do(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        """Have `work` done with the store, and wait for it."""
        return asyncio.run_coroutine_threadsafe(self._with_store(work), self._loop).result()

    async def _with_store(self, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
        return await work(self._store)

    def ingest(self) -> None:
        """Store the votes that were given in the console."""
        self.do(self._ingest)

    async def _ingest(self, store: Store) -> None:
        reader, clock = SpoolReader(self.stage.root / "spool"), self.stage.clock
        metrics = TrafficMetrics(CollectorRegistry())
        while await Ingestor(self.stage.config, store, reader, metrics, clock).run_once():
            pass

    async def _run(self) -> None:
        stage = self.stage
        store = self._store = await Store.open(f"sqlite:///{stage.root / 'ratchet.db'}", clock=stage.clock)
        acting = None
        try:
            loop = await stage.play(store)
            store.past_savings.known = PastSaving(saved=0.18, users=400, with_past=300, experiment_id=1)
            acting = spawn(self._obey(loop), name="the loop's next looks")
            app = create_admin_app(with_console(stage.services(loop, store), stage.root / "training"))
            async with serving(app) as url:
                self._up.set_result(url)
                await self._stop.wait()
        except BaseException as exc:
            if not self._up.done():
                self._up.set_exception(exc)
            raise
        finally:
            if acting is not None:
                await cancel_and_wait([acting])
            await stage.votes.close()
            await store.close()

    async def _obey(self, loop: Loop) -> None:
        while True:
            await self._act.wait()
            self._act.clear()
            await settle(loop)

    def __enter__(self) -> Admin:
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        try:
            self.url = self._up.result()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._end()

    def _end(self) -> None:
        self._thread.join()
        self._loop.close()
