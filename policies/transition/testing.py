"""From a server that answers to a verdict, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from typing import Any

from policies import wording
from policies.actions import (
    BeginEpoch,
    BeginPromotion,
    FailPromotion,
    FinishWatch,
    HaltWatch,
    Promote,
    RaiseShare,
    Reject,
    ReleaseControl,
    RenewWatch,
    ReturnTraffic,
    RollBack,
    SetShare,
    StartExperiment,
)
from policies.effects import Begun, Counted, Effect, Measured, Served
from policies.lifecycle import Event
from policies.ramp import set_by_hand
from policies.rows import Experiment, ExperimentStage, Model, ModelState
from policies.state import Checking, Idle, Promoting, Shadowing, Testing, Watching
from policies.transition.values import (
    PASSED_OVER,
    Context,
    Position,
    Transition,
    challenger_of,
    check_ended,
    closed,
    count,
    ended,
    expect,
    experiment_of,
    idle,
    moved,
    not_better,
    phase_of,
    previous_of,
    reached,
    retiring,
    stayed,
)


def start_experiment(position: Position, action: StartExperiment, effect: Effect, now: Context) -> Transition:
    """A new salt, a new epoch, and the champion's 95th percentile of latency frozen."""
    said = expect(effect, Begun)
    model = reached(challenger_of(position), said.served, ModelState.CHALLENGER)
    experiment = Experiment(
        id=said.experiment_id,
        champion_model_id=position.champion.id,
        challenger_model_id=model.id,
        salt=_salt(model, now),
        share=action.share,
        epoch=now.version,
        epoch_started_us=now.at_us,
        started_us=now.at_us,
        frozen=_frozen(said.slow_s, now),
    ).with_stages((_stage_of(action.share, now),))
    reason = f"{model.name} serves {wording.share(action.share)} of the users"
    run_id = getattr(position.state.phase, "run_id", None)
    phase = Testing(challenger_id=model.id, experiment_id=experiment.id, run_id=run_id)
    return moved(
        position,
        Event.DEPLOYED,
        phase,
        position.state.ledger,
        reason,
        now,
        models=(model,),
        checks=check_ended(position, PASSED_OVER if now.manual else "pass", now),
        experiments=(experiment,),
        outcome=_epoch_of(experiment),
    )


def set_share(position: Position, action: SetShare, effect: Effect, now: Context) -> Transition:
    """By a person: a higher share is a stage, any other ends the evidence. The ramp goes no further by itself."""
    experiment = experiment_of(position)
    rises = action.share > experiment.share
    shares = f"{wording.share(experiment.share)} to {wording.share(action.share)}"
    evidence = "what was found so far counts on" if rises else "evidence is collected afresh"
    reason = f"the challenger's share changes from {shares}; {evidence}"
    earlier = experiment.stages if rises else ()
    stages = (*earlier, _stage_of(action.share, now, by_hand=True))
    changed = replace(experiment.with_stages(stages), share=action.share)
    said = expect(effect, Measured)
    return _new_epoch(position, changed, Event.SHARE_CHANGED, reason, said, now, same_terms=rises)


def raise_share(position: Position, action: RaiseShare, effect: Effect, now: Context) -> Transition:
    """By the ramp: a new epoch, whose rows are put together with those of the stages before, and never pooled."""
    experiment = experiment_of(position)
    shares = f"{wording.share(experiment.share)} to {wording.share(action.share)}"
    stages = (*experiment.stages, _stage_of(action.share, now))
    changed = replace(experiment.with_stages(stages), share=action.share)
    reason = f"no harm so far: the challenger's share rises from {shares}"
    said = expect(effect, Measured)
    return _new_epoch(position, changed, Event.STAGE_REACHED, reason, said, now, same_terms=True)


def begin_epoch(position: Position, action: BeginEpoch, effect: Effect, now: Context) -> Transition:
    """The same share under other terms: what was measured under the former ones is not pooled with what comes."""
    experiment, said = experiment_of(position), expect(effect, Measured)
    stage = _stage_of(experiment.share, now, by_hand=set_by_hand(experiment, now.rules.ab_test))
    afresh = experiment.with_stages((stage,))
    return _new_epoch(position, afresh, Event.TERMS_CHANGED, action.reason, said, now, same_terms=False)


def _new_epoch(
    position: Position, experiment: Experiment, event: Event, reason: str, said: Measured, now: Context,
    *, same_terms: bool,
) -> Transition:  # fmt: skip
    """The champion's 95th percentile is frozen now where it was not known at the start.

    `same_terms`: a stage counts beside those before it, so it has their terms. Where the settings have changed
    meanwhile, the next look finds that they have, and the evidence is collected afresh.
    """
    slow_s = experiment.frozen.get("l95_s")
    frozen = _frozen(said.slow_s if slow_s is None else slow_s, now)
    if same_terms:
        frozen |= {name: experiment.frozen[name] for name in ("icc", "terms") if name in experiment.frozen}
    experiment = replace(
        experiment,
        epoch=now.version,
        epoch_started_us=now.at_us,
        frozen={**experiment.frozen, **frozen},
    )
    transition = stayed(position, event, reason, now, experiments=(experiment,), outcome=_epoch_of(experiment))
    if position.challenger is None:
        return transition
    return _because(transition, f"{position.challenger.name} serves {wording.share(experiment.share)} of the users")


def begin_promotion(position: Position, action: BeginPromotion, effect: Effect, now: Context) -> Transition:
    """It is checked once more before it gets everybody."""
    model = challenger_of(position)
    reason = f"{model.name} is to become the champion: {now.why}"
    match position.state.phase:
        case Checking(challenger_id=challenger, run_id=run) | Shadowing(challenger_id=challenger, run_id=run):
            event, test = Event.DEPLOYED_UNTESTED, None
            model = reached(model, expect(effect, Served), ModelState.READY)
        case Testing(challenger_id=challenger, run_id=run, experiment_id=test):
            event = Event.WON
        case phase:
            raise TypeError(f"no promotion begins in the phase {phase.name}")
    promoting = Promoting(challenger_id=challenger, experiment_id=test, run_id=run)
    checks = check_ended(position, PASSED_OVER if now.manual else "pass", now)
    return moved(position, event, promoting, position.state.ledger, reason, now, models=(model,), checks=checks)


def promote(position: Position, action: Promote, effect: Effect, now: Context) -> Transition:
    """Some users stay on the old champion, so that the new one is compared with it, none of whom has had the new one;
    its numbers so far are frozen for where that is not possible."""
    model, old, experiment = challenger_of(position), position.champion, position.experiment
    before = expect(effect, Counted).before
    experiments: tuple[Experiment, ...] = ()
    rules, held = now.rules.ab_test, 0.0
    if experiment is not None:
        held = min(rules.holdback_share, 1.0 - experiment.highest) if rules.watch_hours > 0 else 0.0
        stages = (*experiment.stages, _stage_of(1.0 - held, now, watch=True))
        new_epoch = replace(experiment, epoch=now.version, epoch_started_us=now.at_us).with_stages(stages)
        experiments = (closed(new_epoch, "promote", now),)
    whom = f"all users but {wording.share(held)}, who stay on {old.name} to compare with" if held else "all users"
    reason = f"{model.name} serves {whom}" + ("" if held else f"; {old.name} is kept running")
    ledger = position.state.ledger
    ledger = replace(ledger, champion_id=model.id, baseline=None, totals=count(ledger.totals, "promotions"))
    phase = Watching(
        previous_id=old.id,
        experiment_id=phase_of(position, Promoting).experiment_id,
        promoted_at=now.at,
        before=before,
        holdback_share=held,
    )
    models = (replace(model, state=ModelState.CHAMPION), idle(old))
    runs = ended(position, "promoted", now)
    return moved(
        position, Event.PROMOTED, phase, ledger, reason, now, models=models, experiments=experiments, runs=runs
    )


def fail_promotion(position: Position, action: FailPromotion, effect: Effect, now: Context) -> Transition:
    """The winner died before the switch."""
    return _sent_back(position, Event.PROMOTION_FAILED, action.reason, "promotion_failed", now)


def roll_back(position: Position, action: RollBack, effect: Effect, now: Context) -> Transition:
    """Because of harm, or because a person says so."""
    counted = "manual" if now.manual else "harm"
    return _sent_back(position, Event.ROLLED_BACK, now.why, counted, now, silent=action.silent)


def reject(position: Position, action: Reject, effect: Effect, now: Context) -> Transition:
    """It cannot win."""
    return _sent_back(position, Event.REJECTED, now.why, None, now)


def _sent_back(
    position: Position, event: Event, why: str, counted: str | None, now: Context, *, silent: bool = False
) -> Transition:
    model, ledger = challenger_of(position), position.state.ledger
    if counted is None:
        totals = count(ledger.totals, "rejections")
    else:
        rollbacks = ledger.totals.rollbacks
        totals = replace(ledger.totals, rollbacks={**rollbacks, counted: rollbacks.get(counted, 0) + 1})
    ledger = replace(retiring(ledger, model, now), totals=totals, last_rejection_at=now.at)
    # A server that died, or a person who wants it gone, says nothing of the recipe.
    if counted in (None, "harm") and not silent:
        ledger = not_better(ledger, model)
    verdict = "reject" if event is Event.REJECTED else "roll_back"
    said = "withdrawn" if counted == "manual" else verdict
    reason = f"{model.name} was withdrawn: {why}"
    return moved(
        position,
        event,
        Idle(),
        ledger,
        reason,
        now,
        models=(idle(model),),
        experiments=() if position.experiment is None else (closed(position.experiment, said, now),),
        runs=ended(position, verdict, now),
    )


def return_traffic(position: Position, action: ReturnTraffic, effect: Effect, now: Context) -> Transition:
    """The old champion serves everybody again; the promoted model goes."""
    old, new, ledger = previous_of(position), position.champion, position.state.ledger
    ledger = replace(
        retiring(ledger, new, now),
        champion_id=old.id,
        baseline=None,
        last_rejection_at=now.at,
        totals=count(ledger.totals, "returns"),
    )
    ledger = ledger if now.manual or action.silent else not_better(ledger, new)
    reason = f"{old.name} serves all users again: {now.why}"
    return moved(
        position,
        Event.RETURNED,
        Idle(),
        ledger,
        reason,
        now,
        models=(replace(old, state=ModelState.CHAMPION), idle(new)),
        experiments=() if position.experiment is None else (closed(position.experiment, "returned", now),),
    )


def release_control(position: Position, action: ReleaseControl, effect: Effect, now: Context) -> Transition:
    """From now on the hours after the promotion are compared with those before it, which is weaker."""
    phase = replace(phase_of(position, Watching), holdback_share=0.0)
    transition = moved(position, Event.CONTROL_RELEASED, phase, position.state.ledger, action.reason, now)
    return _because(transition, action.reason)


def renew_watch(position: Position, action: RenewWatch, effect: Effect, now: Context) -> Transition:
    """A new epoch with the same users in both arms."""
    experiment, held = position.experiment, phase_of(position, Watching).holdback_share
    if experiment is None:
        raise LookupError("the experiment is not in the database")
    stages = (*experiment.stages, _stage_of(1.0 - held, now, watch=True))
    experiment = replace(experiment, epoch=now.version, epoch_started_us=now.at_us).with_stages(stages)
    reason = f"part {len(experiment.watch_epochs)} of the watch begins: {now.why}"
    outcome = {"experiment_id": experiment.id, "epoch": experiment.epoch}
    return stayed(position, Event.WATCH_RENEWED, reason, now, experiments=(experiment,), outcome=outcome)


def finish_watch(position: Position, action: FinishWatch, effect: Effect, now: Context) -> Transition:
    """No guardrail broke; the old champion may go."""
    return _unwatched(position, Event.WATCH_FINISHED, now)


def halt_watch(position: Position, action: HaltWatch, effect: Effect, now: Context) -> Transition:
    """Nothing to return to: the new champion stays, although a guardrail broke."""
    return _unwatched(position, Event.WATCH_HALTED, now)


def _unwatched(position: Position, event: Event, now: Context) -> Transition:
    ledger = replace(retiring(position.state.ledger, previous_of(position), now), rejections_in_a_row=0)
    reason = f"{position.champion.name} stays the champion: {now.why}"
    return moved(position, event, Idle(), ledger, reason, now)


def _because(transition: Transition, reason: str) -> Transition:
    """In the same phase, which is no longer what its reason said."""
    return replace(transition, state=replace(transition.state, reason=reason))


def _stage_of(share: float, now: Context, *, by_hand: bool = False, watch: bool = False) -> ExperimentStage:
    """The one that begins now."""
    return ExperimentStage(epoch=now.version, share=share, started_us=now.at_us, by_hand=by_hand, watch=watch)


def _frozen(slow_s: float | None, now: Context) -> dict[str, Any]:
    """What is fixed with an epoch."""
    return {"l95_s": slow_s, "icc": now.rules.ab_test.icc, "terms": dict(now.rules.terms)}


def _epoch_of(experiment: Experiment) -> dict[str, Any]:
    """What the journal keeps of a new epoch: the experiment's own row knows only the last."""
    return {
        "experiment_id": experiment.id,
        "epoch": experiment.epoch,
        "share": experiment.share,
        "slow_threshold_s": experiment.frozen["l95_s"],
    }


def _salt(model: Model, now: Context) -> str:
    """New for each experiment, the same when the experiment is started again after a crash."""
    return blake2b(f"{model.name}/{now.version}/{now.at_us}".encode(), digest_size=16).hexdigest()
