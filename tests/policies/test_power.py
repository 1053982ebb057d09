"""Power: the numbers that docs/statistics.md prints, stages, the ceiling of returning users, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.estimates import Metric
from policies.experiment import ABTestConfig
from policies.power import (
    ExpectedTraffic,
    Habit,
    PowerAnswer,
    _Test,
    detectable_gain,
    observations_needed,
    required_test,
    shares_of,
)
from policies.profiles import MetricProfile, assumed_profiles
from policies.records import Arm
from policies.stages import Stage, Stages, weighted_effect
from tests.harness.arms import arm_stats

CONFIG = ABTestConfig(min_duration_hours=0.0)
THUMBS = MetricProfile(metric=Metric.POSITIVE, weight=1.0, mean=0.7, sd=0.21**0.5, per_request=0.2)
JUDGE = MetricProfile(metric=Metric.QUALITY, weight=1.0, mean=0.7, sd=0.23, per_request=1.0)
MANY = ExpectedTraffic(requests_per_day=2000, users=10**6)
PROFILES = assumed_profiles(CONFIG, vote_rate=0.2)
TENTH = (0.1,)


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
    answer = required_test(0.1, TENTH, MANY, [THUMBS], CONFIG)
    assert answer.observations is not None
    assert answer.observations["positive"] == pytest.approx(observations_needed(0.1, THUMBS, 0.1, CONFIG), rel=2e-3)
    assert answer.requests == pytest.approx(5 * answer.observations["positive"], abs=5)
    assert answer.users == answer.requests
    assert answer.days == pytest.approx(answer.requests / 2000, rel=1e-3)


def test_the_same_few_users_never_show_a_small_gain() -> None:
    few = ExpectedTraffic(requests_per_day=2000, users=200)
    answer = required_test(0.05, TENTH, few, PROFILES, CONFIG)
    assert answer.days is answer.requests is answer.users is answer.observations is None
    growing = required_test(0.05, TENTH, replace(few, new_users_per_day=50), PROFILES, CONFIG)
    assert growing.days is not None
    assert growing.users is not None
    assert growing.users == pytest.approx(200 + 50 * growing.days, abs=1)


def test_what_a_month_can_show_takes_a_month_to_show() -> None:
    traffic = ExpectedTraffic(requests_per_day=500, users=500)
    gain = detectable_gain(30, TENTH, traffic, PROFILES, CONFIG)
    assert required_test(gain, TENTH, traffic, PROFILES, CONFIG).days == pytest.approx(30, rel=1e-3)


def test_strict_evidence_only_counts_what_exceeds_the_threshold() -> None:
    strict = replace(CONFIG, evidence="strict")
    default, longer = (required_test(0.10, TENTH, MANY, PROFILES, config) for config in (CONFIG, strict))
    assert default.days is not None
    assert longer.days is not None
    assert longer.days > 3.5 * default.days
    assert detectable_gain(30, TENTH, MANY, PROFILES, strict) > 0.05
    with pytest.raises(ValueError, match=r"gain: 0\.05 is not above 0\.05"):
        required_test(0.05, TENTH, MANY, PROFILES, strict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shares": (0.0,)}, "share: 0.0 must lie between 0 and 1"),
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
    question: dict[str, object] = {"gain": 0.05, "shares": TENTH, "traffic": MANY, "profiles": PROFILES, **change}
    with pytest.raises(ValueError, match=message):
        required_test(**question, config=CONFIG)  # type: ignore[arg-type]


def test_two_stages_have_the_information_that_the_estimate_over_two_stages_has() -> None:
    """1,000 answers at 10 %, then 1,000 at 50 %, of users who come once in each; three of four are liked."""
    config = ABTestConfig(quality_weight=0.0, latency_weight=0.0, feedback_weight=1.0, min_effective_users=0.0)
    stages = [
        Stage(share=share, champion=arm_stats(Arm.CHAMPION, 1000 - n).moments,
              challenger=arm_stats(Arm.CHALLENGER, n).moments)
        for share, n in ((0.1, 100), (0.5, 500))
    ]  # fmt: skip
    seen = weighted_effect(Stages(tuple(stages)), {Metric.POSITIVE: 1.0})
    assert seen is not None
    liked = replace(THUMBS, mean=0.75, sd=0.1875**0.5, per_request=1.0)
    traffic = ExpectedTraffic(requests_per_day=1000, users=10**6)
    expected = _Test((0.1, 0.5), traffic, (liked,), config, 1.0)
    assert expected.information_after(2.0) == pytest.approx(seen.se**-2, rel=0.01)


def test_the_ramp_is_quicker_than_its_first_share_and_slower_than_its_last() -> None:
    traffic = ExpectedTraffic(requests_per_day=500, users=500)
    first, ramp, last = (
        days_of(required_test(0.1, shares, traffic, PROFILES, CONFIG)) for shares in (TENTH, (0.1, 0.5), (0.5,))
    )
    assert last < ramp < 0.6 * first


def days_of(answer: PowerAnswer) -> float:
    assert answer.days is not None
    return answer.days


def test_where_the_gain_is_the_threshold_four_of_five_take_far_longer_than_half() -> None:
    """The estimate of half of them is below it at any moment; below the threshold most are never promoted."""
    at, above, below = (required_test(gain, (0.5,), MANY, PROFILES, CONFIG) for gain in (0.05, 0.1, 0.03))
    assert at.half_days is not None
    assert above.half_days is not None
    assert 2.0 < days_of(at) / at.half_days < 4.0
    assert days_of(above) / above.half_days < 1.8
    assert below.half_days is not None
    assert below.days is None


def test_few_who_come_often_are_worth_less_than_many_who_come_seldom() -> None:
    even = ExpectedTraffic(requests_per_day=500, users=500)
    habits = (Habit(users=10, requests_per_day=25.0), Habit(users=490, requests_per_day=250 / 490))
    skewed = replace(even, habits=habits)
    slow, quick = (required_test(0.1, TENTH, traffic, PROFILES, CONFIG) for traffic in (skewed, even))
    assert days_of(slow) > 1.2 * days_of(quick)
    assert slow.users is not None
    assert 480 < slow.users <= 500


def test_a_challenger_needs_its_least_requests_whatever_they_show() -> None:
    """100 requests at 10 % of 50 a day are twenty days, at half of them four."""
    traffic = ExpectedTraffic(requests_per_day=50, users=2000)
    wide = replace(CONFIG, min_effective_users=0.0)
    assert days_of(required_test(2.0, TENTH, traffic, PROFILES, wide)) == pytest.approx(20, rel=0.01)
    assert days_of(required_test(2.0, (0.5,), traffic, PROFILES, wide)) == pytest.approx(4, rel=0.01)


def test_the_share_does_not_rise_before_there_are_enough_users_in_the_challengers_arm() -> None:
    forty = ExpectedTraffic(requests_per_day=50, users=40)
    assert required_test(0.5, (0.1, 0.5), forty, PROFILES, CONFIG).days is None, "four users never become ten"
    assert required_test(0.5, (0.5,), forty, PROFILES, CONFIG).days is not None


def test_a_canary_lasts_its_least_hours_and_a_measured_share_until_there_are_enough_users() -> None:
    many, few = (ExpectedTraffic(requests_per_day=n, users=10 * n) for n in (2000, 200))
    canary, first, last = _Test((0.01, 0.1, 0.5), many, PROFILES, ABTestConfig(), 1.0)._stages()
    assert (canary.since, first.since, last.since) == (0.0, 0.25, 1.25)
    *_, last = _Test((0.01, 0.1, 0.5), few, PROFILES, ABTestConfig(), 1.0)._stages()
    assert last.since == pytest.approx(0.25 + 10 / (200 * 0.2 * 0.1), rel=0.06), "ten voters at 10 % of 40 votes a day"


def test_the_planned_shares_are_the_ramps() -> None:
    assert shares_of(CONFIG, 2000.0) == (0.01, 0.1, 0.5)
    assert shares_of(CONFIG, 50.0) == (0.1, 0.5)
    assert shares_of(replace(CONFIG, stages=(0.3,)), 50.0) == (0.3,)


def test_what_the_users_past_takes_out_shortens_the_wait_by_as_much() -> None:
    plain, saved = (required_test(0.05, TENTH, MANY, [THUMBS], CONFIG, saving=part) for part in (0.0, 0.25))
    assert days_of(saved) == pytest.approx(0.75 * days_of(plain), rel=0.01)


def test_no_test_ends_before_the_shortest_duration() -> None:
    assert required_test(0.5, (0.5,), MANY, PROFILES, ABTestConfig()).days == 2.0


def test_no_time_shows_nothing() -> None:
    with pytest.raises(ValueError, match="days: 0 must be above 0"):
        detectable_gain(0, TENTH, MANY, PROFILES, CONFIG)


@settings(max_examples=25)
@given(st.floats(0.02, 0.5), st.floats(0.05, 0.5), st.floats(100, 1e5))
def test_twice_the_gain_never_takes_longer(gain: float, share: float, users: float) -> None:
    traffic = ExpectedTraffic(requests_per_day=1000, users=users)
    small, large = (required_test(g, (share,), traffic, PROFILES, CONFIG).days for g in (gain, 2 * gain))
    if small is not None:
        assert large is not None
        assert large <= small


def test_a_stage_that_may_be_left_at_once_is_none() -> None:
    """With no shortest duration a canary lasts no time, and a later stage has all the traffic."""
    ramp = required_test(0.1, (0.01, 0.05, 0.1), MANY, PROFILES, replace(CONFIG, min_effective_users=0))
    alone = required_test(0.1, TENTH, MANY, PROFILES, replace(CONFIG, min_effective_users=0))
    assert ramp.days == pytest.approx(alone.days)


def test_a_past_that_seems_to_explain_everything_still_leaves_a_test() -> None:
    all_of_it = required_test(0.1, TENTH, MANY, PROFILES, CONFIG, saving=1.0)
    assert all_of_it.days is not None
    assert 0.0 < detectable_gain(1.0, TENTH, MANY, PROFILES, CONFIG, saving=1.0) < 1.0


def test_requests_that_name_nobody_are_new_users_each() -> None:
    """As a test counts them: they are worth what as many users are who come once."""
    nobody = ExpectedTraffic(requests_per_day=300, users=300, strangers_per_day=300)
    new = ExpectedTraffic(requests_per_day=300, users=1e6)
    again = ExpectedTraffic(requests_per_day=300, users=300)
    answer, once, back = (required_test(0.05, (0.1, 0.5), one, PROFILES, CONFIG) for one in (nobody, new, again))
    assert answer.days is not None
    assert answer.days == pytest.approx(once.days, rel=0.05)
    assert back.days is None or answer.days < back.days / 2
    assert answer.users == answer.requests
    mixed = replace(nobody, strangers_per_day=150, habits=(Habit(users=30, requests_per_day=5),))
    between = required_test(0.05, (0.1, 0.5), mixed, PROFILES, CONFIG)
    assert between.days is not None
    assert answer.days < between.days < 4 * answer.days
