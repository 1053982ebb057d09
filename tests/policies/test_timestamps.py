"""What the loop remembers, without timestamps that lie ahead of the clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.state import Idle, LastRun, Ledger, LoopState, Retiring, Retry, Training, Watching
from policies.transition import not_ahead, seconds_ahead, timestamps, with_timestamps

NOW = 1_800_000_000.0
LONGEST_S = 600.0
times = st.floats(NOW - 1e7, NOW + 1e7)
maybe = st.none() | times


@st.composite
def states(draw: st.DrawFn) -> LoopState:
    def retry(action: str) -> Retry:
        return Retry(action=action, at=draw(times), attempts=1, reason="x")

    def last_run() -> LastRun:
        return LastRun(dataset_at=draw(maybe), retrain_at=draw(maybe))

    phase = draw(
        st.sampled_from(
            [
                Idle(),
                Training(run_id="run-1", before=last_run()),
                Watching(previous_id=2, experiment_id=1, promoted_at=draw(times), before=None),
            ]
        )
    )
    ledger = Ledger(
        champion_id=1,
        installed_at=draw(times),
        last=last_run(),
        usable_at=draw(maybe),
        last_failure_at=draw(maybe),
        last_rejection_at=draw(maybe),
        retiring=tuple(
            Retiring(id=n, name="m", due_at=draw(times), retry=retry("Retire") if draw(st.booleans()) else None)
            for n in range(draw(st.integers(0, 2)))
        ),
    )
    retries = (retry("PrepareData"),) if draw(st.booleans()) else ()
    return LoopState(phase=phase, since=draw(times), retries=retries, ledger=ledger)


def test_every_timestamp_of_a_state_is_known() -> None:
    """A field that is a time, and no wait, is among them: the property below holds of all that there is."""
    last_run = LastRun(dataset_at=1.0, retrain_at=2.0)
    ledger = Ledger(
        champion_id=1, installed_at=3.0, last=last_run, usable_at=4.0, last_failure_at=5.0, last_rejection_at=6.0
    )
    found = dict(timestamps(LoopState(phase=Training(run_id="r", before=last_run), since=7.0, ledger=ledger)))
    times = set(flat(asdict(LoopState(phase=Training(run_id="r", before=last_run), since=7.0, ledger=ledger))))
    assert found.keys() == times
    watching = Watching(previous_id=2, experiment_id=1, promoted_at=8.0, before=None)
    assert dict(timestamps(LoopState(phase=watching, since=7.0, ledger=ledger)))["phase.promoted_at"] == 8.0


def flat(document: dict[str, Any], within: str = "") -> Iterator[str]:
    """Paths of the numbers with a fraction."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{within}{name}.")
        elif isinstance(value, float):
            yield f"{within}{name}"


@given(state=states())
def test_nothing_that_happened_lies_ahead_and_no_wait_grows(state: LoopState) -> None:
    repaired = not_ahead(state, NOW, LONGEST_S)
    before = dict(timestamps(state))
    assert dict(timestamps(repaired)) == {path: min(at, NOW) for path, at in before.items()}
    ahead_s = max(0.0, *(at - NOW for at in before.values()))
    for retry, was in zip(repaired.all_retries, state.all_retries, strict=True):
        assert retry.at <= min(was.at, NOW + LONGEST_S)
    for model, was_due in zip(repaired.ledger.retiring, state.ledger.retiring, strict=True):
        assert model.due_at <= was_due.due_at
        assert model.due_at <= max(NOW, was_due.due_at - ahead_s)
    assert not_ahead(repaired, NOW, LONGEST_S) == repaired, "once is enough"
    assert seconds_ahead(state, NOW) == ahead_s
    assert seconds_ahead(repaired, NOW) == 0.0
    assert not_ahead(repaired, NOW + 1.0, LONGEST_S) == repaired


@given(state=states())
def test_a_state_of_a_clock_that_was_right_is_left_alone(state: LoopState) -> None:
    def short(retry: Retry) -> Retry:
        return replace(retry, at=min(retry.at, NOW + LONGEST_S))

    right = with_timestamps(state, {path: min(at, NOW) for path, at in timestamps(state)})
    retiring = tuple(replace(left, retry=left.retry and short(left.retry)) for left in right.ledger.retiring)
    right = replace(right, retries=tuple(map(short, right.retries)), ledger=replace(right.ledger, retiring=retiring))
    assert not_ahead(right, NOW, LONGEST_S) == right
