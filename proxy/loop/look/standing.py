"""Where the loop stands: its state and the rows that the state names, from one read.

Read one after the other they may be of two moments, between which a challenger was sent back: a route table made of
such a pair would send users to where nobody decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import PermanentError
from proxy.loop.codec import from_json
from proxy.loop.state import STATE_ENTRY, LoopState
from proxy.store.control.state import Named
from proxy.store.store import Store
from proxy.store.tables.control import Experiment, Model, Run

__all__ = ["LoopRows", "Participants", "read_loop_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Participants:
    """The models and the experiment that the state names."""

    champion: Model
    challenger: Model | None = None
    previous: Model | None = None
    experiment: Experiment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRows:
    """One moment's rows."""

    state: LoopState
    participants: Participants
    run: Run | None


async def read_loop_rows(store: Store) -> LoopRows | None:
    """None before the first tick of an installation. Raises PermanentError where the champion's row is gone."""
    found = await store.state.with_rows(STATE_ENTRY, _named)
    if found is None:
        return None
    state = from_json(LoopState, found.value)
    participants = Participants(
        champion=_champion(found.models, state),
        challenger=_model(found.models, state.challenger_id),
        previous=_model(found.models, state.previous_id),
        experiment=found.experiment,
    )
    return LoopRows(state=state, participants=participants, run=found.run)


def _named(value: Mapping[str, Any]) -> Named:
    models = (value.get(name) for name in ("champion_id", "challenger_id", "previous_id"))
    return Named(
        models=tuple(model for model in models if model is not None),
        experiment=value.get("experiment_id"),
        run=value.get("run_id"),
    )


def _champion(models: Mapping[int, Model], state: LoopState) -> Model:
    champion = models.get(state.champion_id)
    if champion is None:
        raise PermanentError(f"model {state.champion_id}, the champion, is not in the database; restore a backup of it")
    return champion


def _model(models: Mapping[int, Model], model_id: int | None) -> Model | None:
    return None if model_id is None else models.get(model_id)
