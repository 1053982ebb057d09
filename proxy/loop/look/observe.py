"""Look at everything once: rows, statistics, trainer, deployer, commands, into one `Snapshot`.

Looking has no effects. What cannot be reached is unknown (None) and noted, and unknown holds; a trainer or a
deployer that hangs is given up on after `ASK_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from policies.brakes import MONTH_S
from policies.estimates import Moments
from policies.experiment import ArmStats
from policies.lifecycle import Phase
from policies.promotion import WatchFacts, WatchPart
from policies.records import Arm
from policies.rows import Experiment, Model, Run
from policies.selection import DataGeneratorConfig
from policies.snapshot import CheckView, Command, ExperimentView, ModelView, RunStatus, RunView, Snapshot
from policies.state import Deploying, LoopState, Watching
from policies.transition import Position
from policies.triggers import DropDetector, TriggerFacts
from proxy.clock import Clock
from proxy.log_throttle import ThrottledLog
from proxy.loop.codec import from_json
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.quality import QualityReader
from proxy.loop.look.supply import usable_at_most
from proxy.loop.ports import (
    Deployer,
    DeployFailed,
    Endpoint,
    Failed,
    Gate,
    NotReady,
    Probe,
    Running,
    Succeeded,
    Trainer,
)
from proxy.loop.state import DETECTOR_ENTRY
from proxy.store.store import Store
from proxy.store.tables.values import TrafficTotals

__all__ = ["ASK_TIMEOUT_S", "TRAFFIC_S", "Observation", "Observer"]

ASK_TIMEOUT_S: Final = 30.0
"""Longest wait for one answer of a trainer, deployer or model."""
TRAFFIC_S: Final = 900
"""How far back a look counts what became of requests."""
_DAY_US: Final = 24 * 3600 * 1_000_000
_HEALTH_MATTERS: Final = (Phase.SHADOWING, Phase.TESTING, Phase.PROMOTING, Phase.WATCHING)
_BEFORE_A_TEST: Final = (Phase.CHECKING, Phase.SHADOWING)
_JUMP_S: Final = 60.0
"""Wall clock and monotonic clock may differ by this much between two looks."""
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look, and the rows behind it."""

    snapshot: Snapshot
    position: Position
    said: str = ""
    """What the training says of itself just now; it may quote samples, so nobody writes it down."""
    traffic: TrafficTotals | None = None
    """What became of the requests of the last TRAFFIC_S seconds: shown, and no part of a decision."""


@dataclass(slots=True, kw_only=True)
class Observer:
    """Remembers, between looks, only since when a model has been silent and what the clocks said."""

    store: Store
    trainer: Trainer
    deployer: Deployer
    gate: Gate
    probe: Probe
    clock: Clock
    trigger_quality: float
    """Score from which a record counts for the sample trigger."""
    selection: DataGeneratorConfig
    """What a training file keeps."""
    evidence: EvidenceReader
    """Who carries the evidence."""
    quality: QualityReader
    most_runs: int | None = None
    """How many trainings triggers may start in a month; None: nobody counts them."""
    _silent_since: dict[int, float] = field(default_factory=dict)
    _adopted: set[str] = field(default_factory=set)
    _clocks: tuple[float, float] | None = None
    _notes: list[str] = field(default_factory=list)
    _asks: bool = True
    _said: str = ""
    _troubles: ThrottledLog = field(init=False)

    def __post_init__(self) -> None:
        self._troubles = ThrottledLog(_log, self.clock)

    async def observe(self, position: Position, config_id: int, *, ask: bool = True) -> Observation:
        """One look. `ask` False leaves trainer and deployer alone: on a standby they are another process's.

        Raises TemporaryError while the store is away.
        """
        self._asks = ask
        self._said = ""
        self._notes = self._clock_notes()
        now = self.clock.now()
        state, ledger = position.state, position.state.ledger
        snapshot = Snapshot(
            phase=state.phase_name,
            phase_since=state.since,
            phase_reason=state.reason,
            paused=ledger.paused,
            installed_at=ledger.installed_at,
            triggers=await self._triggers(state, now),
            commands=await self._commands(),
            run=None if position.run is None else await self._run(position.run, state),
            champion=await self._model(position.champion, state, now),
            challenger=None if position.challenger is None else await self._model(position.challenger, state, now),
            previous=None if position.previous is None else await self._model(position.previous, state, now),
            retiring=ledger.retiring,
            check=await self._check(position),
            experiment=await self._experiment(position.experiment, state),
            users_a_day=await self._users_a_day(state, now),
            retries=state.all_retries,
            totals=ledger.totals,
            last_rejection_at=ledger.last_rejection_at,
            routes_version=ledger.routes_version,
            config_id=config_id,
        )
        if (note := await self.evidence.note()) is not None:
            self._notes.append(note)
        snapshot = replace(snapshot, watch=await self._watch(snapshot, position), notes=tuple(self._notes))
        traffic = await self.store.traffic.totals(round((now - TRAFFIC_S) * 1e6))
        return Observation(snapshot=snapshot, position=position, said=self._said, traffic=traffic)

    async def _triggers(self, state: LoopState, now: float) -> TriggerFacts:
        now_us = round(now * 1e6)
        since_us = round((state.ledger.last.dataset_at or 0.0) * 1e6)
        votes = await self.store.traffic.feedback_window(now_us - _DAY_US, now_us)
        source = await self.quality.source()
        _, recent = await self.quality.window(source, now_us - _DAY_US, now_us)
        comparable = state.ledger.baseline_by == source
        return TriggerFacts(
            installed_at=state.ledger.installed_at,
            last_retrain_at=state.ledger.last.retrain_at,
            new_quality_samples=await self.store.traffic.count_quality_samples(since_us, self.trigger_quality),
            usable_samples=await self._usable(state),
            left_out=state.ledger.left_out,
            quality_baseline=state.ledger.baseline if comparable else None,
            quality_recent=recent,
            detector=await self._detector(state),
            positive_votes=votes.positive,
            negative_votes=votes.negative,
            failures_in_a_row=state.ledger.failures_in_a_row,
            last_failure_at=state.ledger.last_failure_at,
            rejections_in_a_row=state.ledger.rejections_in_a_row,
            runs_at=await self._runs_at(now),
            experiment_running=state.phase_name in (Phase.TESTING, Phase.PROMOTING),
        )

    async def _runs_at(self, now: float) -> tuple[float, ...] | None:
        """When the last trainings that triggers started in this month began, as many as may be."""
        if self.most_runs is None:
            return None
        starts = await self.store.runs.starts(round((now - MONTH_S) * 1e6), limit=self.most_runs)
        return tuple(start / 1e6 for start in starts)

    async def _usable(self, state: LoopState) -> int:
        """At most this many samples can be kept: what the last preparation kept, and all that came since."""
        now_us = round(self.clock.now() * 1e6)
        most = await usable_at_most(self.store, self.selection, 0, now_us)
        if state.ledger.usable_samples is None or state.ledger.usable_at is None:
            return most
        new = await usable_at_most(self.store, self.selection, round(state.ledger.usable_at * 1e6), now_us)
        return min(most, state.ledger.usable_samples + new)

    async def _detector(self, state: LoopState) -> DropDetector | None:
        entry = await self.store.state.get(DETECTOR_ENTRY)
        if entry is None or state.ledger.baseline is None or entry.get("detector") is None:
            return None
        detector = from_json(DropDetector, entry["detector"])
        return detector if detector.baseline == state.ledger.baseline else None

    async def _commands(self) -> tuple[Command, ...]:
        return tuple(
            Command(id=row.id, at=row.at_us / 1e6, verb=row.verb, args=dict(row.args), who=row.who, why=row.why)
            for row in await self.store.commands.pending()
        )

    async def _run(self, run: Run, state: LoopState) -> RunView:
        samples = None if run.manifest is None else run.manifest.get("samples")
        view = RunView(id=run.id, trigger=run.trigger, status=RunStatus.NOT_STARTED, samples=samples)
        if state.phase_name is not Phase.TRAINING:
            return replace(view, status=RunStatus.SUCCEEDED)
        if run.handle is None:
            return view
        if not self._asks:
            return replace(view, status=RunStatus.UNKNOWN, message="only the leading controller knows")
        handle = dict(run.handle)
        if run.id not in self._adopted:
            found = await self._ask(self.trainer.adopt(run.id, handle), f"trainer, about run {run.id}")
            if found is None:
                return replace(view, status=RunStatus.UNKNOWN, message=self._notes[-1])
            if not found:
                return replace(view, status=RunStatus.LOST, message="it could not be found after a restart")
            self._adopted.add(run.id)
        match await self._ask(self.trainer.poll(run.id, handle), f"trainer, about run {run.id}"):
            case Running(progress=progress, message=message, quotes=quotes):
                self._said = message
                return replace(view, status=RunStatus.RUNNING, progress=progress, message="" if quotes else message)
            case Succeeded():
                return replace(view, status=RunStatus.SUCCEEDED, progress=1.0)
            case Failed() as failed:
                return replace(view, status=RunStatus.FAILED, message=failed.written)
            case None:
                return replace(view, status=RunStatus.UNKNOWN, message=self._notes[-1])

    async def _model(self, model: Model, state: LoopState, now: float) -> ModelView:
        handle = model.detail.get("handle")
        view = ModelView(
            id=model.id,
            name=model.name,
            path=model.path,
            deployed=handle is not None,
            ready=model.url is not None,
            restarts=int(model.detail.get("restarts", 0)),
        )
        if not self._asks:
            return view
        if isinstance(state.phase, Deploying) and model.id == state.phase.challenger_id:
            return view if handle is None else await self._readiness(view, dict(handle))
        if state.phase_name not in _HEALTH_MATTERS:
            self._silent_since.pop(model.id, None)
            return view
        question = self.probe.answers(model.url or "") if handle is None else self.deployer.healthy(dict(handle))
        healthy = await self._ask(question, f"model {model.name}, whether it is healthy")
        if healthy:
            self._silent_since.pop(model.id, None)
        else:
            self._silent_since[model.id] = min(now, self._silent_since.get(model.id, now))  # the clock may go back
        return replace(view, healthy=healthy, unhealthy_since=self._silent_since.get(model.id))

    async def _readiness(self, view: ModelView, handle: dict[str, object]) -> ModelView:
        match await self._ask(self.deployer.ready(handle), f"deployer, about {view.name}"):
            case Endpoint():
                return replace(view, ready=True)
            case NotReady(reason=reason):
                return replace(view, ready=False, waiting_for=reason)
            case DeployFailed() as failed:
                return replace(view, ready=False, failed=failed.written, may_pass=failed.may_pass)
            case None:
                return replace(view, ready=False, waiting_for=self._notes[-1])

    async def _check(self, position: Position) -> CheckView | None:
        """What the gate says; what it does not say now, it may say at the next look."""
        check, challenger = position.check, position.challenger
        if check is None or challenger is None:
            return None
        if not self._asks:
            return CheckView(id=check.id, verdict=check.verdict, reasons=("only the leading controller knows",))
        paused = position.state.ledger.paused
        question = self.gate.poll(check, challenger, position.champion, paused=paused)
        found = await self._ask(question, f"gate, about {challenger.name}")
        return found or CheckView(id=check.id, reasons=(self._notes[-1],))

    async def _experiment(self, row: Experiment | None, state: LoopState) -> ExperimentView | None:
        if row is None or state.phase_name not in (Phase.TESTING, Phase.PROMOTING):
            return None
        facts = await self.evidence.facts(row)
        facts = replace(facts, carriers=await self.evidence.carriers(row, facts))
        return ExperimentView(id=row.id, epoch=row.epoch, facts=facts, terms=row.frozen.get("terms"))

    async def _users_a_day(self, state: LoopState, now: float) -> float | None:
        """Asked for where a test may begin: whether a canary would see anybody."""
        if state.phase_name not in _BEFORE_A_TEST:
            return None
        return await self.store.traffic.users_a_day(round(now * 1e6))

    async def _watch(self, snapshot: Snapshot, position: Position) -> WatchFacts | None:
        phase, experiment = position.state.phase, position.experiment
        if not isinstance(phase, Watching) or snapshot.previous is None:
            return None
        if experiment is None:  # promoted untested: nothing to compare with, but traffic counts, by any name
            served = await self.store.traffic.totals(round(phase.promoted_at * 1e6))
            after = ArmStats(arm=Arm.CHAMPION, requests=served.of_users, moments=Moments())
            return WatchFacts(
                promoted_at=phase.promoted_at,
                before=phase.before,
                holdback_share=phase.holdback_share,
                after=after,
                old_champion_healthy=snapshot.previous.healthy,
            )
        parts = [await self.store.statistics.arms(experiment.id, epoch) for epoch in experiment.watch_epochs]
        *earlier, running = parts
        return WatchFacts(
            promoted_at=phase.promoted_at,
            before=phase.before,
            control=running[Arm.CONTROL] if phase.holdback_share > 0 else None,
            holdback_share=phase.holdback_share,
            after=running[Arm.CHAMPION],
            earlier=tuple(WatchPart(control=arms[Arm.CONTROL], after=arms[Arm.CHAMPION]) for arms in earlier),
            part_began_at=experiment.epoch_started_us / 1e6,
            epoch=experiment.epoch,
            old_champion_healthy=snapshot.previous.healthy,
        )

    async def _ask(self, question: Awaitable[_T], whom: str) -> _T | None:
        """The answer, or None and a note. At the edge of a plug-in: whatever it raises, the loop goes on."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                return await question
        except Exception as exc:  # noqa: BLE001 - a plug-in's edge
            self._troubles.warning(whom, "no answer from the %s: %r", whom, exc)
            self._notes.append(f"no answer from the {whom}: {str(exc) or type(exc).__name__}")
            return None

    def _clock_notes(self) -> list[str]:
        wall, monotonic = self.clock.now(), self.clock.monotonic()
        before, self._clocks = self._clocks, (wall, monotonic)
        if before is None:
            return []
        jump = (wall - before[0]) - (monotonic - before[1])
        return [f"the clock jumped by {jump:+.0f} s since the last check"] if abs(jump) > _JUMP_S else []
