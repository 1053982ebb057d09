"""Where the loop stands: its state and the rows that the state names, from one read.

Read one after the other they may be of two moments, between which a challenger was sent back: a route table made of
such a pair would send users to where nobody decided.
"""

from __future__ import annotations

from typing import Any

from policies.rows import Model
from policies.state import LoopState, PhaseState
from policies.transition import Position
from proxy.errors import PermanentError
from proxy.loop.state import STATE_ENTRY, state_from_json
from proxy.store.control.state import Named
from proxy.store.store import Store

__all__ = ["present_position", "read_position"]


async def read_position(store: Store) -> Position | None:
    """None before the first tick of an installation. Raises PermanentError where the champion's row is gone."""
    found = await store.state.with_rows(STATE_ENTRY, _named)
    if found is None:
        return None
    state = state_from_json(found.value)
    champion = found.models.get(state.ledger.champion_id)
    if champion is None:
        raise PermanentError(
            f"model {state.ledger.champion_id}, the champion, is not in the database; restore a backup of it"
        )
    return Position(
        state=state,
        champion=champion,
        challenger=_model(found.models, _id(state.phase, "challenger_id")),
        previous=_model(found.models, _id(state.phase, "previous_id")),
        check=found.check,
        experiment=found.experiment,
        run=found.run,
    )


async def present_position(store: Store) -> Position:
    """As `read_position`, in an installation. Raises PermanentError where its state, too, is gone."""
    if (position := await read_position(store)) is None:
        raise PermanentError("the loop's state is not in the database any more; was another one put in its place?")
    return position


def _named(value: Any) -> Named:
    state: LoopState = state_from_json(value)
    models = (state.ledger.champion_id, _id(state.phase, "challenger_id"), _id(state.phase, "previous_id"))
    return Named(
        models=tuple(model for model in models if model is not None),
        check=_id(state.phase, "check_id"),
        experiment=_id(state.phase, "experiment_id"),
        run=_id(state.phase, "run_id"),
    )


def _id(phase: PhaseState, name: str) -> Any:
    """What the phase calls so; None where it has no such thing."""
    return getattr(phase, name, None)


def _model(models: Any, model_id: int | None) -> Model | None:
    found: Model | None = None if model_id is None else models.get(model_id)
    return found
