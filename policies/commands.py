"""What a person's command means in the situation at hand: an action, or a refusal that says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from policies.actions import (
    Action,
    BeginPromotion,
    CancelRun,
    Challenge,
    PrepareData,
    Redeploy,
    Refuse,
    ReturnTraffic,
    RollBack,
    SetPaused,
    SetShare,
    StartExperiment,
)
from policies.lifecycle import Phase
from policies.rewrite import Rewrite, RewriteError
from policies.snapshot import Command, Snapshot, new_run_id
from policies.triggers import Trigger
from policies.vocabulary import Verb

__all__ = ["answer"]

_BEFORE_USERS: Final = (Phase.TRAINING, Phase.DEPLOYING, Phase.CHECKING, Phase.SHADOWING)


def answer(command: Command, snapshot: Snapshot, now: float, *, trains: bool, share: float | None) -> Action:
    """The action that `command` stands for at `now`; a `Refuse` where it does not fit the phase.

    `share` of the users (0 to 1) is what a challenger begins with; None where A/B testing is off.
    """
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
            return _deploy(command, snapshot, now)
        case Verb.CHALLENGE:
            return _challenge(command, snapshot, now)
        case Verb.PROCEED:
            return _proceed(snapshot, share)
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
    if snapshot.phase in _BEFORE_USERS and (snapshot.run is not None or snapshot.challenger is not None):
        run, model = snapshot.run, snapshot.challenger
        return CancelRun(run_id=run.id if run else None, model_id=model.id if model else None)
    hint = "; use `ratchet rollback`" if snapshot.phase in (Phase.TESTING, Phase.PROMOTING, Phase.WATCHING) else ""
    return Refuse(reason=f"no run is under way: the phase is {snapshot.phase.value}{hint}")


def _share(command: Command, snapshot: Snapshot) -> Action:
    share = command.args.get("share")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 < share < 1.0:
        return Refuse(reason=f"share: {share} is not between 0 and 1 (a share of users)")
    if snapshot.phase is not Phase.TESTING or snapshot.experiment is None:
        return Refuse(reason=f"no challenger is being tested: the phase is {snapshot.phase.value}")
    return SetShare(experiment_id=snapshot.experiment.id, epoch=snapshot.experiment.epoch, share=float(share))


def _deploy(command: Command, snapshot: Snapshot, now: float) -> Action:
    """Which model the run has returned, only its row knows: what executes this may still refuse it."""
    run_id, path = _text(command, "run"), _text(command, "path")
    if run_id is None and path is None:
        return Refuse(reason="run: name a run, or the path of a model, as in `ratchet deploy RUN`")
    if (busy := _one_challenger(snapshot)) is not None:
        return busy
    if run_id is not None:
        return Redeploy(run_id=run_id)
    return Challenge(name=_text(command, "name") or _new_name(snapshot, now), path=path)


def _challenge(command: Command, snapshot: Snapshot, now: float) -> Action:
    """Whether there is such a name already, only what executes this finds out."""
    url, model = _text(command, "url"), _text(command, "model")
    try:
        rewrite = json.loads(_text(command, "rewrite") or "null")
    except (ValueError, RecursionError) as exc:
        return Refuse(reason=f"rewrite: it is no JSON: {exc}")
    if url is None and model is None and not rewrite:
        return Refuse(reason="url: name an endpoint, a model, or a rewrite; else the challenger is the champion itself")
    if rewrite is not None and not isinstance(rewrite, Mapping):
        return Refuse(reason="rewrite: it is no JSON object")
    if rewrite:
        try:  # here, for what cannot be written down must not become an action
            Rewrite.of(rewrite)
        except RewriteError as exc:
            return Refuse(reason=str(exc))
    if (busy := _one_challenger(snapshot)) is not None:
        return busy
    name = _text(command, "name") or _new_name(snapshot, now)
    credential = _text(command, "credential")
    return Challenge(name=name, url=url, model=model, credential=credential, rewrite=rewrite or None)


def _one_challenger(snapshot: Snapshot) -> Refuse | None:
    if snapshot.phase is Phase.IDLE:
        return None
    return Refuse(reason=f"one challenger at a time: the phase is {snapshot.phase.value}, not idle")


def _text(command: Command, name: str) -> str | None:
    """An argument that is text, and not empty."""
    value = command.args.get(name)
    return value if isinstance(value, str) and value else None


def _new_name(snapshot: Snapshot, now: float) -> str:
    return new_run_id(snapshot, now).replace("run-", "challenger-", 1)


def _proceed(snapshot: Snapshot, share: float | None) -> Action:
    if snapshot.phase not in (Phase.CHECKING, Phase.SHADOWING) or snapshot.challenger is None:
        return Refuse(reason=f"no challenger is being checked: the phase is {snapshot.phase.value}")
    if share is None:
        return BeginPromotion(model_id=snapshot.challenger.id, experiment_id=None)
    return StartExperiment(model_id=snapshot.challenger.id, share=share)
