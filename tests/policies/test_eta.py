"""The range in which a decision may be expected: linear at best, the users' ceiling at worst."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from policies.assessment import Eta
from policies.estimates import EffectEstimate, Metric
from policies.eta import estimate_eta, eta_in_words
from policies.evidence import information_needed
from policies.experiment_terms import ABTestConfig
from policies.records import TESTED
from tests.harness.arms import HOUR, arm_stats, facts

CONFIG = ABTestConfig()
METRICS = [Metric.QUALITY, Metric.POSITIVE]


def eta(
    theta: float, information: float, *, each: int = 1, hours: float = 100.0, config: ABTestConfig = CONFIG
) -> Eta | None:
    some = facts(*(arm_stats(arm, 200, requests_each=each) for arm in TESTED))
    effect = EffectEstimate(theta=theta, se=information**-0.5, effective_users=200)
    return estimate_eta(some, config, effect, METRICS, HOUR * hours)


NEEDED = information_needed(0.05, deltas=(0.05, 0.2), alpha=0.05)


def test_half_of_the_information_takes_as_long_again() -> None:
    seen = eta(0.03, NEEDED / 2)
    assert seen is not None
    assert seen.gain == 0.05
    assert seen.earliest_hours == pytest.approx(100)


def test_returning_users_are_worth_less_each_time() -> None:
    """From w(1) = 1 to w(n) = 2 takes n = 2.25 visits: 2n/(1 + 0.1(n − 1)) by hand."""
    seen = eta(0.03, NEEDED / 2, each=1)
    assert seen is not None
    assert seen.latest_hours == pytest.approx(125)


def test_users_at_their_ceiling_never_get_there() -> None:
    seen = eta(0.03, NEEDED / 2, each=50)
    assert seen is not None
    assert seen.latest_hours is None
    assert eta_in_words(seen, CONFIG).endswith("; without new users or a larger share it cannot be reached.")


def test_where_a_user_has_one_voice_only_new_users_help() -> None:
    seen = eta(0.03, NEEDED / 2, config=replace(CONFIG, icc=1.0))
    assert seen is not None
    assert seen.latest_hours is None


def test_without_a_cap_both_ends_meet() -> None:
    seen = eta(0.03, NEEDED / 2, config=replace(CONFIG, icc=0.0))
    assert seen is not None
    assert seen.latest_hours == pytest.approx(seen.earliest_hours)
    assert eta_in_words(seen, CONFIG).endswith("the evidence may suffice in 4 days.")


def test_enough_evidence_only_waits_for_the_shortest_duration() -> None:
    seen = eta(0.10, 10 * NEEDED, hours=20.0)
    assert seen is not None
    assert seen.earliest_hours == seen.latest_hours == pytest.approx(28)


def test_a_range_is_told_as_one() -> None:
    seen = eta(0.03, NEEDED / 3, hours=10)
    assert seen is not None
    words = eta_in_words(seen, CONFIG)
    assert words == "If the true gain is +5.0 %, the evidence may suffice in 38.0 hours."
    seen = eta(0.03, NEEDED / 3, hours=30)
    assert seen is not None
    words = eta_in_words(seen, CONFIG)
    assert words == "If the true gain is +5.0 %, the evidence may suffice in 2 days, or in 4 days if no new users come."


def test_a_test_that_would_take_too_long_says_so() -> None:
    seen = eta(0.0, NEEDED / 100)
    assert seen is not None
    assert eta_in_words(seen, CONFIG).endswith(
        "That is longer than the test may take (30 days): `ratchet power` says what makes it shorter."
    )


def test_strict_evidence_takes_longer_and_cannot_be_reached_at_the_threshold() -> None:
    strict = replace(CONFIG, evidence="strict")
    default, longer = eta(0.10, NEEDED / 20), eta(0.10, NEEDED / 20, config=strict)
    assert default is not None
    assert longer is not None
    assert longer.earliest_hours > 3 * default.earliest_hours
    assert eta(0.04, NEEDED, config=strict) is None


def test_without_a_pace_there_is_no_guess() -> None:
    assert eta(0.03, NEEDED, hours=0.0) is None
    unknown = EffectEstimate(theta=0.03, se=math.inf, effective_users=9)
    assert estimate_eta(facts(*(arm_stats(arm, 9) for arm in TESTED)), CONFIG, unknown, METRICS, 10 * HOUR) is None


def test_an_arm_without_observations_has_no_latest_end() -> None:
    none = facts(*(arm_stats(arm, 20, quality=None, thumbs=None) for arm in TESTED))
    effect = EffectEstimate(theta=0.03, se=0.02, effective_users=20)
    seen = estimate_eta(none, CONFIG, effect, METRICS, 10 * HOUR)
    assert seen is not None
    assert seen.latest_hours is None
