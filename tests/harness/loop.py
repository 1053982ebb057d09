"""A loop on a real SQLite store with a trainer, a deployer and a dataset builder that outlive it, as real ones do.

`World` is everything outside the controller: what it knows survives a crash. `World.start()` makes a fresh `Loop`,
as a restarted controller would; `chat` puts records and votes through the store's own door.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from policies.experiment import ABTestConfig
from policies.plan import LoopRules
from policies.records import Arm, Outcome, StickySource
from policies.rows import Check, Model
from policies.selection import DataGeneratorConfig
from policies.snapshot import CheckView
from policies.triggers import TriggerConfig
from proxy.clock import ManualClock
from proxy.errors import PermanentError
from proxy.ids import KeyRing, RecordIds
from proxy.loop.act.install import BaseModel
from proxy.loop.act.leadership import Leadership
from proxy.loop.build import LoopPorts, assemble
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.ports import (
    DatasetRequest,
    DeployFailed,
    Endpoint,
    Failed,
    Handle,
    Manifest,
    NotReady,
    Readiness,
    Running,
    Succeeded,
    TrainingRun,
    TrainingStatus,
)
from proxy.loop.tick import Loop, Tick
from proxy.routes import RouteTable, read_routes
from proxy.store.store import Store
from proxy.store.tables.values import BodyPayload, IngestBatch, NewRecord, NewVote
from tests.harness.tables import sqlite_with_tables

HOUR_S = 3600.0


class RecordingTrainer:
    """A trainer that keeps its runs, and does what `outcome` says."""

    kind = "command"

    def __init__(self) -> None:
        self.runs: dict[str, TrainingRun] = {}
        self.calls: Counter[str] = Counter()
        self.outcome: TrainingStatus | None = None
        """None: succeed with a model of the run's name."""
        self.knows = True
        """False: it has forgotten its runs."""
        self.errors: list[Exception] = []
        """Raised by the next calls of `start`."""

    async def start(self, run: TrainingRun) -> Handle:
        self.calls["start"] += 1
        if self.errors:
            raise self.errors.pop(0)
        self.runs.setdefault(run.run_id, run)
        return {"run": run.run_id}

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        assert handle == {"run": run_id}
        if self.outcome is not None:
            return self.outcome
        return Succeeded(result={"model_path": f"/models/{run_id}", "loss": 0.1})

    async def cancel(self, run_id: str, handle: Handle) -> None:
        self.calls["cancel"] += 1

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        return self.knows and run_id in self.runs


class RecordingDeployer:
    """A deployer that keeps what it serves."""

    def __init__(self) -> None:
        self.serving: dict[int, str] = {}
        self.ever: list[str] = []
        self.retired: Counter[str] = Counter()
        self.ready_answer: Readiness | None = None
        """None: ready at once."""
        self.dead: set[str] = set()
        """Names that do not answer their health check."""
        self.missing_path = False

    async def deploy(self, model_id: int, name: str, model_path: str | None, detail: Mapping[str, Any]) -> Handle:
        if self.missing_path:
            raise PermanentError(f"model_path {model_path} does not exist")
        if model_id not in self.serving:
            self.serving[model_id] = name
            self.ever.append(name)
        return {"id": model_id, "name": name}

    async def ready(self, handle: Handle) -> Readiness:
        return self.ready_answer or Endpoint(url=f"http://models/{handle['name']}")

    async def healthy(self, handle: Handle) -> bool:
        return handle["id"] in self.serving and handle["name"] not in self.dead

    async def ensure(self, handle: Handle) -> Handle:
        return handle

    async def retire(self, handle: Handle) -> None:
        if self.serving.pop(handle["id"], None) is not None:
            self.retired[handle["name"]] += 1


class FolderDatasets:
    """A dataset builder that writes a folder per run, once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.samples = 150
        self.built: list[str] = []
        self.error: Exception | None = None

    async def build(self, request: DatasetRequest) -> Manifest:
        if self.error is not None:
            raise self.error
        folder = self.root / request.run_id
        manifest = Manifest(
            run_id=request.run_id,
            data_path=str(folder / "data.jsonl"),
            holdout_path=None,
            samples=self.samples,
            holdout_samples=0,
            rehearsal_samples=0,
            seen=self.samples,
            config_fingerprint=request.config_fingerprint,
        )
        if not (folder / "data.jsonl").exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "data.jsonl").write_text(json.dumps({"until": request.until_s}))
            self.built.append(request.run_id)
        return manifest

    async def discard(self, run_id: str) -> None:
        (self.root / run_id / "data.jsonl").unlink(missing_ok=True)


class SaysAtOnce:
    """A gate that says at once what it is to say, of every check."""

    def __init__(self) -> None:
        self.says = CheckView(id=0, done=True, verdict="pass", reasons=("its answers are no worse",))
        self.asked: list[int] = []
        self.cancelled: list[int] = []
        self.paused: bool | None = None
        """What it was told with the last poll."""

    async def poll(self, check: Check, challenger: Model, champion: Model, *, paused: bool) -> CheckView:
        self.asked.append(check.id)
        self.paused = paused
        return replace(self.says, id=check.id)

    async def cancel(self, check_id: int) -> None:
        self.cancelled.append(check_id)


class Answers:
    """A probe: the configured champion is alive unless told otherwise."""

    alive = True

    async def answers(self, url: str) -> bool:
        return self.alive


class Told:
    """A notifier that remembers."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def notify(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)


def rules(**changes: Any) -> LoopRules:
    """Rules whose only trigger is fifty scored samples, and whose experiment is decided by quality alone."""
    defaults = LoopRules(
        trigger=TriggerConfig(min_new_samples=50, min_usable_samples=20, enable_scheduled=False),
        ab_test=ABTestConfig(
            initial_challenger_traffic=0.5,
            feedback_weight=0.0,
            latency_weight=0.0,
            min_duration_hours=1.0,
            watch_hours=2.0,
        ),
    )
    return replace(defaults, **changes)


@dataclass
class World:
    """What a controller finds when it starts."""

    root: Path
    rules: LoopRules = field(default_factory=rules)
    clock: ManualClock = field(default_factory=ManualClock)
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.keys = KeyRing.load_or_create(self.root / "keys.json")
        self.ids = RecordIds(self.keys)
        self.routes_path = self.root / "routes.json"
        self.trainer = RecordingTrainer()
        self.deployer = RecordingDeployer()
        self.datasets = FolderDatasets(self.root / "training")
        self.gate = SaysAtOnce()
        self.probe = Answers()
        self.told = Told()
        self.base = BaseModel(name="base", url="http://models/base")
        self.by_share = False
        """Whether users are split by the share that the routes name; else half of them have the challenger."""
        self._batches = 0
        self._started: list[Loop] = []

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The real store. It is closed when no loop that was started reads from it any more."""
        store = await Store.open(sqlite_with_tables(self.root / "ratchet.db"), clock=self.clock)
        try:
            yield store
        finally:
            for loop in self._started:
                await loop.finish()
            await store.close()

    def start(self, store: Any, *, holder: str = "test", trainer: Any = None, deployer: Any = None,
              datasets: Any = None, metrics: LoopMetrics | None = None,
              building: Any = lambda: None, lease_s: float | None = None, troubles: Any = None) -> Loop:  # fmt: skip
        """A controller's loop; what is passed replaces the world's own (to inject faults around it)."""
        ports = LoopPorts(
            datasets=datasets or self.datasets,
            trainer=trainer or self.trainer,
            deployer=deployer or self.deployer,
            gate=self.gate,
            probe=self.probe,
            notifier=self.told,
        )
        loop = assemble(
            store=store,
            clock=self.clock,
            rules=self.rules,
            ports=ports,
            base=self.base,
            training_dir=self.root / "training",
            routes_path=self.routes_path,
            selection=DataGeneratorConfig(),
            drain_s=self.drain_s,
            leadership=Leadership(store, holder=holder, ttl_s=lease_s),
            metrics=metrics,
            building=building,
            troubles=troubles,
        )
        self._started.append(loop)
        return loop

    def routes(self) -> RouteTable:
        """What the workers read now."""
        return read_routes(self.routes_path)

    async def chat(self, store: Store, *, users: int, each: int = 3, quality: Mapping[Arm, float] | None = None,
                   status: Mapping[Arm, int] | None = None) -> None:  # fmt: skip
        """Traffic as the present route table sends it: user i goes to the challenger where it has users and i is odd
        (with `by_share` some of those, up to the share), and to the old champion where that has users and i ends in 8.

        Scores differ a little between users, around the arm's `quality`.
        """
        table = self.routes() if self.routes_path.exists() else None
        records: list[NewRecord] = []
        for index in range(users):
            arm = _arm_of(index, table, by_share=self.by_share)
            mean = (quality or {}).get(arm, 0.8)
            for turn in range(each):
                self.clock.advance(0.01)
                score = mean + 0.02 * ((index // 2) % 5 - 2) + 0.01 * (turn % 2)
                records.append(self._record(index, arm, table, min(1.0, score), (status or {}).get(arm, 200)))
        self._batches += 1
        await store.ingest.apply(
            IngestBatch(writer="test", segment=self._batches, offset=1, records=tuple(records), votes=())
        )

    async def correct(self, store: Store, record_ids: Iterable[str], correction: str) -> None:
        """A thumb down for each, with what it should have said."""
        now = self.clock.now()
        votes = [
            NewVote(
                fid=self.ids.new_uuid(now),
                record_id=name,
                feedback=-1,
                correction=correction,
                created_us=int(now * 1e6),
            )
            for name in record_ids
        ]
        self._batches += 1
        await store.ingest.apply(IngestBatch(writer="test", segment=self._batches, offset=1, votes=tuple(votes)))

    def _record(self, user: int, arm: Arm, table: RouteTable | None, quality: float, status: int) -> NewRecord:
        model_id = 1
        if table is not None:
            target = (table.champion, table.challenger, table.control)[arm]
            model_id = (target or table.champion).model_id
        return NewRecord(
            id=self.ids.mint(self.clock.now()).hex,
            user_hash=user + 1,
            key_source=StickySource.HEADER,
            arm=arm,
            served_by=arm,
            model_id=model_id,
            experiment_id=None if table is None else table.experiment_id,
            epoch=0 if table is None else table.epoch,
            kind="chat",
            status=status,
            outcome=Outcome.OK,
            duration_us=100_000 + 1000 * (user % 7),
            quality=quality,
            quality_source="heuristic",
            body=BodyPayload(method="POST", target="/v1/chat/completions", query="q", response_text="r"),
        )


def _arm_of(user: int, table: RouteTable | None, *, by_share: bool) -> Arm:
    if table is not None and table.challenger is not None and user % 2 == 1:
        asked = not by_share or user // 2 % 10 < 20 * table.share - 1e-9
        return Arm.CHALLENGER if asked else Arm.CHAMPION
    if table is not None and table.control is not None and user % 10 == 8:
        return Arm.CONTROL
    return Arm.CHAMPION


async def settle(loop: Loop, *, limit: int = 30) -> list[Tick]:
    """Tick until nothing is left to do now; the ticks that did something."""
    done = []
    for _ in range(limit):
        tick = await loop.tick()
        if tick.plan is None or tick.plan.action is None:
            return done
        done.append(tick)
    raise AssertionError(
        f"the loop never comes to rest: {[type(tick.plan.action).__name__ for tick in done if tick.plan]}"
    )


def actions(ticks: list[Tick]) -> list[str]:
    """Names of what was done."""
    return [type(tick.plan.action).__name__ for tick in ticks if tick.plan is not None]


__all__ = [
    "HOUR_S",
    "Answers",
    "DeployFailed",
    "Failed",
    "FolderDatasets",
    "NotReady",
    "RecordingDeployer",
    "RecordingTrainer",
    "Running",
    "Told",
    "World",
    "actions",
    "rules",
    "settle",
]  # fmt: skip
