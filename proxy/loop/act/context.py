"""What one action is performed on, and what it changes: two values between perform, tick and store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policies.lifecycle import Event, Phase
from policies.snapshot import LoopTotals, Retiring
from proxy.errors import PermanentError
from proxy.loop.look.standing import Participants
from proxy.loop.state import LoopState, moved
from proxy.store.tables.control import Experiment, Model, ModelState, Run

__all__ = [
    "NOBODY",
    "ActionContext",
    "ActionResult",
    "challenger_of",
    "changed",
    "count",
    "ended",
    "idle_model",
    "refused",
    "retiring",
]  # fmt: skip

NOBODY: Final[dict[str, Any]] = {"run_id": None, "challenger_id": None, "experiment_id": None}
"""Fields of a state without a challenger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """The rows that an action works on, as they stand when it is performed."""

    at: float
    """Unix seconds; of the journalled intent, so that doing it again gives the same rows."""
    state: LoopState
    participants: Participants
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
class ActionResult:
    """All that an action changes; written in one transaction."""

    event: Event
    state: LoopState
    reason: str
    """One sentence for the journal and for notifications."""
    models: tuple[Model, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    runs: tuple[Run, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)


def changed(situation: ActionContext, event: Event, reason: str, **fields: Any) -> LoopState:
    """The situation's state after `event`, with `fields` replaced."""
    return replace(moved(situation.state, event, reason, situation.at), **fields)


def refused(situation: ActionContext, reason: str) -> ActionResult:
    """Nothing changes, and the person who asked is told why."""
    return ActionResult(event=Event.REFUSED, state=changed(situation, Event.REFUSED, reason), reason=reason)


def retiring(situation: ActionContext, model: Model, drain_s: float) -> tuple[Retiring, ...]:
    """The models to be stopped, with `model` among them once its open answers had time to end."""
    others = tuple(other for other in situation.state.retiring if other.id != model.id)
    return (*others, Retiring(id=model.id, name=model.name, due_at=situation.at + drain_s))


def idle_model(model: Model) -> Model:
    """`model` without traffic, not yet stopped."""
    return replace(model, state=ModelState.READY)


def count(totals: LoopTotals, name: str) -> LoopTotals:
    """`totals` with one more of `name`."""
    return replace(totals, **{name: getattr(totals, name) + 1})


def challenger_of(now: ActionContext) -> Model:
    """Raises PermanentError where its row is gone."""
    if now.participants.challenger is None:
        raise PermanentError(f"challenger {now.state.challenger_id} is not in the database; was an older one restored?")
    return now.participants.challenger


def ended(now: ActionContext, state: str, error: str | None = None) -> tuple[Run, ...]:
    """The run behind the challenger, closed with what became of its model."""
    if now.run is None or now.state.phase is Phase.IDLE:
        return ()
    return (replace(now.run, state=state, error=error, ended_us=now.at_us),)
