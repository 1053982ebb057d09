"""From a model to a server that answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from policies.actions import AbandonModel, Challenge, Redeploy, RestartDeployment, StartDeployment, tag_of, target_of
from policies.effects import Challenged, Declined, Done, Effect, Redeployed, Taken
from policies.lifecycle import Event
from policies.rows import BROUGHT, Model, ModelState
from policies.state import Deploying, Idle, Retry
from policies.transition.values import (
    Context,
    Position,
    Transition,
    challenger_of,
    check_ended,
    ended,
    expect,
    failed,
    moved,
    not_stopped,
    refused,
    stayed,
    undeployed,
    with_retry,
)

_RESTART_S: Final = 5.0
"""Wait before the second deployment of a model; doubles with each …"""
_LONGEST_RESTART_S: Final = 300.0
"""… up to this."""
_MOST_DOUBLINGS: Final = 20


def start_deployment(position: Position, action: StartDeployment, effect: Effect, now: Context) -> Transition:
    """`Taken`, with the deployer's handle; `Declined`: the model is abandoned."""
    if isinstance(effect, Declined):
        return _abandoned(position, effect.reason, Done(), now)
    model = challenger_of(position)
    reason = f"the deployer has accepted {model.name}"
    detail = {**model.detail, "handle": expect(effect, Taken).handle}
    model = replace(model, state=ModelState.DEPLOYING, detail=detail)
    done = stayed(position, Event.DEPLOYMENT_STARTED, reason, now, models=(model,))
    return replace(done, state=replace(done.state, since=now.at))  # its time to come up begins here


def restart_deployment(position: Position, action: RestartDeployment, effect: Effect, now: Context) -> Transition:
    """Its next deployment waits, longer each time."""
    model = challenger_of(position)
    restarts = int(model.detail.get("restarts", 0)) + 1
    reason = f"{model.name} did not start and is deployed again: {action.reason}"
    model = replace(model, detail={**undeployed(model), "restarts": restarts})
    again = StartDeployment(model_id=model.id)
    wait_s = min(_RESTART_S * 2.0 ** min(restarts - 1, _MOST_DOUBLINGS), _LONGEST_RESTART_S)
    retry = Retry(action=tag_of(again), target=target_of(again), at=now.at + wait_s, attempts=1, reason=action.reason)
    phase = Deploying(challenger_id=model.id, run_id=getattr(position.state.phase, "run_id", None))
    done = moved(
        position,
        Event.DEPLOYMENT_RESTARTED,
        phase,
        position.state.ledger,
        reason,
        now,
        models=(_not_reached(model),),
        checks=check_ended(position, "no_answer", now),
    )
    return replace(done, state=with_retry(done.state, retry))


def _not_reached(model: Model) -> Model:
    """Without what its deployer had named; the API key of one that a person brought is that person's."""
    credential = model.credential if model.detail.get(BROUGHT) else None
    return replace(model, state=ModelState.DEPLOYING, url=None, model=None, credential=credential)


def redeploy(position: Position, action: Redeploy, effect: Effect, now: Context) -> Transition:
    """It is no retrain: neither data nor cool-down nor totals know of it."""
    if isinstance(effect, Declined):
        return refused(position, effect.reason)
    said, ledger = expect(effect, Redeployed), position.state.ledger
    reason = f"{said.model.name} of {said.run.id} is deployed again: {now.why}"
    detail = {**undeployed(said.model), "restarts": 0, "redeployed": True, "handle": said.handle}
    model = replace(
        said.model, state=ModelState.DEPLOYING, url=None, model=None, credential=None, retired_us=None, detail=detail
    )
    run = replace(said.run, state="trained", error=None)
    ledger = replace(ledger, retiring=tuple(left for left in ledger.retiring if left.id != model.id))
    phase = Deploying(challenger_id=model.id, run_id=run.id)
    outcome = {"model": model.name}
    return moved(position, Event.REDEPLOYED, phase, ledger, reason, now, models=(model,), runs=(run,), outcome=outcome)


def challenge(position: Position, action: Challenge, effect: Effect, now: Context) -> Transition:
    """`Challenged`; `Declined`: the command is refused. It is no retrain: neither data nor totals know of it."""
    if isinstance(effect, Declined):
        return refused(position, effect.reason)
    said = expect(effect, Challenged)
    detail = {**said.model.detail, "handle": said.handle}
    model = replace(said.model, state=ModelState.DEPLOYING, detail=detail)
    reason = f"{model.name} is brought as the challenger: {now.why}"
    phase = Deploying(challenger_id=model.id, run_id=None)
    outcome = {"model": model.name}
    return moved(
        position, Event.CHALLENGED, phase, position.state.ledger, reason, now, models=(model,), outcome=outcome
    )


def abandon(position: Position, action: AbandonModel, effect: Effect, now: Context) -> Transition:
    """`Stopped`. What could not be stopped retires beside whatever comes next."""
    return _abandoned(position, action.reason, effect, now)


def _abandoned(position: Position, why: str, effect: Effect, now: Context) -> Transition:
    """The model stays, row and files: `ratchet deploy` serves it once what was in its way is gone."""
    model = challenger_of(position)
    ledger = not_stopped(position.state.ledger, model, effect, now)
    if position.run is not None and not model.detail.get("redeployed"):  # else the retrain had failed, or had its test
        ledger = failed(ledger, now)
    runs = ended(position, "failed", now, why)
    model = replace(model, state=ModelState.FAILED, retired_us=now.at_us)
    reason = f"{model.name} cannot be deployed: {why}"
    checks = check_ended(position, "no_answer", now)
    return moved(
        position, Event.DEPLOYMENT_FAILED, Idle(), ledger, reason, now, models=(model,), runs=runs, checks=checks
    )
