"""Puts a loop together: from ports and rules (`assemble`), or from the configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from policies.facts import JudgeFacts
from policies.plan import LoopRules
from policies.selection import DataGeneratorConfig
from proxy.clock import Clock
from proxy.config import LoopSettings
from proxy.log_throttle import ThrottledLog
from proxy.loop.act.clock_repair import ClockRepair
from proxy.loop.act.execute import Executor
from proxy.loop.act.install import BaseModel
from proxy.loop.act.journal import LoopJournal
from proxy.loop.act.leadership import Leadership
from proxy.loop.act.maintenance import Maintenance
from proxy.loop.act.pasts import PastReader
from proxy.loop.act.retrains import Retrains
from proxy.loop.act.routes import RoutesFile
from proxy.loop.act.servers import Servers
from proxy.loop.dataset.selection_pass import Progress
from proxy.loop.look.carriers import EvidenceReader
from proxy.loop.look.metrics import LoopMetrics
from proxy.loop.look.observe import Observer
from proxy.loop.look.quality import QualityReader
from proxy.loop.look.terms import terms_of
from proxy.loop.ports import DatasetBuilder, Deployer, Gate, LoopTroubles, Notifier, Probe, Trainer
from proxy.loop.tick import Loop
from proxy.store.store import Store

__all__ = ["LoopPorts", "assemble", "rules_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPorts:
    """The outside of a loop."""

    datasets: DatasetBuilder
    trainer: Trainer
    deployer: Deployer
    gate: Gate
    probe: Probe
    notifier: Notifier


def rules_of(settings: LoopSettings, *, trains: bool = True) -> LoopRules:
    """The rules of the loop's own settings, as the library has them."""
    return LoopRules(
        trigger=settings.trigger_config,
        ab_test=settings.ab_test_config,
        enable_ab_testing=settings.enable_ab_testing,
        enable_auto_promotion=settings.enable_auto_promotion,
        trains=trains,
        check_interval_s=settings.check_interval_seconds,
        terms=terms_of(settings),
    )


def assemble(
    *,
    store: Store,
    clock: Clock,
    rules: LoopRules,
    ports: LoopPorts,
    base: BaseModel,
    training_dir: Path,
    routes_path: Path | None,
    selection: DataGeneratorConfig,
    drain_s: float,
    config_id: int = 0,
    fingerprint: str = "",
    leadership: Leadership | None = None,
    metrics: LoopMetrics | None = None,
    building: Callable[[], Progress | None] = lambda: None,
    open_scores: bool = False,
    judge: JudgeFacts | None = None,
    scored: bool = False,
    troubles: LoopTroubles | None = None,
) -> Loop:
    """A loop from its parts. `routes_path` None: no workers to tell (the library). `building` is asked for the status
    how far a dataset has come. `open_scores`: anybody may give an answer its score. `judge`: the one of the
    settings; whether it counts is found out at every look. `scored`: the application scores its answers itself.
    `troubles` are told what keeps the loop from ticking."""
    evidence = EvidenceReader(store=store, clock=clock, ab_test=rules.ab_test, open_scores=open_scores, judge=judge)
    quality = QualityReader(store=store, clock=clock, evidence=evidence, scored_by_application=scored)
    throttled = ThrottledLog(_log, clock)
    return Loop(
        store=store,
        clock=clock,
        journal=LoopJournal(
            store=store,
            rules=rules,
            base=base,
            routes=RoutesFile(routes_path),
            clock_repair=ClockRepair(store, clock),
            config_id=config_id,
        ),
        leadership=leadership or Leadership(store),
        observer=_observer(store, clock, rules, ports, selection, evidence, quality),
        maintenance=Maintenance(store=store, deployer=ports.deployer, quality=quality, troubles=throttled),
        pasts=PastReader(store=store, ab_test=rules.ab_test, troubles=throttled),
        executor=_executor(store, rules, ports, training_dir, fingerprint),
        notifier=ports.notifier,
        drain_s=drain_s,
        metrics=metrics,
        building=building,
        troubles=troubles,
    )


def _observer(
    store: Store,
    clock: Clock,
    rules: LoopRules,
    ports: LoopPorts,
    selection: DataGeneratorConfig,
    evidence: EvidenceReader,
    quality: QualityReader,
) -> Observer:
    """What looks."""
    return Observer(
        store=store,
        trainer=ports.trainer,
        deployer=ports.deployer,
        gate=ports.gate,
        probe=ports.probe,
        clock=clock,
        trigger_quality=rules.trigger.min_quality_score,
        selection=selection,
        evidence=evidence,
        quality=quality,
        most_runs=rules.trigger.max_runs_per_month,
    )


def _executor(store: Store, rules: LoopRules, ports: LoopPorts, training_dir: Path, fingerprint: str) -> Executor:
    """What does."""
    retrains = Retrains(
        store=store,
        datasets=ports.datasets,
        trainer=ports.trainer,
        training_dir=training_dir,
        training_timeout_s=rules.training_timeout_s,
        fingerprint=fingerprint,
    )
    servers = Servers(store=store, deployer=ports.deployer)
    return Executor(store=store, retrains=retrains, servers=servers, gate=ports.gate)
