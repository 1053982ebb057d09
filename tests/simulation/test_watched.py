"""After a promotion: what is not the model's fault takes no traffic back, and a model that turns bad loses it soon.

docs/statistics.md has the tables of 200 watches a row (`python -m tests.simulation --sooner`); these are the first.
"""

from __future__ import annotations

import pytest

from tests.harness.require import FULL
from tests.simulation.ramps import Cell
from tests.simulation.sooner import late_table, watch_table
from tests.simulation.traffic import Activity, World
from tests.simulation.watched import (
    FIRST_SEED,
    LATE_H,
    WATCHED,
    Watch,
    WatchedCase,
    WatchedOutcome,
    simulate_watch,
    turns_bad,
    watched_outcome,
)

WATCHES = range(FIRST_SEED, FIRST_SEED + (200 if FULL else 6))
CASES = {case.name: case for case in WATCHED}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 300)]


def outcome(
    case: WatchedCase, requests_per_day: int, activity: Activity = "lognormal", *, looks_per_hour: int = 1
) -> WatchedOutcome:
    world = World(requests_per_day=requests_per_day, activity=activity)
    return watched_outcome([simulate_watch(case, world, seed, looks_per_hour=looks_per_hour) for seed in WATCHES])


@pytest.mark.parametrize("requests_per_day", [500, 2000, 5000] if FULL else [500, 2000])
@pytest.mark.parametrize("name", [case.name for case in WATCHED if not case.is_bad])
def test_a_right_promotion_stands_whatever_the_load(name: str, requests_per_day: int) -> None:
    found = outcome(CASES[name], requests_per_day)
    assert found.returned <= 0.05, found
    if "twice" in name or "both models" in name:  # the control: the hours before, with latency, take it all back
        assert found.frozen >= 0.95, found


@pytest.mark.parametrize("activity", ["lognormal", "zipf"])
@pytest.mark.parametrize("requests_per_day", [500, 2000, 5000] if FULL else [500, 2000])
def test_a_model_that_turns_bad_is_sent_back_within_200_failing_answers(
    requests_per_day: int, activity: Activity
) -> None:
    found = outcome(CASES["30 % errors at once"], requests_per_day, activity)
    assert found.returned == 1, found
    assert found.within >= 0.95, found


@pytest.mark.parametrize("looks_per_hour", [1, 6])
@pytest.mark.parametrize("requests_per_day", [500, 2000, 5000])
def test_good_hours_do_not_hide_a_model_that_turns_bad(requests_per_day: int, looks_per_hour: int) -> None:
    """A loop looks every minute in a watch. From hour to hour the model of a busy site fails up to 90 answers more."""
    found = outcome(turns_bad(12), requests_per_day, looks_per_hour=looks_per_hour)
    assert found.returned == 1, found
    assert found.within >= (0.8 if (requests_per_day, looks_per_hour) == (5000, 1) else 0.95), found


@pytest.mark.parametrize("after_h", LATE_H if FULL else [9, 15])
def test_whenever_it_turns_bad(after_h: int) -> None:
    """Also in the middle of a part of the watch."""
    found = outcome(turns_bad(after_h), 2000)
    assert found.within >= 0.95, found
    found = outcome(turns_bad(after_h), 5000, looks_per_hour=6)
    assert found.within >= 0.95, found


def test_worse_answers_are_found_where_users_suffice() -> None:
    """A tenth of the users for three days is not many: 2,000 requests a day do, 500 often do not."""
    found = outcome(CASES["answers 20 % worse than the old model's at once"], 2000)
    assert found.returned >= 0.8, found


def test_the_table() -> None:
    back = Watch(returned=True, hours=5, failing=60, frozen_returned=True, frozen_without_latency=False)
    kept = Watch(returned=False, hours=24, failing=300, frozen_returned=False, frozen_without_latency=False)
    found = watched_outcome([back, kept])
    assert (found.within, found.median_failing, found.most_failing) == (0.5, 60, 60)
    row = watch_table([(500, CASES["30 % errors at once"], found)]).splitlines()[2]
    assert row == "| 500 | 30 % errors at once | 2 | 50 % | 50 % | 60, 60 | 5 | 50 % | 0 |"
    late = late_table(
        [(Cell(500, "zipf"), 12, 6, found), (Cell(5000, "lognormal"), 0, 1, watched_outcome([kept]))]
    ).splitlines()[2:]
    assert late == [
        "| 500 zipf | every 10 minutes | 12 h | 2 | 50 % | 50 % | 60, 60 |",
        "| 5,000 lognormal | every hour | 0 h | 1 | 0 | 0 | – |",
    ]
