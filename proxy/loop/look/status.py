"""The snapshot and the plan as the status document: what /status, `ratchet status` and the console show."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from policies.actions import Action
from policies.lifecycle import Phase
from policies.plan import Plan
from policies.snapshot import ExperimentView, Snapshot
from policies.wording import many
from proxy.loop.codec import action_to_json, from_json
from proxy.loop.dataset.selection_pass import Progress
from proxy.loop.look.observe import TRAFFIC_S, Observation
from proxy.status import (
    ActionStatus,
    ChampionStatus,
    DatasetStatus,
    ExperimentStatus,
    NextStatus,
    PhaseStatus,
    RetryStatus,
    Status,
    TrafficStatus,
    TriggerStatus,
    watch_status,
)
from proxy.store.tables.values import TrafficTotals

__all__ = ["status_of", "with_building"]

_T = TypeVar("_T")


def status_of(seen: Observation, plan: Plan, *, at: float, leader: bool = True) -> Status:
    """One look at `at` (Unix seconds); `leader`: whether this process holds the lease."""
    snapshot = seen.snapshot
    names = _names(snapshot)
    return Status(
        at=at,
        leader=leader,
        phase=PhaseStatus(
            name=snapshot.phase.value,
            since=snapshot.phase_since,
            reason=snapshot.phase_reason,
            paused=snapshot.paused,
        ),
        next=NextStatus(
            action=_action(plan.action), held=_action(plan.held), reasons=plan.reasons, wake_at=plan.wake_at
        ),
        champion=_extended(ChampionStatus, snapshot.champion),
        challenger=snapshot.challenger,
        previous=snapshot.previous,
        retiring=snapshot.retiring,
        run=replace(snapshot.run, message=seen.said) if snapshot.run is not None and seen.said else snapshot.run,
        triggers=_extended(TriggerStatus, plan.triggers, facts=snapshot.triggers),
        check=snapshot.check,
        experiment=_experiment(snapshot.experiment, plan, snapshot.phase),
        watch=watch_status(snapshot.watch, plan.watch),
        traffic=None if seen.traffic is None else _traffic(seen.traffic),
        commands=snapshot.commands,
        totals=snapshot.totals,
        retries=tuple(
            _extended(RetryStatus, retry, about=names.get(retry.target, retry.target)) for retry in snapshot.retries
        ),
        notes=snapshot.notes,
        installed_at=snapshot.installed_at,
        last_retrain_at=snapshot.triggers.last_retrain_at,
        routes_version=snapshot.routes_version,
        config_id=snapshot.config_id,
    )


def with_building(status: Status, progress: Progress) -> Status:
    """The document while a dataset is being prepared. That is one action, and the look was taken before it."""
    read, kept = many(progress.seen), many(progress.kept)
    note = (
        f"Training data is being prepared: {read} records read, {kept} samples kept so far. "
        "Commands are carried out when it is done."
    )
    building = DatasetStatus(seen=progress.seen, kept=progress.kept)
    return replace(status, building=building, notes=(*status.notes, note))


def _extended(kind: type[_T], base: Any, **more: Any) -> _T:
    """The dataclass `kind`, which extends that of `base`, with its values and `more`."""
    return kind(**{field.name: getattr(base, field.name) for field in fields(base)}, **more)


def _action(action: Action | None) -> ActionStatus | None:
    if action is None:
        return None
    document = action_to_json(action)
    if "rewrite" in document:  # it may be as long as a prompt
        document["rewrite"] = document["rewrite"] is not None
    return from_json(ActionStatus, document)


def _names(snapshot: Snapshot) -> dict[str, str]:
    """Models that something may be tried on, by their id."""
    participants = (snapshot.champion, snapshot.challenger, snapshot.previous, *snapshot.retiring)
    return {str(model.id): model.name for model in participants if model is not None}


def _experiment(view: ExperimentView | None, plan: Plan, phase: Phase) -> ExperimentStatus | None:
    if view is None or phase not in (Phase.TESTING, Phase.PROMOTING):
        return None
    return ExperimentStatus(
        id=view.id,
        share=view.facts.share,
        started_at=view.facts.started_at,
        epoch_started_at=view.facts.epoch_started_at,
        slow_threshold_s=view.facts.slow_threshold_s,
        assessment=plan.assessment,
    )


def _traffic(totals: TrafficTotals) -> TrafficStatus:
    return TrafficStatus(
        minutes=TRAFFIC_S // 60,
        requests=totals.requests,
        failed=totals.errors,
        refused=totals.refused,
        fallbacks=totals.fallbacks,
        positive=totals.votes.positive,
        negative=totals.votes.negative,
        quality=totals.quality,
    )
