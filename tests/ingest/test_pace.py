"""Ingest leaves half of a core to requests, and a backlog does not grow for ever. A clock that is moved by hand."""

import pytest

from proxy.clock import ManualClock
from proxy.ingest.pace import Pace

GIB = 1 << 30
BATCH = 2_000_000
"""Bytes of a thousand records."""
BATCH_S = 0.1


def pace(clock: ManualClock | None = None, interval_s: float = 1.0) -> Pace:
    return Pace(4 * GIB, interval_s, clock or ManualClock())


@pytest.mark.parametrize(
    ("worked_s", "rest_s"),
    [(0.1, 0.1), (0.25, 0.25), (0.001, 0.03), (7.0, 0.5)],
    ids=["", "", "few records", "no turn"],
)
def test_it_rests_as_long_as_a_round_took_within_limits(worked_s: float, rest_s: float) -> None:
    assert pace().rest_s(worked_s) == rest_s


def test_no_rest_is_longer_than_the_wait_for_new_records() -> None:
    assert pace(interval_s=0.05).rest_s(0.1) == 0.05


def test_a_spool_that_is_half_full_is_emptied_without_rests() -> None:
    heard: list[bool] = []
    it = Pace(4 * GIB, 1.0, ManualClock(), heard.append)
    it.choose(2 * GIB - 1)
    assert it.rest_s(0.1) == 0.1
    it.choose(2 * GIB)
    assert it.rest_s(0.1) == 0.0
    it.choose(1 * GIB)
    it.choose(2 * GIB - 1)
    assert (it.rest_s(0.1), heard) == (0.1, [True, False])


def test_where_no_request_comes_there_are_no_rests() -> None:
    it = pace()
    it.choose(1000)
    assert it.rest_s(0.1) == 0.1
    it.choose(1000)
    assert it.rest_s(0.1) == 0.0
    it.choose(2000)
    assert it.rest_s(0.1) == 0.1


def simulated(load: float, seconds: float = 3600.0) -> tuple[float, float]:
    """Most bytes that ever waited, and the share of time without rests; `load`: what arrives, as a share of what a
    controller can store that never rests."""
    clock = ManualClock()
    it = pace(clock)
    waits, most, hurried_s, written = 0.0, 0.0, 0.0, 0
    while clock.monotonic() < seconds:
        behind = waits >= BATCH
        waits = max(0.0, waits - BATCH)
        passed_s = BATCH_S + (it.rest_s(BATCH_S) if behind else 1.0)
        hurried_s += passed_s * it.hurries
        clock.advance(passed_s)
        waits += load * BATCH * passed_s / BATCH_S
        written += 1
        most = max(most, waits)
        if it.looks:
            it.saw(int(waits) if behind else 0)
        it.choose(written)
    return most, hurried_s / seconds


def test_what_half_a_core_can_store_is_stored_without_haste() -> None:
    most, hurried = simulated(load=0.4)
    assert most < 30 * BATCH
    assert hurried == 0.0


def test_what_takes_more_than_half_a_core_does_not_pile_up() -> None:
    most, hurried = simulated(load=0.8)
    assert most < 60 * BATCH
    assert hurried > 0.5
