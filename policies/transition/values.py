"""The values of a transition, and what several actions do alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from policies.actions import Action, tag_of, target_of
from policies.effects import Effect, Served, Stopped
from policies.inspection import LoopRules
from policies.lifecycle import Event, follow
from policies.rows import Check, Experiment, Model, ModelState, Run
from policies.state import Ledger, LoopState, LoopTotals, PhaseState, Retiring, Retry

_E = TypeVar("_E", bound=Effect)
_P = TypeVar("_P", bound=PhaseState)
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The state, and the rows that it names, all of one moment. A row that is gone from the database is None."""

    state: LoopState
    champion: Model
    challenger: Model | None = None
    previous: Model | None = None
    check: Check | None = None
    experiment: Experiment | None = None
    run: Run | None = None

    def after(self, done: Transition) -> Position:
        """Where the loop stands once `done` is written, as far as its rows are known here."""
        phase, known = done.state.phase, (self.champion, self.challenger, self.previous, *done.models)
        models = {model.id: model for model in known if model is not None}
        checks = {check.id: check for check in (self.check, *done.checks) if check is not None}
        tests = {test.id: test for test in (self.experiment, *done.experiments) if test is not None}
        runs = {run.id: run for run in (self.run, *done.runs) if run is not None}
        return Position(
            state=done.state,
            champion=models[done.state.ledger.champion_id],
            challenger=models.get(_id(phase, "challenger_id")),
            previous=models.get(_id(phase, "previous_id")),
            check=checks.get(_id(phase, "check_id")),
            experiment=tests.get(_id(phase, "experiment_id")),
            run=runs.get(_id(phase, "run_id")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How an action was decided."""

    at: float
    """Unix seconds, of the journalled intent: doing it again gives the same rows."""
    why: str
    """The plan's first reason."""
    manual: bool = False
    """A person asked for it."""
    version: int = 1
    """Of the route table that this may lead to; also names a new epoch."""
    rules: LoopRules = field(default_factory=LoopRules)
    drain_s: float = 0.0
    """How long the server of a model without traffic is kept, so that open answers can end."""

    @property
    def at_us(self) -> int:
        """`at` in the unit of rows."""
        return round(self.at * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """All that follows from an action; written in one transaction."""

    event: Event
    state: LoopState
    reason: str
    """One sentence, for the journal and for notifications."""
    models: tuple[Model, ...] = ()
    checks: tuple[Check, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)


def _id(phase: PhaseState, name: str) -> Any:
    """What the phase calls so; None where it has no such thing."""
    return getattr(phase, name, None)


def moved(
    position: Position,
    event: Event,
    phase: PhaseState,
    ledger: Ledger,
    reason: str,
    now: Context,
    *,
    models: tuple[Model, ...] = (),
    checks: tuple[Check, ...] = (),
    experiments: tuple[Experiment, ...] = (),
    runs: tuple[Run, ...] = (),
    outcome: Mapping[str, Any] = MappingProxyType({}),
) -> Transition:
    """Into `phase`, as the table of events allows. A new phase begins without the retries of the old one."""
    state = position.state
    target = follow(state.phase_name, event)
    if target.value != phase.name:
        raise ValueError(f"{event.value} leads to {target.value}, not to {phase.name}")
    if target is state.phase_name:
        state = replace(state, phase=phase, ledger=ledger)
    else:
        state = LoopState(phase=phase, since=now.at, reason=reason, ledger=ledger)
    return Transition(
        event=event,
        state=state,
        reason=reason,
        models=models,
        checks=checks,
        experiments=experiments,
        runs=runs,
        outcome=outcome,
    )


def stayed(
    position: Position,
    event: Event,
    reason: str,
    now: Context,
    *,
    ledger: Ledger | None = None,
    models: tuple[Model, ...] = (),
    experiments: tuple[Experiment, ...] = (),
    runs: tuple[Run, ...] = (),
    outcome: Mapping[str, Any] = MappingProxyType({}),
) -> Transition:
    """In the phase where it is."""
    state = position.state
    return moved(position, event, state.phase, ledger or state.ledger, reason, now, models=models,
                 experiments=experiments, runs=runs, outcome=outcome)  # fmt: skip


def refused(position: Position, reason: str) -> Transition:
    """Nothing changes, and whoever asked is told why."""
    return Transition(event=Event.REFUSED, state=position.state, reason=reason)


def expect(effect: Effect, kind: type[_E]) -> _E:
    """`effect`, which is of this kind. Raises TypeError."""
    if not isinstance(effect, kind):
        raise TypeError(f"{type(effect).__name__} where {kind.__name__} was expected")
    return effect


# Rows that an action needs. A row that the state names may be gone: an older database was restored.


def run_of(position: Position) -> Run:
    """Raises LookupError where its row is gone."""
    return _there(position.run, "the run")


def challenger_of(position: Position) -> Model:
    """Raises LookupError where its row is gone."""
    return _there(position.challenger, "the challenger")


def previous_of(position: Position) -> Model:
    """The old champion. Raises LookupError where its row is gone."""
    return _there(position.previous, "the old champion")


def experiment_of(position: Position) -> Experiment:
    """Raises LookupError where its row is gone."""
    return _there(position.experiment, "the experiment")


def _there(row: _R | None, what: str) -> _R:
    if row is None:
        raise LookupError(f"{what} is not in the database; was an older one restored?")
    return row


# What several actions do alike.

PASSED_OVER = "passed_over"
"""Verdict of a check that a person has ended by going on to the test."""


def count(totals: LoopTotals, name: str) -> LoopTotals:
    """`totals` with one more of `name`."""
    return replace(totals, **{name: getattr(totals, name) + 1})


def failed(ledger: Ledger, now: Context) -> Ledger:
    """After one more failed retrain: the back-off holds the next."""
    return replace(
        ledger,
        failures_in_a_row=ledger.failures_in_a_row + 1,
        last_failure_at=now.at,
        totals=count(ledger.totals, "failed_retrains"),
    )


def not_better(ledger: Ledger, model: Model) -> Ledger:
    """After one more challenger that was not better, if a training made it: what a person brought, or has deployed
    again, says nothing of the recipe."""
    if model.run_id is None or model.detail.get("redeployed"):
        return ledger
    return replace(ledger, rejections_in_a_row=ledger.rejections_in_a_row + 1)


def ended(position: Position, state: str, now: Context, error: str | None = None) -> tuple[Run, ...]:
    """The run behind the challenger, closed with what became of its model."""
    if position.run is None:
        return ()
    return (replace(position.run, state=state, error=error, ended_us=now.at_us),)


def check_ended(position: Position, verdict: str, now: Context) -> tuple[Check, ...]:
    """The check that is under way, closed; a verdict that it has found by itself stays."""
    check = position.check
    if check is None or check.ended_us is not None:
        return ()
    return (replace(check, ended_us=now.at_us, verdict=check.verdict or verdict),)


def retiring(ledger: Ledger, model: Model, now: Context, *, drain_s: float | None = None) -> Ledger:
    """With `model` among those that are to be stopped, once its open answers had time to end."""
    others = tuple(left for left in ledger.retiring if left.id != model.id)
    due_at = now.at + (now.drain_s if drain_s is None else drain_s)
    return replace(ledger, retiring=(*others, Retiring(id=model.id, name=model.name, due_at=due_at)))


def not_stopped(ledger: Ledger, model: Model, effect: Effect, now: Context) -> Ledger:
    """What could not be stopped delays nothing: stopping it is tried again, beside whatever comes next."""
    return retiring(ledger, model, now, drain_s=0.0) if isinstance(effect, Stopped) and effect.failed else ledger


def with_retry(state: LoopState, retry: Retry) -> LoopState:
    """With `retry` in the place of an earlier one for the same action on the same thing."""
    return replace(state, retries=(*_others(state, retry.action, retry.target), retry))


def without_retry(state: LoopState, action: Action) -> LoopState:
    """Without what is known of failed attempts at `action`."""
    return replace(state, retries=_others(state, tag_of(action), target_of(action)))


def _others(state: LoopState, action: str, target: str) -> tuple[Retry, ...]:
    """All but those of this action on this thing; what an earlier version noted names no thing and is meant as well."""
    return tuple(retry for retry in state.retries if retry.action != action or retry.target not in ("", target))


def idle(model: Model) -> Model:
    """`model` without traffic, not yet stopped."""
    return replace(model, state=ModelState.READY)


def reached(model: Model, served: Served, state: ModelState) -> Model:
    """`model` at the endpoint that its deployer names."""
    return replace(model, state=state, url=served.url, model=served.model, credential=served.credential)


def undeployed(model: Model) -> dict[str, Any]:
    """Its detail without what is left of an earlier deployment."""
    return {name: value for name, value in model.detail.items() if name != "handle"}


def closed(experiment: Experiment, verdict: str, now: Context) -> Experiment:
    """`experiment`, ended."""
    return replace(experiment, share=0.0, ended_us=now.at_us, verdict=verdict)


def phase_of(position: Position, kind: type[_P]) -> _P:
    """The phase, which is of this kind. Raises TypeError."""
    phase = position.state.phase
    if not isinstance(phase, kind):
        raise TypeError(f"the phase is {phase.name}, not {kind.__name__}")
    return phase
