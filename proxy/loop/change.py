"""What one action is performed on, and what it changes: two values between perform, tick and store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from policies.lifecycle import Event
from policies.snapshot import Retiring, Totals
from proxy.loop.routing import Cast
from proxy.loop.state import LoopState, moved
from proxy.store.control import Experiment, Model, ModelState, Run

__all__ = ["Change", "Situation", "changed", "count", "idle_model", "retiring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The rows that an action works on, as they stand when it is performed."""

    at: float
    """Unix seconds; of the journalled intent, so that doing it again gives the same rows."""
    state: LoopState
    cast: Cast
    run: Run | None
    manual: bool = False
    """A person asked for it."""
    reason: str = ""
    """The plan's first reason."""
    next_version: int = 1
    """Version of the route table that this action may lead to; also names a new epoch."""

    @property
    def at_us(self) -> int:
        """`at` in the store's unit."""
        return round(self.at * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """All that an action changes; written in one transaction."""

    event: Event
    state: LoopState
    reason: str
    """One sentence for the journal and for notifications."""
    models: tuple[Model, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)


def changed(situation: Situation, event: Event, reason: str, **fields: Any) -> LoopState:
    """The situation's state after `event`, with `fields` replaced."""
    return replace(moved(situation.state, event, reason, situation.at), **fields)


def retiring(situation: Situation, model: Model, drain_s: float) -> tuple[Retiring, ...]:
    """The models to be stopped, with `model` among them once its open answers had time to end."""
    others = tuple(other for other in situation.state.retiring if other.id != model.id)
    return (*others, Retiring(id=model.id, name=model.name, due_at=situation.at + drain_s))


def idle_model(model: Model) -> Model:
    """`model` without traffic, not yet stopped."""
    return replace(model, state=ModelState.READY)


def count(totals: Totals, name: str) -> Totals:
    """`totals` with one more of `name`."""
    return replace(totals, **{name: getattr(totals, name) + 1})
