"""Ingest leaves half of a core to requests, and a backlog does not grow for ever. A clock that is moved by hand."""

from itertools import pairwise
from pathlib import Path

import pytest

from proxy.clock import ManualClock
from proxy.config.serving import SpoolConfig
from proxy.ingest.pace import Pace
from proxy.spool import SpoolWriter
from proxy.spool.layout import ends_of, segment_name, segments_of
from tests.harness.frames import exchange_frame

GIB = 1 << 30
BATCH = 2_000_000
"""Bytes of a thousand records."""
BATCH_S = 0.1


def pace(clock: ManualClock | None = None, interval_s: float = 1.0) -> Pace:
    return Pace(4 * GIB, interval_s, clock or ManualClock())


def written(size: int) -> dict[str, tuple[int, int]]:
    """How far the only writer has come."""
    return {"w": (0, size)}


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
    it.choose(2 * GIB - 1, written(1))
    assert it.rest_s(0.1) == 0.1
    it.choose(2 * GIB, written(2))
    assert it.rest_s(0.1) == 0.0
    it.choose(1 * GIB, written(3))
    it.choose(2 * GIB - 1, written(4))
    assert (it.rest_s(0.1), heard) == (0.1, [True, False])


def test_where_no_request_comes_there_are_no_rests() -> None:
    it = pace()
    it.choose(1000, written(1))
    assert it.rest_s(0.1) == 0.1
    it.choose(1000, written(1))
    assert it.rest_s(0.1) == 0.0
    it.choose(2000, written(2))
    assert it.rest_s(0.1) == 0.1


def test_a_segment_that_is_let_go_of_while_requests_come_ends_no_rests() -> None:
    it = pace()
    it.choose(64_000_000, written(1))
    it.choose(1000, written(2))
    assert it.rest_s(0.1) == 0.1


def test_what_was_written_is_seen_where_segments_are_let_go_of(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, SpoolConfig(fsync="never", segment_bytes=65_536), index=0)
    frame = exchange_frame(f"{1:032x}", b"x" * 40_000, b"{}")
    ends = [ends_of(tmp_path)]
    for _ in range(4):
        writer.append(frame)
        ends.append(ends_of(tmp_path))
        for number in segments_of(tmp_path / writer.name)[:-1]:
            (tmp_path / writer.name / segment_name(number)).unlink()
        assert ends_of(tmp_path) == ends[-1]
    writer.close()
    assert all(one != other for one, other in pairwise(ends))


def simulated(load: float, seconds: float = 3600.0) -> tuple[float, float]:
    """Most bytes that ever waited, and the share of time without rests; `load`: what arrives, as a share of what a
    controller can store that never rests."""
    clock = ManualClock()
    it = pace(clock)
    waits, most, hurried_s, rounds = 0.0, 0.0, 0.0, 0
    while clock.monotonic() < seconds:
        behind = waits >= BATCH
        waits = max(0.0, waits - BATCH)
        passed_s = BATCH_S + (it.rest_s(BATCH_S) if behind else 1.0)
        hurried_s += passed_s * it.hurries
        clock.advance(passed_s)
        waits += load * BATCH * passed_s / BATCH_S
        rounds += 1
        most = max(most, waits)
        if it.looks:
            it.saw(int(waits) if behind else 0)
        it.choose(0, written(rounds))
    return most, hurried_s / seconds


def test_what_half_a_core_can_store_is_stored_without_haste() -> None:
    most, hurried = simulated(load=0.4)
    assert most < 30 * BATCH
    assert hurried == 0.0


def test_what_takes_more_than_half_a_core_does_not_pile_up() -> None:
    most, hurried = simulated(load=0.8)
    assert most < 60 * BATCH
    assert hurried > 0.5
