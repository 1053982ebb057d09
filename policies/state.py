"""What the loop remembers between two looks: the phase, with what belongs to it alone, and a ledger common to all.

A value per phase: what a phase does not need it cannot have, so no phase keeps another's ids. Everything else is looked
up afresh. Instants are Unix seconds. Nothing but `policies.transition` makes one state from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from policies.actions import Action, tag_of, target_of
from policies.experiment import ArmStats
from policies.lifecycle import Phase

__all__ = ["Checking", "Deploying", "Idle", "LastRun", "Ledger", "LoopState", "LoopTotals", "PhaseState", "Promoting",
           "Retiring", "Retry", "Shadowing", "Testing", "Training", "Watching", "retry_of"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """An action that could not be done, and is tried again."""

    action: str
    """Tag of the action (`policies.actions`)."""
    target: str = ""
    """What it was to act on (`policies.actions.target_of`); empty: it is meant for all actions of that tag."""
    at: float
    """Not before this instant."""
    attempts: int
    """Failures in a row so far."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retiring:
    """A model without traffic whose server still runs, so that open answers can end."""

    id: int
    name: str
    due_at: float
    retry: Retry | None = None
    """Why it could not be stopped, and when that is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTotals:
    """Counts since installation. None goes down."""

    runs: int = 0
    """Datasets prepared, trained on or not."""
    retrains: int = 0
    failed_retrains: int = 0
    promotions: int = 0
    returns: int = 0
    """Promotions that were undone in the watch window."""
    rollbacks: Mapping[str, int] = field(default_factory=dict)
    """Challengers sent back, by reason: harm, manual, or promotion_failed (dead before the switch)."""
    rejections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """When the last dataset was written and the last retrain begun: samples, cool-down and schedule count from here."""

    dataset_at: float | None = None
    retrain_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Nothing under way."""

    name: Literal["idle"] = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A model is being made from a dataset."""

    run_id: str
    before: LastRun
    """As it was before this run: a failed run gives its samples and its turn back."""
    name: Literal["training"] = "training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploying:
    """A model's server is coming up."""

    challenger_id: int
    run_id: str | None
    name: Literal["deploying"] = "deploying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checking:
    """The challenger answers what the champion has answered, and both are compared. No user sees it."""

    challenger_id: int
    check_id: int
    run_id: str | None
    name: Literal["checking"] = "checking"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowing:
    """The challenger gets copies of live requests; its answers go to nobody."""

    challenger_id: int
    check_id: int
    run_id: str | None
    name: Literal["shadowing"] = "shadowing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Testing:
    """The challenger serves its share of the users."""

    challenger_id: int
    experiment_id: int
    run_id: str | None
    name: Literal["testing"] = "testing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoting:
    """The challenger is checked once more before it gets everybody."""

    challenger_id: int
    experiment_id: int | None
    """None where nothing was tested."""
    run_id: str | None
    name: Literal["promoting"] = "promoting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """The new champion has all traffic; the old one is kept warm."""

    previous_id: int
    experiment_id: int | None
    promoted_at: float
    before: ArmStats | None
    """The old champion's arm, frozen at the promotion."""
    holdback_share: float = 0.0
    """Of the users, who stay on the old champion as a control; 0: nobody."""
    name: Literal["watching"] = "watching"


PhaseState: TypeAlias = Idle | Training | Deploying | Checking | Shadowing | Testing | Promoting | Watching


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What outlives the phases."""

    installed_at: float
    champion_id: int
    paused: bool = False
    paused_at: float | None = None
    """Since when; None also where an earlier version has paused it."""
    routes_version: int = 0
    """Of the route table that follows from this state."""
    config_id: int = 0
    """Settings in force at the last tick."""
    last: LastRun = field(default_factory=LastRun)
    last_run_id: str = ""
    """The last dataset that was prepared."""
    usable_samples: int | None = None
    """What selection kept at the last preparation, and …"""
    usable_at: float | None = None
    """… when that was."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What it dropped, by reason."""
    failures_in_a_row: int = 0
    last_failure_at: float | None = None
    last_rejection_at: float | None = None
    rejections_in_a_row: int = 0
    """Challengers from trainings that were not better, since one was or a person went on (`policies.brakes`)."""
    baseline: float | None = None
    """Mean quality that a drop is measured against, frozen at install and at each promotion."""
    baseline_by: str = ""
    """Whose scores it is the mean of: a judge's (its scorer); empty for those that the records have."""
    retiring: tuple[Retiring, ...] = ()
    totals: LoopTotals = field(default_factory=LoopTotals)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """The loop's own memory."""

    phase: PhaseState = field(default_factory=Idle)
    since: float
    """In this phase; for a deployment since its model was handed over."""
    reason: str = "installed"
    """Why the loop is in this phase."""
    retries: tuple[Retry, ...] = ()
    """Of the phase's own actions: a new phase begins without them."""
    ledger: Ledger

    @property
    def phase_name(self) -> Phase:
        """The phase without what belongs to it."""
        return Phase(self.phase.name)

    @property
    def all_retries(self) -> tuple[Retry, ...]:
        """Those of the phase, and of models that could not be stopped."""
        return (*self.retries, *(left.retry for left in self.ledger.retiring if left.retry is not None))


def retry_of(retries: Iterable[Retry], action: Action) -> Retry | None:
    """What is known of failed attempts at `action`: at the same thing, else at whatever an earlier version tried."""
    tag, target = tag_of(action), target_of(action)
    found = {retry.target: retry for retry in retries if retry.action == tag}
    return found.get(target) or found.get("")
