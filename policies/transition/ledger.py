"""What changes in the ledger without an action: an installation, other settings, another route table, a baseline."""

from __future__ import annotations

from dataclasses import replace

from policies.state import Ledger, LoopState


def installed(champion_id: int, now: float, routes_version: int, config_id: int = 0) -> LoopState:
    """The state of a new installation at `now` (Unix seconds): the schedule's clock starts here."""
    ledger = Ledger(installed_at=now, champion_id=champion_id, routes_version=routes_version, config_id=config_id)
    return LoopState(since=now, ledger=ledger)


def under_settings(state: LoopState, config_id: int) -> LoopState:
    """With these settings in force, which the route table names: it is a new one."""
    version = state.ledger.routes_version + 1
    return replace(state, ledger=replace(state.ledger, config_id=config_id, routes_version=version))


def rerouted(state: LoopState, version: int) -> LoopState:
    """With a route table of this version. Raises ValueError where it is older than the present one."""
    if version < state.ledger.routes_version:
        raise ValueError(f"route table {version} after {state.ledger.routes_version}: versions only grow")
    return replace(state, ledger=replace(state.ledger, routes_version=version))


def with_baseline(state: LoopState, mean: float, by: str = "") -> LoopState:
    """With the mean quality (0 to 1) that a drop is measured against from now on; `by`: whose scores those are."""
    return replace(state, ledger=replace(state.ledger, baseline=mean, baseline_by=by))
