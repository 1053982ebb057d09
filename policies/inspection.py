"""One look: what was seen, the rules it is judged by, what the statistics say of it, and what a phase may want of it.

`policies.steps` has what each phase makes of a look, `policies.plan` what comes of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from policies.actions import Action
from policies.experiment import ABTestConfig, Assessment, evaluate
from policies.lifecycle import Phase
from policies.promotion import WatchAssessment, watch
from policies.snapshot import Command, Snapshot
from policies.triggers import TriggerConfig, TriggerReport, evaluate_triggers

__all__ = ["HOUR_S", "Inspection", "LoopRules", "Step", "look_at"]

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRules:
    """The settings that decisions depend on."""

    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    ab_test: ABTestConfig = field(default_factory=ABTestConfig)
    enable_ab_testing: bool = True
    enable_auto_promotion: bool = True
    trains: bool = True
    """False where no trainer is configured: data is prepared, and that is all."""
    check_interval_s: float = 3600.0
    """Longest time between two looks."""
    busy_interval_s: float = 60.0
    """Longest time between two looks while a challenger or a new champion has users."""
    poll_s: float = 5.0
    """Between two looks at a training or a deployment."""
    terms: Mapping[str, str] = field(default_factory=dict)
    """Settings that say what is measured and how it is weighed, as JSON by their path; an epoch has the same ones."""
    training_timeout_s: float = 86400.0
    ready_timeout_s: float = 600.0
    """For a deployment to become healthy, and for a model that has stopped answering to come back."""
    deployment_retries: int = 0
    """Deployments of a model that did not come up for a reason that may pass, before its run is given up."""
    undecided: Literal["canary", "hold"] = "canary"
    """What becomes of a challenger whose check could not decide: the test, or a person is asked."""
    max_attempts: int = 5
    """Failures in a row of one step of a retrain before the retrain is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a phase wants: an action, or the next look."""

    reasons: tuple[str, ...]
    action: Action | None = None
    wake_s: float | None = None
    """Seconds until the next look; None for the usual interval."""
    command: Command | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One look: the snapshot, the rules, and what the statistics say of them."""

    snapshot: Snapshot
    rules: LoopRules
    now: float
    triggers: TriggerReport
    assessment: Assessment | None
    watch: WatchAssessment | None

    @property
    def phase_s(self) -> float:
        """Seconds in this phase; never negative, whatever the clock did."""
        return max(0.0, self.now - self.snapshot.phase_since)


def look_at(snapshot: Snapshot, rules: LoopRules, now: float) -> Inspection:
    """Evaluate triggers, experiment and watch window, as far as the phase has them."""
    testing = snapshot.phase is Phase.TESTING and snapshot.experiment is not None
    watching = snapshot.phase is Phase.WATCHING and snapshot.watch is not None
    return Inspection(
        snapshot=snapshot,
        rules=rules,
        now=now,
        triggers=evaluate_triggers(snapshot.triggers, rules.trigger, now),
        assessment=evaluate(snapshot.experiment.facts, rules.ab_test, now) if testing and snapshot.experiment else None,
        watch=watch(snapshot.watch, rules.ab_test, now) if watching and snapshot.watch else None,
    )
