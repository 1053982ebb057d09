"""What may happen in any phase."""

from __future__ import annotations

from dataclasses import replace

from policies.actions import Recover, Refuse, Retire, SetPaused
from policies.effects import Effect, Stopped
from policies.lifecycle import Event
from policies.rows import Model, ModelState
from policies.state import Idle, Shadowing
from policies.transition.values import (
    Context,
    Position,
    Transition,
    check_ended,
    expect,
    idle,
    moved,
    refused,
    retiring,
    stayed,
)


def retire(position: Position, action: Retire, effect: Effect, now: Context) -> Transition:
    """A model without traffic was stopped."""
    model, ledger = expect(effect, Stopped).model, position.state.ledger
    name = next(left.name for left in ledger.retiring if left.id == action.model_id)
    ledger = replace(ledger, retiring=tuple(left for left in ledger.retiring if left.id != action.model_id))
    models: tuple[Model, ...] = ()
    if model is not None:
        end = ModelState.FAILED if model.state is ModelState.FAILED else ModelState.RETIRED
        models = (replace(model, state=end, retired_us=now.at_us),)
    done = stayed(position, Event.RETIRED, f"{name} is stopped", now, models=models)
    return replace(done, state=replace(done.state, ledger=ledger))


def set_paused(position: Position, action: SetPaused, effect: Effect, now: Context) -> Transition:
    """The flag, in whatever phase. A shadow gets no copies meanwhile, so its hours begin later by as much. Whoever lets
    the loop go on lets triggers train again, too."""
    event, ledger = Event.PAUSED if action.paused else Event.RESUMED, position.state.ledger
    done = stayed(position, event, now.why, now)
    since, paused_at = done.state.since, ledger.paused_at
    if isinstance(done.state.phase, Shadowing) and not action.paused and paused_at is not None:
        since += max(0.0, now.at - max(paused_at, since))
    if not (action.paused and ledger.paused):
        paused_at = now.at if action.paused else None
    rejections = ledger.rejections_in_a_row if action.paused else 0
    ledger = replace(ledger, paused=action.paused, paused_at=paused_at, rejections_in_a_row=rejections)
    return replace(done, state=replace(done.state, since=since, ledger=ledger))


def refuse(position: Position, action: Refuse, effect: Effect, now: Context) -> Transition:
    """A command that does not fit: nothing changes."""
    return refused(position, action.reason)


def recover(position: Position, action: Recover, effect: Effect, now: Context) -> Transition:
    """Back to idle with the champion alone; whatever else is left of the phase retires."""
    run, experiment, ledger = position.run, position.experiment, position.state.ledger
    left = tuple(model for model in (position.challenger, position.previous) if model is not None)
    for model in left:
        ledger = retiring(ledger, model, now)
    lost = run is not None and run.ended_us is None
    open_ = experiment is not None and experiment.ended_us is None
    return moved(
        position,
        Event.RECOVERED,
        Idle(),
        ledger,
        action.reason,
        now,
        models=tuple(idle(model) for model in left),
        checks=check_ended(position, "lost", now),
        runs=(replace(run, state="failed", error=action.reason, ended_us=now.at_us),) if run and lost else (),
        experiments=(replace(experiment, ended_us=now.at_us, verdict="lost"),) if experiment and open_ else (),
    )
