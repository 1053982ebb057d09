"""The snapshot and the plan as one JSON document: what /status, `ratchet status` and the console show."""

from __future__ import annotations

from typing import Any

from policies.lifecycle import Phase
from policies.plan import Plan
from policies.snapshot import Snapshot
from proxy.loop.codec import action_to_json, to_json
from proxy.loop.dataset.selection_pass import Progress

__all__ = ["status_document", "with_building"]


def status_document(
    snapshot: Snapshot, plan: Plan, *, at: float, leader: bool = True, said: str = ""
) -> dict[str, Any]:
    """JSON of one look. Instants are Unix seconds, shares and rates 0 to 1, unknown is null.

    {"at": when looked, "leader": whether this process holds the lease,
     "phase": {"name", "since", "reason", "paused"},
     "next": {"action": {"action": class name, …} | null, "held": same | null (what waits), "reasons": [plain English],
              "wake_at"},
     "champion": {"id", "name", "healthy", …}, "challenger": same | null, "previous": same | null (watching),
     "retiring": [{"id", "name", "due_at"}],
     "run": {"id", "trigger", "status", "progress", "message", "samples"} | null,
     "triggers": {"fired", "hold", "hold_until", "schedule_at",
                  "progress": [{"name", "enabled", "value", "target", "fraction", "due", "reason"}],
                  "facts": the inputs (see policies.triggers.TriggerFacts)},
     "experiment": {"id", "share", "started_at", "epoch_started_at", "slow_threshold_s",
                    "assessment": see policies.experiment.Assessment, null before the first look} | null,
     "watch": see policies.promotion.WatchAssessment | null,
     "commands": [{"id", "at", "verb", "args", "who", "why"}] still waiting,
     "totals": {"runs", "retrains", "failed_retrains", "promotions", "returns", "rollbacks": {reason: n}, "rejections"},
     "retries": [{"action", "target": id of what it acts on, "about": its name, "at", "attempts", "reason"}],
     "notes": [oddities],
     "building": {"seen", "kept"} records, only while a training dataset is being prepared,
     "installed_at", "last_retrain_at", "routes_version", "config_id"}
    """
    names = _names(snapshot)
    return {
        "at": at,
        "leader": leader,
        "phase": {
            "name": snapshot.phase.value,
            "since": snapshot.phase_since,
            "reason": snapshot.phase_reason,
            "paused": snapshot.paused,
        },
        "next": {
            "action": None if plan.action is None else action_to_json(plan.action),
            "held": None if plan.held is None else action_to_json(plan.held),
            "reasons": list(plan.reasons),
            "wake_at": plan.wake_at,
        },
        "champion": to_json(snapshot.champion),
        "challenger": None if snapshot.challenger is None else to_json(snapshot.challenger),
        "previous": None if snapshot.previous is None else to_json(snapshot.previous),
        "retiring": [to_json(model) for model in snapshot.retiring],
        "run": None if snapshot.run is None else {**to_json(snapshot.run), **({"message": said} if said else {})},
        "triggers": {**to_json(plan.triggers), "facts": to_json(snapshot.triggers)},
        "experiment": _experiment(snapshot, plan),
        "watch": None if plan.watch is None else to_json(plan.watch),
        "commands": [to_json(command) for command in snapshot.commands],
        "totals": to_json(snapshot.totals),
        "retries": [{**to_json(retry), "about": names.get(retry.target, retry.target)} for retry in snapshot.retries],
        "notes": list(snapshot.notes),
        "installed_at": snapshot.installed_at,
        "last_retrain_at": snapshot.triggers.last_retrain_at,
        "routes_version": snapshot.routes_version,
        "config_id": snapshot.config_id,
    }


def with_building(document: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The document while a dataset is being prepared. That is one action, and the look was taken before it."""
    note = (
        f"training data is being prepared: {progress.seen:,} records seen, {progress.kept:,} kept so far; "
        "orders are taken when it is done"
    )
    building = {"seen": progress.seen, "kept": progress.kept}
    return {**document, "building": building, "notes": [*document["notes"], note]}


def _names(snapshot: Snapshot) -> dict[str, str]:
    """Models that something may be tried on, by their id."""
    participants = (snapshot.champion, snapshot.challenger, snapshot.previous, *snapshot.retiring)
    return {str(model.id): model.name for model in participants if model is not None}


def _experiment(snapshot: Snapshot, plan: Plan) -> dict[str, Any] | None:
    view = snapshot.experiment
    if view is None or snapshot.phase not in (Phase.TESTING, Phase.PROMOTING):
        return None
    return {
        "id": view.id,
        "share": view.facts.share,
        "started_at": view.facts.started_at,
        "epoch_started_at": view.facts.epoch_started_at,
        "slow_threshold_s": view.facts.slow_threshold_s,
        "assessment": None if plan.assessment is None else to_json(plan.assessment),
    }
