"""Who says what follows from which action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

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
from policies.effects import Effect
from policies.lifecycle import Event
from policies.state import LoopState, Retry, retry_of
from policies.transition.anytime import recover, refuse, retire, set_paused
from policies.transition.checking import fail_check, start_check, start_shadow
from policies.transition.deploying import abandon, challenge, redeploy, restart_deployment, start_deployment
from policies.transition.fitting import stale
from policies.transition.testing import (
    begin_epoch,
    begin_promotion,
    fail_promotion,
    finish_watch,
    halt_watch,
    promote,
    raise_share,
    reject,
    release_control,
    renew_watch,
    return_traffic,
    roll_back,
    set_share,
    start_experiment,
)
from policies.transition.training import accept, cancel, fail_run, prepare, start_training
from policies.transition.values import Context, Position, Transition, refused, with_retry, without_retry

LONGEST_RETRY_S: Final = 600.0
"""Between two attempts at an action that fails."""
_MOST_DOUBLINGS: Final = 20
"""What fails for weeks must not grow beyond a float."""

_APPLY: Final[Mapping[type[Action], Callable[..., Transition]]] = MappingProxyType(
    {
        PrepareData: prepare,
        StartTraining: start_training,
        AcceptModel: accept,
        FailRun: fail_run,
        CancelRun: cancel,
        StartDeployment: start_deployment,
        RestartDeployment: restart_deployment,
        Redeploy: redeploy,
        Challenge: challenge,
        StartCheck: start_check,
        StartShadow: start_shadow,
        FailCheck: fail_check,
        AbandonModel: abandon,
        StartExperiment: start_experiment,
        SetShare: set_share,
        RaiseShare: raise_share,
        BeginEpoch: begin_epoch,
        BeginPromotion: begin_promotion,
        Promote: promote,
        FailPromotion: fail_promotion,
        RollBack: roll_back,
        Reject: reject,
        ReturnTraffic: return_traffic,
        ReleaseControl: release_control,
        RenewWatch: renew_watch,
        FinishWatch: finish_watch,
        HaltWatch: halt_watch,
        Retire: retire,
        SetPaused: set_paused,
        Refuse: refuse,
        Recover: recover,
    }
)
"""Who says what follows from which action."""


def apply(position: Position, action: Action, effect: Effect, now: Context) -> Transition:
    """What follows from `action`, of which the outside made `effect`.

    A stale action is refused: the state stays, and no row changes. Raises TypeError for an effect that the action
    cannot have, LookupError where a row that the action needs is gone.
    """
    if (why := stale(position, action)) is not None:
        return refused(position, why)
    done = _APPLY[type(action)](position, action, effect, now)
    if done.event is Event.DATASET_TOO_SMALL:  # which sets a wait of its own
        return done
    return replace(done, state=without_retry(done.state, action))


def postpone(state: LoopState, action: Action, error: str, retry_after_s: float, at: float) -> tuple[LoopState, Retry]:
    """`action` could not be done at `at` (Unix seconds): it is tried again, later with each failure in a row."""
    before = retry_of(state.all_retries, action)
    attempts = 1 + (0 if before is None else before.attempts)
    wait_s = min(retry_after_s * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS), LONGEST_RETRY_S)
    retry = Retry(action=tag_of(action), target=target_of(action), at=at + wait_s, attempts=attempts, reason=error)
    if not isinstance(action, Retire):
        return with_retry(state, retry), retry
    left = tuple(replace(m, retry=retry) if m.id == action.model_id else m for m in state.ledger.retiring)
    return replace(state, ledger=replace(state.ledger, retiring=left)), retry
