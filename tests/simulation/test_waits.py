"""What `ratchet power` says of a small site's traffic is what its tests take, within a third."""

from __future__ import annotations

from statistics import median

import pytest

from tests.harness.require import FULL
from tests.simulation.waits import WAITS, WEEKS, Wait, said_hours, said_of, typical_hours

RUNS = 200 if FULL else 60
SHORT = tuple(wait for wait in WAITS if wait.requests_per_day == 500 and wait.gain == 0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("wait", WAITS if FULL else SHORT, ids=lambda wait: wait.name)
def test_half_of_the_tests_take_as_long_as_it_says(wait: Wait) -> None:
    said, seen = median(said_hours(wait, WEEKS)), typical_hours(wait, RUNS)
    assert said == pytest.approx(seen, rel=1 / 3)


@pytest.mark.slow
def test_heavy_users_make_a_test_longer_than_as_many_who_come_equally_often() -> None:
    zipf, geometric = (said_of(Wait(requests_per_day=500, activity=kind, gain=0.1)) for kind in ("zipf", "geometric"))
    assert zipf.half_days is not None
    assert geometric.half_days is not None
    assert zipf.half_days > 1.5 * geometric.half_days
