"""The change detector: against the oracle, quiet when nothing happens, quick when something does."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.drop import DROP_RUN_LENGTH, DropDetector
from tests.policies.oracle import ORACLE


@pytest.mark.parametrize("case", ORACLE["drops"])
def test_the_statistic_agrees_with_the_oracle(case: dict[str, Any]) -> None:
    detector = DropDetector(baseline=case["baseline"])
    for means, expected in zip(case["hours"], case["statistics"], strict=True):
        detector = detector.update(means)
        # Far beyond the alarm ours is bounded, the oracle's is not.
        if expected < 100 * DROP_RUN_LENGTH:
            assert detector.statistic == pytest.approx(expected, rel=1e-9)
        else:
            assert detector.alarm


def test_a_first_hour_by_hand() -> None:
    """Baseline 0.8, so m₀ = 0.76 and the bets 0.4, 0.8, 1.6, 2.6; one score of 0.26 is 0.5 too low."""
    after = DropDetector(baseline=0.8).update([0.26])
    assert after.statistic == pytest.approx((1.2 + 1.4 + 1.8 + 2.3) / 4)
    assert after.hours == 1
    assert not after.alarm


def test_an_hour_without_scores_changes_nothing() -> None:
    detector = DropDetector(baseline=0.8).update([0.7])
    assert detector.update([]) is detector


def test_a_drop_is_found_and_its_end_too() -> None:
    detector, hours = DropDetector(baseline=0.8), 0
    while not detector.alarm:
        detector, hours = detector.update([0.5] * 5), hours + 1
    assert hours < 24
    for _ in range(1000):
        detector = detector.update([0.5] * 5)
    assert math.isfinite(detector.statistic)
    for _ in range(24):
        detector = detector.update([0.8] * 20)
    assert not detector.alarm


def test_a_year_of_unchanged_quality_is_quiet() -> None:
    detector = DropDetector(baseline=0.8)
    for hour in range(8000):
        detector = detector.update([0.6, 1.0] if hour % 2 else [1.0, 0.6])
    assert not detector.alarm


def test_the_state_survives_as_json() -> None:
    detector = DropDetector(baseline=0.8).update([0.1, 0.9])
    kept = json.loads(json.dumps(asdict(detector)))
    assert DropDetector(baseline=kept["baseline"], levels=tuple(kept["levels"]), hours=kept["hours"]) == detector


@given(st.floats(1e-6, 1.0), st.lists(st.lists(st.floats(-10, 10), max_size=300), max_size=5))
def test_no_scores_break_it(baseline: float, hours: list[list[float]]) -> None:
    detector = DropDetector(baseline=baseline)
    for means in hours:
        detector = detector.update(means)
    assert 0 <= detector.statistic < math.inf


@given(st.floats(0.01, 1.0), st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_lower_scores_are_more_evidence(baseline: float, means: list[float]) -> None:
    detector = DropDetector(baseline=baseline)
    lower = [mean / 2 for mean in means]
    assert detector.update(lower).statistic >= detector.update(means).statistic - 1e-9
