"""From a server that answers to a challenger that users may see."""

from __future__ import annotations

from dataclasses import replace

from policies import wording
from policies.actions import FailCheck, StartCheck, StartShadow
from policies.effects import Effect, Reserved
from policies.lifecycle import Event
from policies.rows import Check, CheckKind, ModelState
from policies.state import Checking, Deploying, Idle, Shadowing
from policies.transition.values import (
    Context,
    Position,
    Transition,
    challenger_of,
    check_ended,
    count,
    ended,
    expect,
    moved,
    not_better,
    not_stopped,
    phase_of,
    reached,
)


def start_check(position: Position, action: StartCheck, effect: Effect, now: Context) -> Transition:
    """`Reserved`: the check begins with the phase, and what it asks is asked from then on."""
    said = expect(effect, Reserved)
    model = reached(challenger_of(position), said.served, ModelState.READY)
    phase = Checking(challenger_id=model.id, check_id=said.check_id, run_id=phase_of(position, Deploying).run_id)
    reason = f"{model.name} answers what the champion has answered, and both are compared"
    return moved(
        position,
        Event.CHECK_STARTED,
        phase,
        position.state.ledger,
        reason,
        now,
        models=(model,),
        checks=(_check(position, said.check_id, CheckKind.GATE, model.id, now),),
        outcome={"check_id": said.check_id},
    )


def start_shadow(position: Position, action: StartShadow, effect: Effect, now: Context) -> Transition:
    """`Reserved`: copies of live requests go to the challenger from now on, under a check of their own."""
    said = expect(effect, Reserved)
    model = reached(challenger_of(position), said.served, ModelState.READY)
    phase = Shadowing(challenger_id=model.id, check_id=said.check_id, run_id=phase_of(position, Checking).run_id)
    shadow = replace(_check(position, said.check_id, CheckKind.SHADOW, model.id, now), terms={"share": action.share})
    reason = f"{model.name} gets copies of {wording.share(action.share)} of the requests; no user gets its answers"
    return moved(
        position,
        Event.SHADOW_STARTED,
        phase,
        position.state.ledger,
        reason,
        now,
        models=(model,),
        checks=(*check_ended(position, "pass", now), shadow),
        outcome={"check_id": said.check_id},
    )


def fail_check(position: Position, action: FailCheck, effect: Effect, now: Context) -> Transition:
    """`Stopped`. It is a rejection like that of a test, only sooner: no user has seen the challenger."""
    model, ledger = challenger_of(position), position.state.ledger
    ledger = replace(
        not_better(not_stopped(ledger, model, effect, now), model),
        totals=count(ledger.totals, "rejections"),
        last_rejection_at=now.at,
    )
    model = replace(model, state=ModelState.RETIRED, retired_us=now.at_us)
    reason = f"{model.name} was rejected before any user saw it: {action.reason}"
    return moved(
        position,
        Event.CHECK_REJECTED,
        Idle(),
        ledger,
        reason,
        now,
        models=(model,),
        checks=check_ended(position, "reject", now),
        runs=ended(position, "reject", now),
    )


def _check(position: Position, check_id: int, kind: CheckKind, challenger_id: int, now: Context) -> Check:
    return Check(
        id=check_id, kind=kind, challenger_id=challenger_id, champion_id=position.champion.id, started_us=now.at_us
    )
