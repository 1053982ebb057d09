"""After a promotion: what is not the model's fault takes no traffic back, and a model that turns bad loses it soon.

docs/statistics.md has the table of 40 to 100 watches a row (`python -m tests.simulation --sooner`).
"""

from __future__ import annotations

import pytest

from tests.harness.require import FULL
from tests.simulation.sooner import watch_table
from tests.simulation.traffic import Activity, World
from tests.simulation.watched import WATCHED, Watch, WatchedOutcome, simulate_watch, watched_outcome

WATCHES = range(200 if FULL else 6)
CASES = {case.name: case for case in WATCHED}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 300)]


def outcome(name: str, requests_per_day: int, activity: Activity = "lognormal") -> WatchedOutcome:
    world = World(requests_per_day=requests_per_day, activity=activity)
    return watched_outcome([simulate_watch(CASES[name], world, seed) for seed in WATCHES])


@pytest.mark.parametrize("requests_per_day", [500, 2000, 5000] if FULL else [500, 2000])
@pytest.mark.parametrize("name", [case.name for case in WATCHED if not case.is_bad])
def test_a_right_promotion_stands_whatever_the_load(name: str, requests_per_day: int) -> None:
    found = outcome(name, requests_per_day)
    assert found.returned <= 0.05, found
    if "twice" in name:  # the control: the hours before, with latency, take it all back
        assert found.frozen >= 0.95, found


@pytest.mark.parametrize("activity", ["lognormal", "zipf"])
@pytest.mark.parametrize("requests_per_day", [500, 2000, 5000] if FULL else [500, 2000])
def test_a_model_that_turns_bad_is_sent_back_within_200_failing_answers(
    requests_per_day: int, activity: Activity
) -> None:
    found = outcome("30 % errors at once", requests_per_day, activity)
    assert found.returned == 1, found
    assert found.within >= 0.95, found


def test_a_model_that_turns_bad_late_is_sent_back_all_the_same() -> None:
    found = outcome("30 % errors after 12 hours", 2000)
    assert found.returned >= 0.95, found
    assert found.within >= 0.6, found


def test_worse_answers_are_found_where_users_suffice() -> None:
    """A tenth of the users for three days is not many: 2,000 requests a day do, 500 often do not."""
    found = outcome("answers 20 % worse than the old model's at once", 2000)
    assert found.returned >= 0.8, found


def test_the_table() -> None:
    back = Watch(returned=True, hours=5, failing=60, frozen_returned=True, frozen_without_latency=False)
    kept = Watch(returned=False, hours=24, failing=300, frozen_returned=False, frozen_without_latency=False)
    found = watched_outcome([back, kept])
    assert (found.within, found.median_failing, found.most_failing) == (0.5, 60, 60)
    row = watch_table([(500, CASES["30 % errors at once"], found)]).splitlines()[2]
    assert row == "| 500 | 30 % errors at once | 2 | 50 % | 50 % | 60, 60 | 5 | 50 % | 0 |"
