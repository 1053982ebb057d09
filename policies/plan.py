"""What the loop does next: `plan(snapshot, rules, now) -> Plan`.

One function decides, and the status page, the metrics and `ratchet explain` call the same one, so that "why was
it not promoted?" has the answer of the code that did not promote it. At most one action per look; the loop then
looks again. What is unknown holds: a decision is only made on what was seen.

    commands of people come first, oldest first; one that does not fit the phase is refused with the reason
    then the phase decides (one function each, in policies/steps.py)
    then, when the phase wants nothing or has to wait, a model without traffic is stopped
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
    ReleaseControl,
    RenewWatch,
    RestartDeployment,
    Retire,
    ReturnTraffic,
    RollBack,
    StartCheck,
    StartDeployment,
    StartExperiment,
    StartShadow,
    StartTraining,
)
from policies.commands import answer
from policies.experiment import Assessment
from policies.inspection import Inspection, LoopRules, Step, look_at
from policies.lifecycle import Phase
from policies.promotion import WatchAssessment
from policies.snapshot import Command, Snapshot
from policies.state import Retiring, Retry, retry_of
from policies.steps import PHASES, first_share
from policies.triggers import TriggerReport
from policies.wording import span

__all__ = ["LoopRules", "Plan", "plan"]

_LONGEST_RETRY_S: Final = 3600.0
"""The longest wait after a failure, beside a check interval. A retry dated further ahead was written by a clock that
has been set back since: it does not wait."""
_LONGEST_DRAIN_S: Final = 7 * 86400.0
"""No open answer takes a week: a model due to stop later than that was dated by such a clock, too."""
_PROTECTIVE: Final = (RollBack, ReturnTraffic, ReleaseControl, RenewWatch, Retire, Recover, BeginEpoch)
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
    """The command that the action answers."""
    triggers: TriggerReport
    assessment: Assessment | None = None
    watch: WatchAssessment | None = None


def plan(snapshot: Snapshot, rules: LoopRules, now: float) -> Plan:
    """Decide what to do at `now` (Unix seconds). The same arguments give the same plan."""
    look = look_at(snapshot, rules, now)
    step = _obey(look) if snapshot.commands else PHASES[snapshot.phase](look)
    decided = Plan(
        action=step.action,
        wake_at=now if step.action else now + _sleep_s(look, step),
        reasons=step.reasons,
        command=step.command,
        triggers=look.triggers,
        assessment=look.assessment,
        watch=look.watch,
    )
    return _retire_due(_wait_after_failure(_respect_pause(decided, look, step), look, step), look)


def _obey(look: Inspection) -> Step:
    """The oldest command, as an action or a refusal."""
    command = look.snapshot.commands[0]
    share = first_share(look) if look.rules.enable_ab_testing else None
    action = answer(command, look.snapshot, look.now, trains=look.rules.trains, share=share)
    said = f"{command.who} asked for `{command.verb}`" + (f" ({command.why})" if command.why else "")
    reasons = (f"refused: {action.reason}", said) if isinstance(action, Refuse) else (said,)
    return Step(reasons=reasons, action=action, command=command)


def _respect_pause(decided: Plan, look: Inspection, step: Step) -> Plan:
    """A paused loop starts nothing, but still protects users."""
    action = decided.action
    if not look.snapshot.paused or action is None or decided.command is not None or isinstance(action, _PROTECTIVE):
        return decided
    return _hold(
        decided, action, "the loop is paused (`ratchet resume` ends the pause)", look.now + _sleep_s(look, step)
    )


def _wait_after_failure(decided: Plan, look: Inspection, step: Step) -> Plan:
    """An action that has just failed is not tried again before its time."""
    action = decided.action
    if action is None or decided.command is not None or (retry := retry_of(look.snapshot.retries, action)) is None:
        return decided
    last_resort = _last_resort(action, retry.reason)
    if retry.attempts >= look.rules.max_attempts and last_resort is not None:
        return replace(
            decided, action=last_resort, reasons=(f"given up after {retry.attempts} attempts", *decided.reasons)
        )
    wait_s = _wait_s(retry, look)
    if not wait_s:
        return decided
    return _hold(decided, action, _failed(retry, wait_s), look.now + min(wait_s, _sleep_s(look, step)))


def _wait_s(retry: Retry | None, look: Inspection) -> float:
    """Seconds until the next attempt; 0 where it may be made now."""
    wait_s = 0.0 if retry is None else retry.at - look.now
    return wait_s if 0.0 < wait_s <= _LONGEST_RETRY_S + look.rules.check_interval_s else 0.0


def _failed(retry: Retry, wait_s: float) -> str:
    return f"attempt {retry.attempts} failed ({retry.reason}); the next is in {span(wait_s)}"


def _last_resort(action: Action, reason: str) -> Action | None:
    """What is done instead of an action that fails again and again; None: it goes on being tried."""
    match action:
        case StartTraining(run_id=run_id) | AcceptModel(run_id=run_id):
            return FailRun(run_id=run_id, reason=reason)
        case (
            StartDeployment(model_id=model_id)
            | RestartDeployment(model_id=model_id)
            | StartCheck(model_id=model_id)
            | StartShadow(model_id=model_id)
            | StartExperiment(model_id=model_id)
        ):
            return AbandonModel(model_id=model_id, reason=reason)
        case _:
            return None


def _hold(decided: Plan, action: Action, reason: str, wake_at: float) -> Plan:
    return replace(decided, action=None, held=action, reasons=(reason, *decided.reasons), wake_at=wake_at)


def _retire_due(decided: Plan, look: Inspection) -> Plan:
    """When nothing else is done: stop a model whose open answers have had time to end, whoever waits longest first.

    One that could not be stopped waits for its own next attempt, behind those that are due by then: it holds up none.
    """
    if decided.action is not None or not (due := _due_to_stop(look)):
        return decided
    wait_s, _, model, retry = min(due, key=lambda one: one[:2])
    if retry is None or not wait_s:
        reasons = (f"{model.name} no longer has traffic", *decided.reasons)
        return replace(decided, action=Retire(model_id=model.id), held=None, reasons=reasons, wake_at=look.now)
    wake_at = min(decided.wake_at, look.now + wait_s)
    if decided.held is not None:
        return replace(decided, wake_at=wake_at)
    return _hold(
        decided, Retire(model_id=model.id), f"{model.name} is still running: {_failed(retry, wait_s)}", wake_at
    )


def _due_to_stop(look: Inspection) -> list[tuple[float, float, Retiring, Retry | None]]:
    """Models that may be stopped: how long each has to wait after a failure, and since when it is its turn."""
    due = []
    for model in look.snapshot.retiring:
        if not 0.0 < model.due_at - look.now <= _LONGEST_DRAIN_S:
            retry = retry_of(look.snapshot.retries, Retire(model_id=model.id))
            due.append((_wait_s(retry, look), model.due_at if retry is None else retry.at, model, retry))
    return due


def _usual_s(look: Inspection) -> float:
    """The longest sleep: shorter while a new model has users."""
    busy = look.snapshot.phase in (Phase.TESTING, Phase.PROMOTING, Phase.WATCHING)
    return min(look.rules.check_interval_s, look.rules.busy_interval_s) if busy else look.rules.check_interval_s


def _sleep_s(look: Inspection, step: Step) -> float:
    usual = _usual_s(look)
    due = [model.due_at - look.now for model in look.snapshot.retiring if model.due_at > look.now]
    wanted = [usual] if step.wake_s is None else [usual, max(step.wake_s, 0.0)]
    return min(*wanted, *due) if due else min(wanted)
