"""Do one action: call the trainer, the deployer or the dataset builder, and say what changes.

Nothing is written here. Every effect is idempotent by the id in the action, so that after a crash the same intent
is simply performed again; the tick writes the `ActionResult` in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from policies.actions import (
    AbandonModel,
    AcceptModel,
    Action,
    BeginEpoch,
    BeginPromotion,
    CancelRun,
    FailPromotion,
    FailRun,
    FinishWatch,
    HaltWatch,
    PrepareData,
    Promote,
    Recover,
    Redeploy,
    Refuse,
    Reject,
    RestartDeployment,
    Retire,
    ReturnTraffic,
    RollBack,
    SetPaused,
    SetShare,
    StartDeployment,
    StartExperiment,
    StartTraining,
)
from policies.lifecycle import Event
from proxy.loop.act.challengers import Challengers
from proxy.loop.act.context import ActionContext, ActionResult, changed, idle_model, refused, retiring
from proxy.loop.act.deployments import Deployments
from proxy.loop.act.runs import Runs
from proxy.store.store import Store

__all__ = ["Performer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performer:
    """Knows who performs which action."""

    store: Store
    runs: Runs
    deployments: Deployments
    challengers: Challengers

    async def perform(self, action: Action, now: ActionContext) -> ActionResult:
        """Raises TemporaryError where it may succeed later, PermanentError where it never will."""
        match action:
            case PrepareData():
                return await self.runs.prepare(action, now)
            case StartTraining():
                return await self.runs.start(action, now)
            case AcceptModel():
                return await self.runs.accept(action, now)
            case FailRun():
                return await self.runs.fail(action, now)
            case CancelRun():
                return await self.runs.cancel(action, now)
            case StartDeployment():
                return await self.deployments.deploy(action, now)
            case RestartDeployment():
                return await self.deployments.restart(action, now)
            case Redeploy():
                return await self.deployments.redeploy(action, now)
            case AbandonModel():
                return await self.deployments.abandon(action, now)
            case StartExperiment():
                return await self.challengers.start_experiment(action, now, await self.store.experiments.next_id())
            case SetShare():
                return await self.challengers.set_share(action, now)
            case BeginEpoch():
                return await self.challengers.begin_epoch(action, now)
            case BeginPromotion():
                return await self.challengers.begin_promotion(action, now)
            case Promote():
                return await self.challengers.promote(action, now)
            case FailPromotion():
                return await self.challengers.fail_promotion(action, now)
            case RollBack():
                return await self.challengers.roll_back(action, now)
            case Reject():
                return await self.challengers.reject(action, now)
            case ReturnTraffic():
                return await self.challengers.return_traffic(action, now)
            case FinishWatch():
                return await self.challengers.finish_watch(action, now)
            case HaltWatch():
                return await self.challengers.halt_watch(action, now)
            case Retire():
                return await self.challengers.retire(action, now, await self.store.models.get(action.model_id))
            case SetPaused():
                return _set_paused(action, now)
            case Refuse():
                return refused(now, action.reason)
            case Recover():
                return _recover(action, now, self.challengers.drain_s)
            case _:
                assert_never(action)


def _set_paused(action: SetPaused, now: ActionContext) -> ActionResult:
    event = Event.PAUSED if action.paused else Event.RESUMED
    return ActionResult(event=event, state=changed(now, event, now.reason, paused=action.paused), reason=now.reason)


def _recover(action: Recover, now: ActionContext, drain_s: float) -> ActionResult:
    """Back to idle with the champion alone; whatever else is left of the phase retires."""
    run, experiment = now.run, now.participants.experiment
    left = tuple(model for model in (now.participants.challenger, now.participants.previous) if model is not None)
    for model in left:
        now = replace(now, state=replace(now.state, retiring=retiring(now, model, drain_s)))
    state = changed(
        now,
        Event.RECOVERED,
        action.reason,
        run_id=None,
        challenger_id=None,
        previous_id=None,
        experiment_id=None,
        promoted_at=None,
        before=None,
    )
    lost = run is not None and run.ended_us is None
    open_ = experiment is not None and experiment.ended_us is None
    return ActionResult(
        event=Event.RECOVERED,
        state=state,
        reason=action.reason,
        models=tuple(idle_model(model) for model in left),
        runs=(replace(run, state="failed", error=action.reason, ended_us=now.at_us),) if run and lost else (),
        experiments=(replace(experiment, ended_us=now.at_us, verdict="lost"),) if experiment and open_ else (),
    )
