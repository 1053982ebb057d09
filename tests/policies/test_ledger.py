"""The changes of the loop's memory that no action makes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.state import Idle
from policies.transition import installed, rerouted, under_settings, with_baseline


def test_an_installation_is_idle_and_its_schedule_starts_now() -> None:
    state = installed(3, 1_000.0, 7, config_id=2)
    assert (state.phase, state.since, state.reason) == (Idle(), 1_000.0, "installed")
    ledger = state.ledger
    assert (ledger.installed_at, ledger.champion_id, ledger.routes_version, ledger.config_id) == (1_000.0, 3, 7, 2)


def test_other_settings_need_another_route_table() -> None:
    before = installed(1, 0.0, 7)
    after = under_settings(before, 5)
    assert after == replace(before, ledger=replace(before.ledger, config_id=5, routes_version=8))


def test_versions_of_route_tables_only_grow() -> None:
    state = rerouted(installed(1, 0.0, 7), 9)
    assert state.ledger.routes_version == 9
    with pytest.raises(ValueError, match="route table 8 after 9"):
        rerouted(state, 8)


def test_a_baseline_is_all_that_its_freezing_changes() -> None:
    before = installed(1, 0.0, 7)
    assert with_baseline(before, 0.8) == replace(before, ledger=replace(before.ledger, baseline=0.8))
