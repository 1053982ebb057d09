"""One iteration of the library in the quick start's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from policies.actions import PrepareData
from policies.lifecycle import Event
from proxy.loop.codec import to_json
from proxy.loop.tick import Tick

__all__ = ["iso", "iteration_result"]

_RETRAIN: Final = {
    Event.DATASET_TOO_SMALL: "too_few_samples",
    Event.DATASET_FAILED: "failed",
    Event.DATASET_ONLY: "data_prepared",
    Event.DATASET_READY: "prepared",
    Event.TRAINING_STARTED: "trained",
    Event.TRAINED: "completed",
    Event.TRAINING_FAILED: "failed",
}
"""What a step of a retrain makes of `retrain["status"]`; the last one counts."""


def iteration_result(ticks: list[Tick], at: float) -> dict[str, Any]:
    """An iteration's ticks in the quick start's words."""
    retrain: dict[str, Any] | None = None
    events: list[str] = []
    result: dict[str, Any] = {"challenger_deployed": None, "champion_promoted": None, "rolled_back": None}
    for tick in ticks:
        if tick.plan is not None and isinstance(tick.plan.action, PrepareData):
            retrain = {"trigger": tick.plan.action.trigger, "run_id": tick.plan.action.run_id, "status": "failed"}
        done = tick.transition
        if done is None:
            continue
        events.append(done.event.value)
        if done.event in _RETRAIN:
            retrain = {**(retrain or {}), "status": _RETRAIN[done.event], "reason": done.reason, **_details(tick)}
        if done.event is Event.DEPLOYED:
            result["challenger_deployed"] = done.models[0].name
        if done.event is Event.PROMOTED:
            result["champion_promoted"] = done.models[0].name
        if done.event in (Event.ROLLED_BACK, Event.REJECTED, Event.RETURNED):
            result["rolled_back"] = done.reason
    seen = [tick.plan.assessment for tick in ticks if tick.plan is not None and tick.plan.assessment is not None]
    return {
        "timestamp": iso(at),
        "retrain_triggered": retrain is not None,
        "retrain": retrain,
        "ab_test_update": {"verdict": seen[-1].verdict.value, "reasons": list(seen[-1].reasons)} if seen else None,
        "ab_comparison": to_json(seen[-1]) if seen else None,
        **result,
        "events": events,
        "leader": all(tick.leader for tick in ticks),
    }


def _details(tick: Tick) -> dict[str, Any]:
    """What a step of a retrain has to show."""
    done = tick.transition
    if done is None:
        return {}
    details = dict(done.outcome)
    for run in done.runs:
        manifest = run.manifest or {}
        details |= {"run_id": run.id, "trigger": run.trigger}
        details |= {name: manifest[name] for name in ("samples", "data_path") if name in manifest}
        if run.result is not None:
            result = dict(run.result)
            details |= {"model_path": result.pop("model_path", None), "metrics": result}
    return details


def iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
