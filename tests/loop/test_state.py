"""The loop's memory in the database: read again as it was written, also where an earlier version wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import Moments
from policies.experiment import ArmStats
from policies.records import Arm
from policies.state import (
    Deploying,
    Idle,
    LastRun,
    Ledger,
    LoopState,
    LoopTotals,
    PhaseState,
    Promoting,
    Retiring,
    Retry,
    Training,
    Watching,
)
from policies.state import Testing as UnderTest
from proxy.loop.state import state_from_json, state_to_json

ARM = ArmStats(arm=Arm.CHAMPION, requests=12, moments=Moments())
FLAT = {
    "installed_at": 1.0, "phase_since": 5.0, "reason": "why", "paused": True, "champion_id": 1, "challenger_id": None,
    "previous_id": None, "run_id": None, "experiment_id": None, "routes_version": 8, "config_id": 3,
    "last_dataset_at": 2.0, "last_retrain_at": 3.0, "prior_dataset_at": 0.5, "prior_retrain_at": None,
    "usable_samples": 70, "usable_at": 2.5, "left_out": {"duplicate": 4}, "failures_in_a_row": 1,
    "last_failure_at": 1.5, "last_rejection_at": None, "promoted_at": None, "before": None, "baseline": 0.7,
    "retries": [
        {"action": "Retire", "target": "4", "at": 9.0, "attempts": 2, "reason": "HTTP 500"},
        {"action": "AcceptModel", "target": "run-1", "at": 8.0, "attempts": 1, "reason": "no answer"},
    ],
    "retiring": [{"id": 4, "name": "old", "due_at": 6.0}, {"id": 5, "name": "older", "due_at": 7.0}],
    "totals": {"runs": 2, "retrains": 1, "failed_retrains": 1, "rollbacks": {"harm": 1}},
}  # fmt: skip
"""As versions up to 0.9 wrote it: all fields side by side, those of other phases empty."""

OF_PHASES: list[tuple[dict[str, Any], PhaseState]] = [
    ({"phase": "idle"}, Idle()),
    ({"phase": "training", "run_id": "run-1"}, Training(run_id="run-1", before=LastRun(dataset_at=0.5))),
    ({"phase": "deploying", "run_id": "run-1", "challenger_id": 2}, Deploying(challenger_id=2, run_id="run-1")),
    (
        {"phase": "testing", "run_id": "run-1", "challenger_id": 2, "experiment_id": 7},
        UnderTest(challenger_id=2, experiment_id=7, run_id="run-1"),
    ),
    (
        {"phase": "promoting", "run_id": "run-1", "challenger_id": 2},
        Promoting(challenger_id=2, experiment_id=None, run_id="run-1"),
    ),
    (
        {"phase": "watching", "previous_id": 3, "experiment_id": 7, "promoted_at": 4.0},
        Watching(previous_id=3, experiment_id=7, promoted_at=4.0, before=None),
    ),
]


@pytest.mark.parametrize(("changed", "phase"), OF_PHASES)
def test_a_state_of_an_earlier_version_is_read(changed: dict[str, Any], phase: PhaseState) -> None:
    stuck = Retry(action="Retire", target="4", at=9.0, attempts=2, reason="HTTP 500")
    assert state_from_json(FLAT | changed) == LoopState(
        phase=phase,
        since=5.0,
        reason="why",
        retries=(Retry(action="AcceptModel", target="run-1", at=8.0, attempts=1, reason="no answer"),),
        ledger=Ledger(
            installed_at=1.0,
            champion_id=1,
            paused=True,
            routes_version=8,
            config_id=3,
            last=LastRun(dataset_at=2.0, retrain_at=3.0),
            usable_samples=70,
            usable_at=2.5,
            left_out={"duplicate": 4},
            failures_in_a_row=1,
            last_failure_at=1.5,
            baseline=0.7,
            retiring=(
                Retiring(id=4, name="old", due_at=6.0, retry=stuck),
                Retiring(id=5, name="older", due_at=7.0),
            ),
            totals=LoopTotals(runs=2, retrains=1, failed_retrains=1, rollbacks={"harm": 1}),
        ),
    )


@pytest.mark.parametrize("phase", ["training", "deploying", "testing", "promoting", "watching"])
def test_a_phase_without_its_ids_is_still_that_phase(phase: str) -> None:
    """What it names is not in the database, so that the loop recovers and says so."""
    assert state_from_json(FLAT | {"phase": phase}).phase.name == phase


@given(
    phase=st.sampled_from([phase for _, phase in OF_PHASES]
                          + [Watching(previous_id=3, experiment_id=None, promoted_at=4.0, before=ARM)]),
    last=st.builds(LastRun, dataset_at=st.none() | st.floats(0, 1e9), retrain_at=st.none() | st.floats(0, 1e9)),
    left_out=st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3),
)  # fmt: skip
def test_a_state_is_read_as_it_was_written(phase: PhaseState, last: LastRun, left_out: dict[str, int]) -> None:
    ledger = Ledger(installed_at=1.0, champion_id=1, last=last, left_out=left_out)
    state = LoopState(phase=phase, since=5.0, ledger=ledger)
    assert state_from_json(json.loads(json.dumps(state_to_json(state)))) == state


def test_what_is_no_state_of_this_version_is_a_value_error_that_says_so() -> None:
    stored = state_to_json(state_from_json(FLAT))
    with pytest.raises(ValueError, match="phase 'ramping'; a newer one wrote it"):
        state_from_json(stored | {"phase": {"name": "ramping"}})
    for broken in ({}, {"phase": "idle"}, {name: stored[name] for name in stored if name != "since"}):
        with pytest.raises(ValueError, match="state"):
            state_from_json(broken)
