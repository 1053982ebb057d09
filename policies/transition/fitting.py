"""What fits: whether an action has something to act on, and has not been done yet."""

from __future__ import annotations

from policies.actions import (
    AbandonModel,
    AcceptModel,
    Action,
    BeginEpoch,
    BeginPromotion,
    CancelRun,
    Challenge,
    FailCheck,
    FailPromotion,
    FailRun,
    FinishWatch,
    HaltWatch,
    PrepareData,
    Promote,
    RaiseShare,
    Recover,
    Redeploy,
    Refuse,
    Reject,
    ReleaseControl,
    RenewWatch,
    RestartDeployment,
    Retire,
    ReturnTraffic,
    RollBack,
    SetPaused,
    SetShare,
    StartCheck,
    StartDeployment,
    StartExperiment,
    StartShadow,
    StartTraining,
    tag_of,
    target_of,
)
from policies.state import Checking, Deploying, Idle, Promoting, Shadowing, Testing, Training, Watching
from policies.transition.values import Position
from policies.vocabulary import action_label


def stale(position: Position, action: Action) -> str | None:
    """Why the action does not fit the position (any more): it was done before, or acts on what is not there. None: it
    fits, and has not been done."""
    if _fits(position, action):
        return None
    target = f" ({target_of(action)})" if target_of(action) else ""
    return f"“{action_label(tag_of(action))}”{target} no longer fits: the phase is {position.state.phase.name}"


def _fits(position: Position, action: Action) -> bool:
    """Whether the position has what the action acts on, and not yet what the action leads to."""
    match action, position.state.phase:
        case Retire(model_id=model), _:
            return any(left.id == model for left in position.state.ledger.retiring)
        case ((Redeploy() | Challenge()), Idle()) | ((SetPaused() | Refuse()), _):
            return True
        case Recover(), phase:
            return not isinstance(phase, Idle)
        case _:
            return _fits_before_users(position, action) or _fits_with_users(position, action)


def _fits_before_users(position: Position, action: Action) -> bool:
    """Of what is done until the challenger has its first users."""
    ledger, handed_over = position.state.ledger, "handle" in (position.challenger.detail if position.challenger else {})
    match action, position.state.phase:
        case PrepareData(run_id=run), Idle():
            return run != ledger.last_run_id
        case StartTraining(run_id=run), Training(run_id=mine):
            return run == mine and (position.run is None or position.run.handle is None)
        case ((AcceptModel(run_id=run) | FailRun(run_id=run)), Training(run_id=mine)):
            return run == mine
        case CancelRun(run_id=run, model_id=None), (
            Training(run_id=mine) | Deploying(run_id=mine) | Checking(run_id=mine) | Shadowing(run_id=mine)
        ):
            return run is not None and run == mine
        case CancelRun(run_id=run, model_id=model), (
            Deploying(run_id=mine, challenger_id=challenger)
            | Checking(run_id=mine, challenger_id=challenger)
            | Shadowing(run_id=mine, challenger_id=challenger)
        ):
            return (run, model) == (mine, challenger)
        case StartDeployment(model_id=model), Deploying(challenger_id=mine):
            return model == mine and not handed_over
        case StartCheck(model_id=model), Deploying(challenger_id=mine):
            return model == mine
        case RestartDeployment(model_id=model), (Deploying(challenger_id=mine) | Checking(challenger_id=mine)):
            return model == mine and handed_over
        case AbandonModel(model_id=model), (
            Deploying(challenger_id=mine) | Checking(challenger_id=mine) | Shadowing(challenger_id=mine)
        ):
            return model == mine
        case StartShadow(model_id=model), Checking(challenger_id=mine):
            return model == mine
        case FailCheck(model_id=model, check_id=check), (
            Checking(challenger_id=mine, check_id=running) | Shadowing(challenger_id=mine, check_id=running)
        ):
            return (model, check) == (mine, running)
        case (
            (StartExperiment(model_id=model) | BeginPromotion(model_id=model, experiment_id=None)),
            (Checking(challenger_id=mine) | Shadowing(challenger_id=mine)),
        ):
            return model == mine
        case _:
            return False


def _fits_with_users(position: Position, action: Action) -> bool:
    """Of what is done from then on."""
    match action, position.state.phase:
        case (
            (
                SetShare(experiment_id=test, epoch=epoch)
                | RaiseShare(experiment_id=test, epoch=epoch)
                | BeginEpoch(experiment_id=test, epoch=epoch)
            ),
            Testing(experiment_id=mine),
        ):
            return test == mine and (epoch is None or position.experiment is None or epoch == position.experiment.epoch)
        case (
            (
                BeginPromotion(model_id=model, experiment_id=test)
                | RollBack(model_id=model, experiment_id=test)
                | Reject(model_id=model, experiment_id=test)
            ),
            Testing(challenger_id=mine, experiment_id=running),
        ):
            return model == mine and test == running
        case RollBack(model_id=model, experiment_id=test), Promoting(challenger_id=mine, experiment_id=tested):
            return model == mine and test in (None, tested)
        case ((Promote(model_id=model) | FailPromotion(model_id=model)), Promoting(challenger_id=mine)):
            return model == mine
        case ReleaseControl(model_id=model), Watching(previous_id=mine, holdback_share=held):
            return model == mine and held > 0.0
        case RenewWatch(model_id=model, epoch=ended), Watching(previous_id=mine, holdback_share=held):
            watched = position.experiment
            return model == mine and held > 0.0 and watched is not None and ended == watched.epoch
        case (
            (ReturnTraffic(model_id=model) | FinishWatch(model_id=model) | HaltWatch(model_id=model)),
            Watching(previous_id=mine),
        ):
            return model == mine
        case _:
            return False
