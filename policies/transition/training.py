"""From a trigger to a model."""

from __future__ import annotations

from dataclasses import replace

from policies.actions import AcceptModel, CancelRun, FailRun, PrepareData, StartTraining, tag_of
from policies.effects import Declined, Effect, Prepared, Taken, Trained
from policies.lifecycle import Event
from policies.rows import Model, ModelState, Run
from policies.state import Deploying, Idle, LastRun, Retry, Training
from policies.transition.values import (
    Context,
    Position,
    Transition,
    check_ended,
    count,
    ended,
    expect,
    failed,
    moved,
    not_stopped,
    phase_of,
    run_of,
    stayed,
    with_retry,
)
from policies.triggers import too_few_samples
from policies.wording import counted


def prepare(position: Position, action: PrepareData, effect: Effect, now: Context) -> Transition:
    """`Prepared` or `Declined`. What is in the dataset decides where the run goes: to the trainer, or no further."""
    ledger = position.state.ledger
    if now.manual and action.train:  # a person has looked, and wants another
        ledger = replace(ledger, rejections_in_a_row=0)
    run = Run(id=action.run_id, state="preparing", trigger=action.trigger, started_us=now.at_us)
    if isinstance(effect, Declined):
        reason = f"the dataset of {run.id} could not be written: {effect.reason}"
        ledger = failed(replace(ledger, last_run_id=run.id, totals=count(ledger.totals, "runs")), now)
        run = replace(run, state="failed", ended_us=now.at_us, error=effect.reason)
        return moved(position, Event.DATASET_FAILED, Idle(), ledger, reason, now, runs=(run,))
    said = expect(effect, Prepared)
    run = replace(run, manifest=said.manifest, trainer=said.trainer)
    ledger = replace(
        ledger,
        last_run_id=run.id,
        totals=count(ledger.totals, "runs"),
        usable_samples=said.usable,
        usable_at=now.at,
        left_out=said.left_out,
    )
    too_few = too_few_samples(said.usable, now.rules.trigger, said.left_out)
    if too_few is not None:
        run = replace(run, state="too_small", ended_us=now.at_us, error=too_few)
        retry = Retry(action=tag_of(action), at=now.at + now.rules.check_interval_s, attempts=1, reason=too_few)
        done = moved(position, Event.DATASET_TOO_SMALL, Idle(), ledger, too_few, now, runs=(run,))
        return replace(done, state=with_retry(done.state, retry))
    samples, path = said.manifest["samples"], said.manifest["data_path"]
    outcome = {"samples": samples, "data_path": path}
    last_run = LastRun(dataset_at=now.at, retrain_at=now.at)
    if action.train:
        reason = f"{counted(samples, 'sample')} for run {run.id} (trigger {run.trigger})"
        phase, run = Training(run_id=run.id, before=ledger.last), replace(run, state="prepared")
        ledger = replace(ledger, last=last_run)
        return moved(position, Event.DATASET_READY, phase, ledger, reason, now, runs=(run,), outcome=outcome)
    reason = f"{counted(samples, 'sample')} in {path}; no training follows"
    # Asked for by a person it is a rehearsal and starts no cool-down; without a trainer it is all there is.
    ledger = ledger if now.manual else replace(ledger, last=last_run)
    run = replace(run, state="data_only", ended_us=now.at_us)
    return moved(position, Event.DATASET_ONLY, Idle(), ledger, reason, now, runs=(run,), outcome=outcome)


def start_training(position: Position, action: StartTraining, effect: Effect, now: Context) -> Transition:
    """`Taken`, with the trainer's handle; `Declined`: the run has failed."""
    if isinstance(effect, Declined):
        return _training_failed(position, effect.reason, now)
    run = replace(run_of(position), state="training", handle=expect(effect, Taken).handle)
    reason = f"the {run.trainer} trainer has accepted run {run.id}"
    return stayed(position, Event.TRAINING_STARTED, reason, now, runs=(run,))


def accept(position: Position, action: AcceptModel, effect: Effect, now: Context) -> Transition:
    """`Trained`. Failures in a row end here, whatever becomes of the model; its row was written with the effect."""
    said, run, ledger = expect(effect, Trained), run_of(position), position.state.ledger
    reason = f"{run.id} returned {said.model.name}"
    ledger = replace(ledger, totals=count(ledger.totals, "retrains"), failures_in_a_row=0)
    run = replace(run, state="trained", ended_us=now.at_us, result=said.result)
    phase = Deploying(challenger_id=said.model.id, run_id=run.id)
    outcome = {"model": said.model.name}
    return moved(position, Event.TRAINED, phase, ledger, reason, now, runs=(run,), outcome=outcome)


def fail_run(position: Position, action: FailRun, effect: Effect, now: Context) -> Transition:
    """Training has failed, timed out or was lost; what it was asked to stop with makes no difference."""
    return _training_failed(position, action.reason, now)


def _training_failed(position: Position, why: str, now: Context) -> Transition:
    """The data is kept, and its samples count again for the next trigger."""
    run, phase = run_of(position), phase_of(position, Training)
    ledger = replace(position.state.ledger, last=phase.before)
    ledger = failed(ledger, now)
    run = replace(run, state="failed", ended_us=now.at_us, error=why)
    return moved(position, Event.TRAINING_FAILED, Idle(), ledger, f"{run.id} failed: {why}", now, runs=(run,))


def cancel(position: Position, action: CancelRun, effect: Effect, now: Context) -> Transition:
    """Before users have seen anything of it. The cool-down stays: nobody wants it back at once."""
    model, ledger = position.challenger, position.state.ledger
    runs = () if action.run_id is None else ended(position, "cancelled", now, "cancelled by a person")
    models: tuple[Model, ...] = ()
    if model is not None:
        ledger = not_stopped(ledger, model, effect, now)
        models = (replace(model, state=ModelState.FAILED, retired_us=now.at_us),)
    what = action.run_id or (model.name if model is not None else "the challenger")
    reason = f"{what} was cancelled: {now.why}"
    checks = check_ended(position, "cancelled", now)
    return moved(position, Event.RUN_CANCELLED, Idle(), ledger, reason, now, models=models, runs=runs, checks=checks)
