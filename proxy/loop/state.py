"""The loop's memory as it lies in the database: the entry `loop` of the table `loop_state`, as JSON.

The drop detector, which moves by the hour and not by actions, has an entry of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.experiment import ArmStats
from policies.lifecycle import Phase
from policies.state import (
    Checking,
    Deploying,
    Idle,
    LastRun,
    Ledger,
    LoopState,
    LoopTotals,
    PhaseState,
    Promoting,
    Retiring,
    Retry,
    Shadowing,
    Testing,
    Training,
    Watching,
)
from proxy.loop.codec import from_json, to_json

__all__ = ["DETECTOR_ENTRY", "STATE_ENTRY", "state_from_json", "state_to_json"]

STATE_ENTRY: Final = "loop"
DETECTOR_ENTRY: Final = "drop_detector"
_PHASES: Final[Mapping[str, type[PhaseState]]] = {
    phase.value: kind
    for phase, kind in {
        Phase.IDLE: Idle,
        Phase.TRAINING: Training,
        Phase.DEPLOYING: Deploying,
        Phase.CHECKING: Checking,
        Phase.SHADOWING: Shadowing,
        Phase.TESTING: Testing,
        Phase.PROMOTING: Promoting,
        Phase.WATCHING: Watching,
    }.items()
}
_GONE: Final = 0
"""Id of a row that the phase needs and an earlier version's state did not name: there is no such row, and the loop
recovers."""


def state_to_json(state: LoopState) -> dict[str, Any]:
    """As it is stored."""
    document: dict[str, Any] = to_json(state)
    return document


def state_from_json(document: Mapping[str, Any]) -> LoopState:
    """What was stored, also by an earlier version. Raises ValueError where it is no state."""
    try:
        return _of_nested(document) if "ledger" in document else _of_flat(document)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"the loop's state in the database cannot be read: {exc!r}") from None


def _of_nested(document: Mapping[str, Any]) -> LoopState:
    phase = document["phase"]
    if (kind := _PHASES.get(phase["name"])) is None:
        raise ValueError(f"the loop's state is unknown to this version: phase {phase['name']!r}; a newer one wrote it")
    return LoopState(
        phase=from_json(kind, phase),
        since=document["since"],
        reason=document["reason"],
        retries=from_json(tuple[Retry, ...], document["retries"]),
        ledger=from_json(Ledger, document["ledger"]),
    )


def _of_flat(old: Mapping[str, Any]) -> LoopState:
    """Before there was a value per phase, all fields lay side by side, those of other phases empty."""
    retries = from_json(tuple[Retry, ...], old.get("retries", ()))
    stopping = {retry.target: retry for retry in retries if retry.action == "Retire"}
    retiring = from_json(tuple[Retiring, ...], old.get("retiring", ()))
    ledger = Ledger(
        installed_at=old["installed_at"],
        champion_id=old["champion_id"],
        paused=old.get("paused", False),
        routes_version=old.get("routes_version", 0),
        config_id=old.get("config_id", 0),
        last=LastRun(dataset_at=old.get("last_dataset_at"), retrain_at=old.get("last_retrain_at")),
        usable_samples=old.get("usable_samples"),
        usable_at=old.get("usable_at"),
        left_out=old.get("left_out", {}),
        failures_in_a_row=old.get("failures_in_a_row", 0),
        last_failure_at=old.get("last_failure_at"),
        last_rejection_at=old.get("last_rejection_at"),
        baseline=old.get("baseline"),
        retiring=tuple(
            Retiring(id=left.id, name=left.name, due_at=left.due_at, retry=stopping.get(str(left.id)))
            for left in retiring
        ),
        totals=from_json(LoopTotals, old.get("totals", {})),
    )
    return LoopState(
        phase=_phase_of_flat(old),
        since=old["phase_since"],
        reason=old.get("reason", "installed"),
        retries=tuple(retry for retry in retries if retry.action != "Retire"),
        ledger=ledger,
    )


def _phase_of_flat(old: Mapping[str, Any]) -> PhaseState:
    run, challenger = old.get("run_id"), old.get("challenger_id") or _GONE
    experiment = old.get("experiment_id")
    match Phase(old.get("phase", Phase.IDLE)):
        case Phase.IDLE | Phase.CHECKING | Phase.SHADOWING:  # of the last two no such version knew
            return Idle()
        case Phase.TRAINING:
            before = LastRun(dataset_at=old.get("prior_dataset_at"), retrain_at=old.get("prior_retrain_at"))
            return Training(run_id=run or "", before=before)
        case Phase.DEPLOYING:
            return Deploying(challenger_id=challenger, run_id=run)
        case Phase.TESTING:
            return Testing(challenger_id=challenger, experiment_id=experiment or _GONE, run_id=run)
        case Phase.PROMOTING:
            return Promoting(challenger_id=challenger, experiment_id=experiment, run_id=run)
        case Phase.WATCHING:
            before_arm = None if old.get("before") is None else from_json(ArmStats, old["before"])
            return Watching(
                previous_id=old.get("previous_id") or _GONE,
                experiment_id=experiment,
                promoted_at=old.get("promoted_at") or old["phase_since"],
                before=before_arm,
            )
