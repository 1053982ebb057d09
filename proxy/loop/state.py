"""What the loop remembers between two looks: one small value, written in the transaction of each action.

Everything else is looked up afresh. It is the row `loop` of the store's `loop_state` table; the drop detector,
which moves by the hour and not by actions, has the row `drop_detector`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from policies.actions import Action, target_of
from policies.experiment import ArmStats
from policies.lifecycle import Event, Phase, follow
from policies.snapshot import LoopTotals, Retiring, Retry

__all__ = ["DETECTOR_ENTRY", "STATE_ENTRY", "LoopState", "moved", "with_retry", "without_retry"]

STATE_ENTRY: Final = "loop"
DETECTOR_ENTRY: Final = "drop_detector"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """The loop's own memory. Instants are Unix seconds."""

    installed_at: float
    phase: Phase = Phase.IDLE
    phase_since: float
    reason: str = "installed"
    """Why the loop is in this phase."""
    paused: bool = False
    champion_id: int
    challenger_id: int | None = None
    previous_id: int | None = None
    """The old champion while a promotion is watched."""
    run_id: str | None = None
    experiment_id: int | None = None
    routes_version: int = 0
    """Of the route table that follows from this state."""
    config_id: int = 0
    """Settings in force at the last tick."""
    last_dataset_at: float | None = None
    """New quality samples count from here."""
    last_retrain_at: float | None = None
    """Cool-down and schedule count from here."""
    prior_dataset_at: float | None = None
    prior_retrain_at: float | None = None
    """Both as they were before the run under way: a failed run gives its samples and its turn back."""
    usable_samples: int | None = None
    """What selection kept at the last preparation, and …"""
    usable_at: float | None = None
    """… when that was."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What it dropped, by reason."""
    failures_in_a_row: int = 0
    last_failure_at: float | None = None
    last_rejection_at: float | None = None
    retries: tuple[Retry, ...] = ()
    retiring: tuple[Retiring, ...] = ()
    promoted_at: float | None = None
    before: ArmStats | None = None
    """The old champion's arm, frozen at the promotion."""
    baseline: float | None = None
    """Mean quality that a drop is measured against, frozen at install and at each promotion."""
    totals: LoopTotals = field(default_factory=LoopTotals)


def moved(state: LoopState, event: Event, reason: str, at: float) -> LoopState:
    """The state after `event`: the phase that the table names, and since when and why if it is another one.

    A new phase begins without the waits of the old one.
    """
    target = follow(state.phase, event)
    if target is state.phase:
        return state
    retries = tuple(retry for retry in state.retries if retry.action == "Retire")
    return replace(state, phase=target, phase_since=at, reason=reason, retries=retries)


def with_retry(state: LoopState, retry: Retry) -> LoopState:
    """With `retry` in the place of an earlier one for the same action on the same thing."""
    return replace(state, retries=(*_others(state, retry.action, retry.target), retry))


def without_retry(state: LoopState, action: Action) -> LoopState:
    """With nothing held against `action` any more."""
    return replace(state, retries=_others(state, type(action).__name__, target_of(action)))


def _others(state: LoopState, action: str, target: str) -> tuple[Retry, ...]:
    """All but those of this action on this thing; what an earlier version noted names no thing and is meant as well."""
    return tuple(retry for retry in state.retries if retry.action != action or retry.target not in ("", target))
