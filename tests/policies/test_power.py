"""Power: the numbers that docs/statistics.md prints, the ceiling of returning users, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.estimates import Metric, Moments
from policies.experiment import ABTestConfig
from policies.power import (
    ExpectedTraffic,
    MetricProfile,
    assumed_profiles,
    detectable_gain,
    measured_profiles,
    observations_needed,
    required_test,
)
from policies.records import Arm
from tests.harness.arms import arm_stats

CONFIG = ABTestConfig()
THUMBS = MetricProfile(metric=Metric.POSITIVE, weight=1.0, mean=0.7, sd=0.21**0.5, per_request=0.2)
JUDGE = MetricProfile(metric=Metric.QUALITY, weight=1.0, mean=0.7, sd=0.23, per_request=1.0)
MANY = ExpectedTraffic(requests_per_day=2000, users=10**6)
PROFILES = assumed_profiles(CONFIG, vote_rate=0.2)


@pytest.mark.parametrize(
    ("profile", "gain", "share", "about"),
    [
        (THUMBS, 0.05, 0.1, 27_000),
        (THUMBS, 0.10, 0.1, 6_700),
        (JUDGE, 0.05, 0.1, 6_700),
        (JUDGE, 0.10, 0.1, 1_700),
        (THUMBS, 0.05, 0.5, 27_000 / 2.8),
    ],
)
def test_votes_and_scores_that_show_a_gain(profile: MetricProfile, gain: float, share: float, about: float) -> None:
    assert observations_needed(gain, profile, share, CONFIG) == pytest.approx(about, rel=0.02)


def test_users_who_come_once_need_exactly_the_observations() -> None:
    answer = required_test(0.1, 0.1, MANY, [THUMBS], CONFIG)
    assert answer.observations is not None
    assert answer.observations["positive"] == pytest.approx(observations_needed(0.1, THUMBS, 0.1, CONFIG), abs=1)
    assert answer.requests == pytest.approx(5 * answer.observations["positive"], abs=5)
    assert answer.users == answer.requests
    assert answer.days == pytest.approx(answer.requests / 2000, rel=1e-3)


def test_the_same_few_users_never_show_a_small_gain() -> None:
    few = ExpectedTraffic(requests_per_day=2000, users=200)
    answer = required_test(0.05, 0.1, few, PROFILES, CONFIG)
    assert answer.days is answer.requests is answer.users is answer.observations is None
    growing = required_test(0.05, 0.1, replace(few, new_users_per_day=50), PROFILES, CONFIG)
    assert growing.days is not None
    assert growing.users is not None
    assert growing.users == pytest.approx(200 + 50 * growing.days, abs=1)


def test_what_a_month_can_show_takes_a_month_to_show() -> None:
    traffic = ExpectedTraffic(requests_per_day=500, users=500)
    gain = detectable_gain(30, 0.1, traffic, PROFILES, CONFIG)
    assert required_test(gain, 0.1, traffic, PROFILES, CONFIG).days == pytest.approx(30, rel=1e-3)


def test_strict_evidence_only_counts_what_exceeds_the_threshold() -> None:
    strict = replace(CONFIG, evidence="strict")
    default, longer = (required_test(0.10, 0.1, MANY, PROFILES, config) for config in (CONFIG, strict))
    assert default.days is not None
    assert longer.days is not None
    assert longer.days > 3.5 * default.days
    assert detectable_gain(30, 0.1, MANY, PROFILES, strict) > 0.05
    with pytest.raises(ValueError, match=r"gain: 0\.05 is not above 0\.05"):
        required_test(0.05, 0.1, MANY, PROFILES, strict)


def test_profiles_leave_out_what_has_no_weight() -> None:
    names = [profile.metric for profile in assumed_profiles(replace(CONFIG, feedback_weight=0.0), vote_rate=0.2)]
    assert names == [Metric.QUALITY, Metric.LATENCY]


def test_profiles_from_the_champions_own_traffic() -> None:
    arm = arm_stats(Arm.CHAMPION, 200, quality=(0.6, 0.8)).moments
    quality, thumbs, latency = measured_profiles(arm, CONFIG)
    assert quality.mean == pytest.approx(0.7)
    assert quality.sd == pytest.approx(0.1, rel=0.01)
    assert (quality.per_request, thumbs.per_request, latency.weight) == (1.0, 1.0, -0.2)
    assert len(measured_profiles(arm, replace(CONFIG, latency_weight=0.0))) == 2
    with pytest.raises(ValueError, match="quality: too little was observed"):
        measured_profiles(Moments(), CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0.0}, "share: 0.0 must lie between 0 and 1"),
        (
            {"traffic": ExpectedTraffic(requests_per_day=0, users=5)},
            "traffic: requests per day and users must be above 0",
        ),
        ({"profiles": []}, "no metric has a weight"),
        ({"profiles": [replace(THUMBS, per_request=0.0)]}, "positive: mean 0.7, .*, per request 0; all three"),
        ({"gain": 0.0}, "gain: 0 is not above 0"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], message: str) -> None:
    question: dict[str, object] = {"gain": 0.05, "share": 0.1, "traffic": MANY, "profiles": PROFILES, **change}
    with pytest.raises(ValueError, match=message):
        required_test(**question, config=CONFIG)  # type: ignore[arg-type]


def test_no_time_shows_nothing() -> None:
    with pytest.raises(ValueError, match="days: 0 must be above 0"):
        detectable_gain(0, 0.1, MANY, PROFILES, CONFIG)


@settings(max_examples=25)
@given(st.floats(0.02, 0.5), st.floats(0.05, 0.5), st.floats(100, 1e5))
def test_twice_the_gain_never_takes_longer(gain: float, share: float, users: float) -> None:
    traffic = ExpectedTraffic(requests_per_day=1000, users=users)
    small, large = (required_test(g, share, traffic, PROFILES, CONFIG).days for g in (gain, 2 * gain))
    if small is not None:
        assert large is not None
        assert large <= small
