"""What a person's command means in the situation at hand: an action, or a refusal that says why."""

from __future__ import annotations

from policies.actions import (
    Action,
    BeginPromotion,
    CancelRun,
    PrepareData,
    Redeploy,
    Refuse,
    ReturnTraffic,
    RollBack,
    SetPaused,
    SetShare,
)
from policies.lifecycle import Phase
from policies.snapshot import Command, Snapshot, new_run_id
from policies.triggers import Trigger
from policies.vocabulary import Verb

__all__ = ["answer"]


def answer(command: Command, snapshot: Snapshot, now: float, *, trains: bool) -> Action:
    """The action that `command` stands for at `now`; a `Refuse` where it does not fit the phase."""
    match command.verb:
        case Verb.TRIGGER:
            return _trigger(command, snapshot, now, trains)
        case Verb.PROMOTE:
            return _promote(snapshot)
        case Verb.ROLLBACK:
            return _roll_back(snapshot)
        case Verb.CANCEL:
            return _cancel(snapshot)
        case Verb.SHARE:
            return _share(command, snapshot)
        case Verb.DEPLOY:
            return _deploy(command, snapshot)
        case Verb.PAUSE | Verb.RESUME:
            return SetPaused(paused=command.verb == Verb.PAUSE)
        case _:
            return Refuse(reason=f"there is no such command; there are {', '.join(verb.value for verb in Verb)}")


def _trigger(command: Command, snapshot: Snapshot, now: float, trains: bool) -> Action:
    if snapshot.phase is not Phase.IDLE:
        return Refuse(reason=f"one retrain at a time: the phase is {snapshot.phase.value}, not idle")
    return PrepareData(
        run_id=new_run_id(snapshot, now),
        trigger=Trigger.MANUAL.value,
        train=trains and not command.args.get("no_train", False),
    )


def _promote(snapshot: Snapshot) -> Action:
    if snapshot.phase is not Phase.TESTING or snapshot.challenger is None:
        return Refuse(reason=f"no challenger is being tested: the phase is {snapshot.phase.value}")
    experiment_id = snapshot.experiment.id if snapshot.experiment else None
    return BeginPromotion(model_id=snapshot.challenger.id, experiment_id=experiment_id)


def _roll_back(snapshot: Snapshot) -> Action:
    if snapshot.phase in (Phase.TESTING, Phase.PROMOTING) and snapshot.challenger is not None:
        experiment_id = snapshot.experiment.id if snapshot.experiment else None
        return RollBack(model_id=snapshot.challenger.id, experiment_id=experiment_id)
    if snapshot.phase is not Phase.WATCHING or snapshot.previous is None:
        return Refuse(reason=f"there is nothing to roll back: the phase is {snapshot.phase.value}")
    if snapshot.previous.healthy is False:
        return Refuse(reason=f"the old champion {snapshot.previous.name} does not answer; traffic stays where it is")
    return ReturnTraffic(model_id=snapshot.previous.id)


def _cancel(snapshot: Snapshot) -> Action:
    if snapshot.phase in (Phase.TRAINING, Phase.DEPLOYING) and snapshot.run is not None:
        model = snapshot.challenger
        return CancelRun(run_id=snapshot.run.id, model_id=model.id if model else None)
    hint = "; use `ratchet rollback`" if snapshot.phase in (Phase.TESTING, Phase.PROMOTING, Phase.WATCHING) else ""
    return Refuse(reason=f"no run is under way: the phase is {snapshot.phase.value}{hint}")


def _share(command: Command, snapshot: Snapshot) -> Action:
    share = command.args.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
        return Refuse(reason=f"share: {share} is not between 0 and 1 (a share of users)")
    if snapshot.phase is not Phase.TESTING or snapshot.experiment is None:
        return Refuse(reason=f"no challenger is being tested: the phase is {snapshot.phase.value}")
    return SetShare(experiment_id=snapshot.experiment.id, epoch=snapshot.experiment.epoch, share=float(share))


def _deploy(command: Command, snapshot: Snapshot) -> Action:
    """Which model the run has returned, only its row knows: what executes this may still refuse it."""
    run_id = command.args.get("run")
    if not isinstance(run_id, str) or not run_id:
        return Refuse(reason="run: name the run whose model is to be served, as in `ratchet deploy RUN`")
    if snapshot.phase is not Phase.IDLE:
        return Refuse(reason=f"one challenger at a time: the phase is {snapshot.phase.value}, not idle")
    return Redeploy(run_id=run_id)
