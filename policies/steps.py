"""What each phase wants at one look: an action, or the time of the next look, and the reasons for it.

One function a phase, each a straight list of cases; what nobody could observe holds. `policies/plan.py` puts
commands, pauses and waits around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, assert_never

from policies import wording
from policies.actions import (
    AbandonModel,
    AcceptModel,
    BeginEpoch,
    BeginPromotion,
    FailCheck,
    FailPromotion,
    FailRun,
    FinishWatch,
    HaltWatch,
    PrepareData,
    Promote,
    RaiseShare,
    Recover,
    Reject,
    ReleaseControl,
    RenewWatch,
    RestartDeployment,
    ReturnTraffic,
    RollBack,
    StartCheck,
    StartDeployment,
    StartExperiment,
    StartShadow,
    StartTraining,
)
from policies.experiment import Assessment, NextStage, Verdict
from policies.inspection import HOUR_S, Inspection, Step
from policies.lifecycle import Phase
from policies.promotion import WatchDecision
from policies.ramp import canary_share, planned_shares
from policies.snapshot import CheckView, ExperimentView, ModelView, RunStatus, new_run_id
from policies.terms import changes
from policies.wording import span

__all__ = ["PHASES", "first_share"]

_SHADOW_S: Final = 10.0
"""Between two looks at what the shadow has found: a challenger that is found to be worse is sent back by then."""
_HELD_S: Final = 30.0
"""Between two looks at a check that holds: what it lacks may be there by then."""
_CLOCKS_DIFFER_S: Final = 60.0
"""The clocks of two hosts may differ by this much without a word about it."""


def _idle(look: Inspection) -> Step:
    report, snapshot = look.triggers, look.snapshot
    due = tuple(progress.reason for progress in report.progress if progress.due)
    cooling = _rejection_cooldown_s(look)
    if report.fired is None:
        held = () if report.hold is None else (report.hold,)
        return Step(reasons=held + due or ("no trigger is due",), wake_s=_until_trigger(look))
    if cooling > 0:
        return Step(
            reasons=(
                f"the last challenger was rejected or rolled back; the next retrain can start in {span(cooling)}",
                *due,
            ),
            wake_s=cooling,
        )
    fired = next(progress.reason for progress in report.progress if progress.name is report.fired)
    run_id = new_run_id(snapshot, look.now)
    reasons = (f"a retrain is due: {fired}",)
    return Step(reasons=reasons, action=PrepareData(run_id=run_id, trigger=report.fired.value, train=look.rules.trains))


def _training(look: Inspection) -> Step:
    run, rules = look.snapshot.run, look.rules
    if run is None:
        return _lost("the phase is training, but its run is not in the database")
    said = f": {run.message}" if run.message else ""
    match run.status:
        case RunStatus.NOT_STARTED:
            return Step(
                reasons=(f"the training data of {run.id} is ready ({wording.many(run.samples or 0)} samples)",),
                action=StartTraining(run_id=run.id),
            )
        case RunStatus.SUCCEEDED:
            return Step(reasons=(f"{run.id} has returned a model",), action=AcceptModel(run_id=run.id))
        case RunStatus.FAILED:
            reason = run.message or "the trainer gave no reason"
        case RunStatus.LOST:
            reason = f"the trainer no longer knows the run{said}"
        case RunStatus.RUNNING | RunStatus.UNKNOWN:
            if look.phase_s <= rules.training_timeout_s:
                state = "training in progress" if run.status is RunStatus.RUNNING else "the trainer does not answer"
                left = rules.training_timeout_s - look.phase_s
                reasons = (f"{state} ({span(look.phase_s)}){said}", *_clock_behind(look, "cancel"))
                return Step(reasons=reasons, wake_s=min(rules.poll_s, left + 1))
            reason = f"it took longer than {span(rules.training_timeout_s)} (trainer.timeout_seconds)"
        case _:
            assert_never(run.status)
    return Step(reasons=(f"{run.id} failed: {reason}",), action=FailRun(run_id=run.id, reason=reason))


def _deploying(look: Inspection) -> Step:
    model, rules = look.snapshot.challenger, look.rules
    if model is None:
        return _lost("the phase is deploying, but its model is not in the database")
    if model.failed is not None:
        return _not_up(model, model.failed, look, may_pass=model.may_pass)
    if not model.deployed:
        return Step(reasons=(f"{model.name} is ready to be deployed",), action=StartDeployment(model_id=model.id))
    if model.ready:
        reason = f"{model.name} is healthy: it is compared with the champion before users see it"
        return Step(reasons=(reason,), action=StartCheck(model_id=model.id))
    if look.phase_s > rules.ready_timeout_s:
        last = f" (last: {model.waiting_for})" if model.waiting_for else ""
        limit = f"{span(rules.ready_timeout_s)} (deployer.ready_timeout_seconds)"
        return _not_up(model, f"it was not healthy within {limit}{last}", look, may_pass=True)
    waiting = model.waiting_for or "no answer yet"
    left = rules.ready_timeout_s - look.phase_s
    reasons = (f"waiting for {model.name}: {waiting}", _tried_until(model, left, look), *_clock_behind(look, "cancel"))
    return Step(reasons=reasons, wake_s=min(rules.poll_s, left + 1))


def _checking(look: Inspection) -> Step:
    model, check, ab_test = look.snapshot.challenger, look.snapshot.check, look.rules.ab_test
    if model is None or check is None:
        return _lost("the phase is checking, but its check or its challenger is not in the database")
    if not check.answers:
        reason = next(iter(check.reasons), "it answers no recorded request")
        return _not_up(model, reason, look, may_pass=check.may_pass)
    if (ended := _check_ended(model, check, look)) is not None:
        return ended
    if ab_test.shadow_share:
        said = f"{model.name} gets copies of {wording.share(ab_test.shadow_share)} of the requests"
        shadow = StartShadow(model_id=model.id, share=ab_test.shadow_share)
        return Step(reasons=(said, *check.reasons), action=shadow)
    return _to_users(model, check.reasons, look)


def _shadowing(look: Inspection) -> Step:
    model, check = look.snapshot.challenger, look.snapshot.check
    if model is None or check is None:
        return _lost("the phase is shadowing, but its check or its challenger is not in the database")
    ended = _check_ended(model, replace(check, done=True), look) if check.verdict is not None else None
    if ended is not None:
        return ended
    if (silence := _silence_s(model, look)) > look.rules.ready_timeout_s:
        reason = f"it has not answered its health check for {span(silence)}"
        return _not_up(model, reason, look, may_pass=False)
    left = look.rules.ab_test.shadow_hours * HOUR_S - look.phase_s
    if left > 0:
        said = f"{model.name} gets copies of live requests for another {span(left)}"
        return Step(reasons=(said, *check.reasons, *_clock_behind(look, "proceed")), wake_s=min(left + 0.01, _SHADOW_S))
    return _to_users(model, check.reasons, look)


def _check_ended(model: ModelView, check: CheckView, look: Inspection) -> Step | None:
    """What keeps the challenger from going on: a verdict, or none yet. None: nothing does."""
    if not check.done:
        reasons = (*check.reasons, *_clock_behind(look, "proceed")) or (f"{model.name} is being checked",)
        return Step(reasons=reasons, wake_s=look.rules.poll_s)
    if check.verdict == "reject":
        reason = next(iter(check.reasons), "its answers are worse than the champion's")
        sent_back = FailCheck(model_id=model.id, check_id=check.id, reason=reason)
        return Step(reasons=check.reasons or (reason,), action=sent_back)
    held = check.verdict == "hold" or (check.verdict == "undecided" and look.rules.undecided == "hold")
    if held:
        waits = "the check waits for a person: `ratchet proceed` starts the test, `ratchet cancel` gives the model up"
        wake_s = _HELD_S if check.verdict == "hold" else None
        return Step(reasons=(*check.reasons, waits) if check.reasons else (waits,), wake_s=wake_s)
    return None


def _to_users(model: ModelView, found: tuple[str, ...], look: Inspection) -> Step:
    """The first users, or all of them where nothing is tested."""
    if not look.rules.enable_ab_testing:
        reason = f"{model.name} was checked, and A/B testing is off (enable_ab_testing = false)"
        return Step(reasons=(reason, *found), action=BeginPromotion(model_id=model.id, experiment_id=None))
    share = first_share(look)
    reason = f"{model.name} was checked; {wording.share(share)} of the users go to it"
    return Step(reasons=(reason, *found), action=StartExperiment(model_id=model.id, share=share))


def first_share(look: Inspection) -> float:
    """Of the users, for a challenger whose test begins: a canary where there are users enough for one."""
    users, ab_test = look.snapshot.users_a_day, look.rules.ab_test
    canary = None if users is None else canary_share(users, ab_test.initial_challenger_traffic)
    return planned_shares(ab_test, canary)[0]


def _testing(look: Inspection) -> Step:
    snapshot, assessment = look.snapshot, look.assessment
    model, experiment = snapshot.challenger, snapshot.experiment
    if model is None or experiment is None or assessment is None:
        return _lost("the phase is testing, but its experiment or its challenger is not in the database")
    if experiment.terms is not None and (changed := changes(experiment.terms, look.rules.terms)):
        reason = f"evidence is collected afresh: {', '.join(changed)}"
        afresh = BeginEpoch(experiment_id=experiment.id, epoch=experiment.epoch, reason=reason)
        return Step(reasons=(reason,), action=afresh)
    back = RollBack(model_id=model.id, experiment_id=experiment.id)
    if (silence := _silence_s(model, look)) > look.rules.ready_timeout_s:
        reason = f"challenger {model.name} has not answered its health check for {span(silence)}"
        return Step(reasons=(reason, *assessment.reasons), action=replace(back, silent=True))
    match assessment.verdict:
        case Verdict.ROLL_BACK:
            return Step(reasons=assessment.reasons, action=back)
        case Verdict.REJECT:
            return Step(reasons=assessment.reasons, action=Reject(model_id=model.id, experiment_id=experiment.id))
        case Verdict.PROMOTE if look.rules.enable_auto_promotion:
            won = BeginPromotion(model_id=model.id, experiment_id=experiment.id)
            return Step(reasons=assessment.reasons, action=won)
        case Verdict.PROMOTE:
            waits = "the challenger has won and waits for `ratchet promote` (enable_auto_promotion = false)"
            return Step(reasons=(waits, *assessment.reasons))
        case Verdict.CONTINUE if assessment.next_stage is not None:
            return _on_the_ramp(experiment, assessment, assessment.next_stage)
        case Verdict.CONTINUE | Verdict.INCONCLUSIVE | Verdict.INVALID:
            return Step(reasons=assessment.reasons)
        case _:
            assert_never(assessment.verdict)


def _on_the_ramp(experiment: ExperimentView, assessment: Assessment, following: NextStage) -> Step:
    if following.waits:
        left_s = following.in_hours * HOUR_S
        return Step(reasons=assessment.reasons, wake_s=left_s + 0.01 if left_s else None)
    raised = RaiseShare(experiment_id=experiment.id, epoch=experiment.epoch, share=following.share)
    said = f"no harm so far: the challenger's share rises to {wording.share(following.share)}"
    return Step(reasons=(said, *assessment.reasons), action=raised)


def _promoting(look: Inspection) -> Step:
    model = look.snapshot.challenger
    if model is None:
        return _lost("the phase is promoting, but the winner is not in the database")
    if model.healthy:
        return Step(reasons=(f"{model.name} is healthy: all users go to it",), action=Promote(model_id=model.id))
    if look.phase_s > look.rules.ready_timeout_s:
        reason = f"it passed no health check for {span(look.rules.ready_timeout_s)} before the switch"
        return Step(
            reasons=(f"promotion of {model.name} called off: {reason}",),
            action=FailPromotion(model_id=model.id, reason=reason),
        )
    waits = f"waiting for {model.name} to pass a health check before the switch"
    return Step(reasons=(waits, *_clock_behind(look, "rollback")), wake_s=look.rules.poll_s)


def _watching(look: Inspection) -> Step:
    champion, old = look.snapshot.champion, look.snapshot.previous
    facts, assessment = look.snapshot.watch, look.watch
    if old is None or facts is None or assessment is None:
        return _lost("the phase is watching, but the old champion is not in the database")
    silence = _silence_s(champion, look)
    if silence > look.rules.ready_timeout_s and old.healthy:
        reason = f"champion {champion.name} has not answered its health check for {span(silence)}"
        return Step(reasons=(reason,), action=ReturnTraffic(model_id=old.id, silent=True))
    quiet = _silence_s(old, look)
    gone = quiet > look.rules.ready_timeout_s
    if assessment.concurrent and gone:
        said = f"{old.name} has not answered its health check for {span(quiet)}: {champion.name} gets all users"
        return Step(reasons=(said,), action=ReleaseControl(model_id=old.id, reason=said))
    match assessment.decision:
        case WatchDecision.RETURN:
            return Step(reasons=assessment.reasons, action=ReturnTraffic(model_id=old.id))
        case WatchDecision.FINISH:
            return Step(reasons=assessment.reasons, action=FinishWatch(model_id=old.id))
        case WatchDecision.HALT if assessment.remaining_hours <= 0 and gone:  # one missed health check is no death
            return Step(reasons=assessment.reasons, action=HaltWatch(model_id=old.id))
        case WatchDecision.KEEP if assessment.renews:
            said = "no harm so far: users and failures are counted afresh"
            return Step(reasons=(said, *assessment.reasons), action=RenewWatch(model_id=old.id, epoch=facts.epoch))
        case WatchDecision.HALT | WatchDecision.KEEP:
            left = max(assessment.remaining_hours * HOUR_S, 0.0)
            return Step(reasons=assessment.reasons, wake_s=left + 0.01 if left else None)
        case _:
            assert_never(assessment.decision)


def _clock_behind(look: Inspection, way_out: str) -> tuple[str, ...]:
    """What a clock that was set back does to the phase's time-out, and which verb does not wait for it."""
    behind_s = look.snapshot.phase_since - look.now
    if behind_s < _CLOCKS_DIFFER_S:
        return ()
    why = f"the clock is {span(behind_s)} behind the start of this phase, so its time-out does not run yet"
    return (f"{why} (`ratchet {way_out}` does not wait for it)",)


def _lost(reason: str) -> Step:
    return Step(reasons=(reason,), action=Recover(reason=reason))


def _tried_until(model: ModelView, left_s: float, look: Inspection) -> str:
    """What becomes of a model that goes on not answering: perhaps its URL was mistyped."""
    limit = look.rules.ready_timeout_s
    again = max(0, look.rules.deployment_retries - model.restarts)
    then = f"then it is tried {again} more time{'' if again == 1 else 's'}" if again else "then it is given up"
    left = f"it has {span(min(left_s, limit))} left to answer (deployer.ready_timeout_seconds), {then}"
    return f"{left}; `ratchet cancel` ends this at once"


def _not_up(model: ModelView, reason: str, look: Inspection, *, may_pass: bool) -> Step:
    """A deployment that came to nothing: another one, where that may help and there are any left, or the end of it."""
    left = look.rules.deployment_retries - model.restarts
    if not may_pass or left <= 0:
        said = f"{model.name} cannot be deployed: {reason}"
        return Step(reasons=(said,), action=AbandonModel(model_id=model.id, reason=reason))
    said = f"{model.name} is deployed again, {left} of {look.rules.deployment_retries} retries are left: {reason}"
    return Step(reasons=(said,), action=RestartDeployment(model_id=model.id, reason=reason))


def _until_trigger(look: Inspection) -> float | None:
    """Seconds until the schedule is due or a hold ends; None when neither has a date ahead."""
    dates = (look.triggers.schedule_at, look.triggers.hold_until)
    ahead = [date - look.now for date in dates if date is not None and date > look.now]
    return min(ahead) if ahead else None


def _rejection_cooldown_s(look: Inspection) -> float:
    rejected_at = look.snapshot.last_rejection_at
    if rejected_at is None:
        return 0.0
    cooldown = look.rules.ab_test.rejection_cooldown_hours * HOUR_S
    return min(rejected_at + cooldown - look.now, cooldown)


def _silence_s(model: ModelView, look: Inspection) -> float:
    since = model.unhealthy_since
    return 0.0 if model.healthy or since is None else max(0.0, look.now - since)


PHASES: Final[Mapping[Phase, Callable[[Inspection], Step]]] = MappingProxyType(
    {
        Phase.IDLE: _idle,
        Phase.TRAINING: _training,
        Phase.DEPLOYING: _deploying,
        Phase.CHECKING: _checking,
        Phase.SHADOWING: _shadowing,
        Phase.TESTING: _testing,
        Phase.PROMOTING: _promoting,
        Phase.WATCHING: _watching,
    }
)
"""Who decides in which phase."""
