"""Profiles: what a test weighs, as it is measured or assumed, and what a judge would make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.estimates import Metric, Moments
from policies.experiment import ABTestConfig
from policies.experiment_terms import SignalWeights
from policies.facts import JudgeFacts
from policies.profiles import JUDGE_SAVES, assumed_profiles, measured_profiles, with_judge
from policies.records import Arm
from tests.harness.arms import arm_stats, facts

CONFIG = ABTestConfig()


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


def test_rates_that_were_counted_are_taken_before_those_of_the_weights() -> None:
    """Ten requests of a user weigh 5.3, one vote of his 1: by weights a tenth looks like a fifth."""
    often = arm_stats(Arm.CHAMPION, 200, requests_each=10).moments
    thumbs = {one.metric: one for one in measured_profiles(often, CONFIG, rates={Metric.POSITIVE: 0.1})}
    assert thumbs[Metric.POSITIVE].per_request == 0.1
    assert thumbs[Metric.QUALITY].per_request == 1.0


def test_votes_on_conversations_and_signals_have_profiles_where_they_weigh() -> None:
    config = replace(CONFIG, signal_weights=SignalWeights(conversation=0.3, regenerated=0.1))
    assumed = {one.metric: one for one in assumed_profiles(config, vote_rate=0.2)}
    assert (assumed[Metric.CONVERSATION].per_request, assumed[Metric.REGENERATED].mean) == (0.02, 0.95)
    signals = {Metric.CONVERSATION: (1.0, 1.0, 0.0, 1.0), Metric.REGENERATED: (0.0,) * 9 + (1.0,)}
    arm = arm_stats(Arm.CHAMPION, 200, signals=signals).moments
    measured = {one.metric: one for one in measured_profiles(arm, config)}
    assert measured[Metric.CONVERSATION].mean == pytest.approx(0.75)
    assert measured[Metric.REGENERATED].mean == pytest.approx(0.9), "of the answers that were accepted"


def test_format_checks_that_find_nothing_are_left_out_as_in_a_test() -> None:
    arms = [arm_stats(arm, 200, quality=(0.99,), given=(0.0,)) for arm in (Arm.CHAMPION, Arm.CHALLENGER)]
    found = measured_profiles(arms[0].moments, CONFIG, facts(*arms))
    assert [one.metric for one in found] == [Metric.POSITIVE, Metric.LATENCY]


def test_a_judge_that_counts_takes_the_place_of_quality_and_thumbs() -> None:
    arms = [
        arm_stats(arm, 200, quality=(0.99,), given=(0.0,), judge=(0.8, 0.6), judge_voted=(0.8, 0.6))
        for arm in (Arm.CHAMPION, Arm.CHALLENGER)
    ]
    judged = replace(facts(*arms), judge=JudgeFacts(scorer="j", counts=True))
    votes, latency = measured_profiles(arms[0].moments, CONFIG, judged)
    plain = measured_profiles(arms[0].moments, replace(CONFIG, quality_weight=0.0))[0]
    assert (votes.metric, votes.weight, latency.metric) == (Metric.POSITIVE, 0.8, Metric.LATENCY)
    assert votes.sd**2 == pytest.approx(plain.sd**2 * (1 - JUDGE_SAVES))


def test_what_a_judge_would_do_depends_on_what_there_is() -> None:
    thumbs = assumed_profiles(replace(CONFIG, quality_weight=0.0), vote_rate=0.2)
    judged = with_judge(thumbs, CONFIG)
    assert judged is not None
    assert [(one.metric, one.weight) for one in judged] == [(Metric.POSITIVE, 0.8), (Metric.LATENCY, -0.2)]
    assert with_judge(assumed_profiles(CONFIG, vote_rate=0.2), CONFIG) is None, "the application scores its answers"
    assert with_judge(thumbs[1:], CONFIG) is None, "nobody votes"
