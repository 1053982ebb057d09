"""What the loop does next: `plan(snapshot, rules, now) -> Plan`.

One function decides, and the status page, the metrics and `ratchet explain` call the same one, so that "why was
it not promoted?" has the answer of the code that did not promote it. At most one action per look; the loop then
looks again. What is unknown holds: a decision is only made on what was seen.

    commands of people come first, oldest first; one that does not fit the phase is refused with the reason
    then the phase decides (one function each, in policies/steps.py)
    then, when the phase wants nothing, a model without traffic is stopped
    a paused loop starts nothing, but still takes users away from harm; an action that has just failed waits
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from policies.actions import (
    AbandonModel,
    AcceptModel,
    Action,
    BeginEpoch,
    FailRun,
    Recover,
    Refuse,
    Retire,
    ReturnTraffic,
    RollBack,
    StartDeployment,
    StartExperiment,
    StartTraining,
)
from policies.experiment import Assessment
from policies.lifecycle import Phase
from policies.orders import answer
from policies.promotion import WatchAssessment
from policies.snapshot import Command, Snapshot
from policies.steps import PHASES, Look, LoopRules, Step, look_at, span
from policies.triggers import TriggerReport

__all__ = ["LoopRules", "Plan", "plan"]

_LONGEST_RETRY_S: Final = 3600.0
"""The longest wait after a failure, beside a check interval. A retry dated further ahead was written by a clock that
has been set back since: it does not wait."""
_LONGEST_DRAIN_S: Final = 7 * 86400.0
"""No open answer takes a week: a model due to stop later than that was dated by such a clock, too."""
_PROTECTIVE: Final = (RollBack, ReturnTraffic, Retire, Recover, BeginEpoch)
"""What a paused loop still does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The decision of one look."""

    action: Action | None
    wake_at: float
    """Look again then at the latest (Unix seconds)."""
    reasons: tuple[str, ...]
    """Plain English, the deciding one first."""
    held: Action | None = None
    """What would be done, were it not for a pause or a wait after a failure."""
    command: Command | None = None
    """The order that the action answers."""
    triggers: TriggerReport
    assessment: Assessment | None = None
    watch: WatchAssessment | None = None


def plan(snapshot: Snapshot, rules: LoopRules, now: float) -> Plan:
    """Decide what to do at `now` (Unix seconds). The same arguments give the same plan."""
    look = look_at(snapshot, rules, now)
    step = _obey(look) if snapshot.commands else PHASES[snapshot.phase](look)
    if step.action is None:
        step = _retire_due(look, step)
    decided = Plan(
        action=step.action,
        wake_at=now if step.action else now + _sleep_s(look, step),
        reasons=step.reasons,
        command=step.command,
        triggers=look.triggers,
        assessment=look.assessment,
        watch=look.watch,
    )
    return _wait_after_failure(_respect_pause(decided, look), look)


def _obey(look: Look) -> Step:
    """The oldest command, as an action or a refusal."""
    command = look.snapshot.commands[0]
    action = answer(command, look.snapshot, look.now, trains=look.rules.trains)
    said = f"{command.who} asked for `{command.verb}`" + (f" ({command.why})" if command.why else "")
    reasons = (f"refused: {action.reason}", said) if isinstance(action, Refuse) else (said,)
    return Step(reasons=reasons, action=action, command=command)


def _respect_pause(decided: Plan, look: Look) -> Plan:
    """A paused loop starts nothing, but still protects users."""
    action = decided.action
    if not look.snapshot.paused or action is None or decided.command is not None or isinstance(action, _PROTECTIVE):
        return decided
    return _hold(decided, action, "the loop is paused (`ratchet resume` lets it go on)", look.now + _usual_s(look))


def _wait_after_failure(decided: Plan, look: Look) -> Plan:
    """An action that has just failed is not tried again before its time."""
    action = decided.action
    retry = next((retry for retry in look.snapshot.retries if retry.action == type(action).__name__), None)
    if action is None or retry is None or decided.command is not None:
        return decided
    last_resort = _last_resort(action, retry.reason)
    if retry.attempts >= look.rules.max_attempts and last_resort is not None:
        return replace(
            decided, action=last_resort, reasons=(f"given up after {retry.attempts} attempts", *decided.reasons)
        )
    wait_s = retry.at - look.now
    if not 0.0 < wait_s <= _LONGEST_RETRY_S + look.rules.check_interval_s:
        return decided
    reason = f"attempt {retry.attempts} failed ({retry.reason}); the next is in {span(wait_s)}"
    return _hold(decided, action, reason, look.now + wait_s)


def _last_resort(action: Action, reason: str) -> Action | None:
    """What is done instead of an action that fails again and again; None: it goes on being tried."""
    match action:
        case StartTraining(run_id=run_id) | AcceptModel(run_id=run_id):
            return FailRun(run_id=run_id, reason=reason)
        case StartDeployment(model_id=model_id) | StartExperiment(model_id=model_id):
            return AbandonModel(model_id=model_id, reason=reason)
        case _:
            return None


def _hold(decided: Plan, action: Action, reason: str, wake_at: float) -> Plan:
    return replace(decided, action=None, held=action, reasons=(reason, *decided.reasons), wake_at=wake_at)


def _retire_due(look: Look, step: Step) -> Step:
    """When the phase wants nothing: stop the first model whose open answers have had time to end."""
    for model in look.snapshot.retiring:
        if not 0.0 < model.due_at - look.now <= _LONGEST_DRAIN_S:
            return Step(
                reasons=(f"{model.name} has no traffic any more", *step.reasons), action=Retire(model_id=model.id)
            )
    return step


def _usual_s(look: Look) -> float:
    """The longest sleep: shorter while a new model has users."""
    busy = look.snapshot.phase in (Phase.TESTING, Phase.PROMOTING, Phase.WATCHING)
    return min(look.rules.check_interval_s, look.rules.busy_interval_s) if busy else look.rules.check_interval_s


def _sleep_s(look: Look, step: Step) -> float:
    usual = _usual_s(look)
    due = [model.due_at - look.now for model in look.snapshot.retiring if model.due_at > look.now]
    wanted = [usual] if step.wake_s is None else [usual, max(step.wake_s, 0.0)]
    return min(*wanted, *due) if due else min(wanted)
