"""How two arms differ: by hand, against the oracle, over several stages, and as properties."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import DEFAULT_ICC, METRICS, Metric, MetricMean, Moments, UserTotals
from policies.records import Arm
from policies.stages import Stage, Stages, difference, overall_means, share_correlation, weighted_effect
from tests.harness.arms import arm_stats
from tests.policies.oracle import ORACLE, moments

WEIGHTS = {Metric.QUALITY: 0.5, Metric.POSITIVE: 0.3, Metric.LATENCY: -0.2}
CHAMPION, CHALLENGER = Arm.CHAMPION, Arm.CHALLENGER
CASES = json.loads((Path(__file__).parent / "data" / "stages.json").read_text())["stages"]
"""Of the reference of docs/statistics.md, pinned: quality, thumbs, latency and errors in one to four stages."""
GOOD = {"quality": (*(1.0,) * 9, 0.0)}
BAD = {"quality": (1.0, 0.0)}

totals = st.builds(
    lambda n, share: UserTotals(n=n, s=tuple(a * b for a, b in zip(n, share, strict=True))),
    st.tuples(*[st.integers(0, 50).map(float)] * len(METRICS)),
    st.tuples(*[st.floats(0, 1)] * len(METRICS)),
)
arms = st.lists(totals, min_size=2, max_size=8)


def arm_of(users: list[UserTotals]) -> Moments:
    arm = Moments()
    for user in users:
        arm = arm.replaced(None, user.vector())
    return arm


def stage(share: float, champion: Moments, challenger: Moments) -> Stage:
    return Stage(share=share, champion=champion, challenger=challenger)


def by_name(users: list[Any]) -> Moments:
    """Of the oracle's four metrics."""
    places = [METRICS.index(m) for m in (Metric.QUALITY, Metric.POSITIVE, Metric.LATENCY, Metric.ERROR)]
    found = Moments()
    for n, s in users:
        counts, sums = [0.0] * len(METRICS), [0.0] * len(METRICS)
        for place, count, total in zip(places, n, s, strict=True):
            counts[place], sums[place] = float(count), float(total)
        found = found.replaced(None, UserTotals(n=tuple(counts), s=tuple(sums)).vector())
    return found


def quality(champion: int, challenger: int, levels: tuple[dict[str, Any], dict[str, Any]], share: float) -> Stage:
    """Users with one answer each, of which some are right."""
    old, new = arm_stats(CHAMPION, champion, **levels[0]), arm_stats(CHALLENGER, challenger, **levels[1])
    return stage(share, old.moments, new.moments)


@pytest.mark.parametrize("case", CASES)
def test_stages_agree_with_the_oracle(case: dict[str, Any]) -> None:
    stages = Stages(tuple(stage(share, by_name(old), by_name(new)) for share, old, new in case["stages"]))
    for effect, expected in (
        (weighted_effect(stages, WEIGHTS), case["composite"]),
        (difference(stages, Metric.ERROR), case["error"]),
    ):
        assert effect is not None
        assert effect.theta == pytest.approx(expected["theta"], rel=1e-9, abs=1e-9)
        assert effect.se == pytest.approx(expected["se"], rel=1e-9)
        assert effect.effective_users == pytest.approx(expected["effective_users"], rel=1e-9)


def test_a_worse_day_is_nobodys_fault() -> None:
    """Both arms were right 9 times in 10, and then, as the share rose, in half: pooled rows say −25 %."""
    first, second = quality(90, 10, (GOOD, GOOD), 0.1), quality(50, 50, (BAD, BAD), 0.5)
    both = weighted_effect(Stages((first, second)), {Metric.QUALITY: 1.0})
    assert both is not None
    assert both.theta == pytest.approx(0.0, abs=1e-12)
    assert both.se == pytest.approx(0.1323, abs=5e-5)
    pooled = Stages.one(first.champion + second.champion, first.challenger + second.challenger)
    lie = weighted_effect(pooled, {Metric.QUALITY: 1.0})
    assert lie is not None
    assert lie.theta == pytest.approx(-0.2516, abs=5e-5)
    old, new = overall_means(Stages((first, second)), Metric.QUALITY)
    assert old is not None
    assert new is not None
    assert old.mean == pytest.approx(new.mean)
    assert old.mean == pytest.approx(20.6 / 34)


def test_the_stages_gains_are_put_together_by_weights_that_see_no_outcome() -> None:
    """The worked example: 6 of 10 against 45 of 90, then 25 of 50 in both arms."""
    six = {"quality": (1.0, 1.0, 1.0, 0.0, 0.0)}
    first, second = quality(90, 10, (BAD, six), 0.1), quality(50, 50, (BAD, BAD), 0.5)
    both = weighted_effect(Stages((first, second)), {Metric.QUALITY: 1.0})
    assert both is not None
    assert both.theta == pytest.approx((9 * 0.6 + 25 * 0.5) / (34 * 0.5) - 1)


def test_the_correlation_of_two_stages() -> None:
    assert share_correlation(0.1, 0.5) == pytest.approx(1 / 3)
    assert share_correlation(0.01, 0.1) == pytest.approx(0.3015, abs=5e-5)
    assert share_correlation(0.3, 0.3) == pytest.approx(1.0)


@given(arms, arms, st.floats(0.01, 0.5))
def test_one_stage_is_its_own_estimate_to_the_last_digit(
    a: list[UserTotals], b: list[UserTotals], share: float
) -> None:
    """Whatever the share: and a stage in which nothing was observed changes nothing."""
    one = stage(share, arm_of(a), arm_of(b))
    empty = stage(share / 2, Moments(), Moments())
    for effect in (lambda s: weighted_effect(s, WEIGHTS), lambda s: difference(s, Metric.ERROR)):
        assert (
            effect(Stages((empty, one))) == effect(Stages((one,))) == effect(Stages.one(one.champion, one.challenger))
        )


@given(st.lists(st.tuples(arms, arms), min_size=1, max_size=3), st.floats(0.01, 1.0))
def test_more_stages_never_have_more_effective_users_than_they_have_together(
    pairs: list[tuple[list[UserTotals], list[UserTotals]]], icc: float
) -> None:
    shares = (0.02, 0.1, 0.5)
    stages = Stages(tuple(stage(p, arm_of(a), arm_of(b)) for p, (a, b) in zip(shares, pairs, strict=False)), icc)
    effect = difference(stages, Metric.ERROR)
    if effect is None:
        return
    alone = [found for one in stages.parts if (found := difference(Stages((one,)), Metric.ERROR)) is not None]
    assert effect.effective_users <= sum(one.effective_users for one in alone) * (1 + 1e-9)


def test_users_who_come_back_are_not_counted_as_new_ones() -> None:
    """The same stage three times says less than three independent ones: the more, the more alike a user's answers."""
    many = quality(400, 100, ({"requests_each": 20}, {"requests_each": 20}), 0.2)
    alone = weighted_effect(Stages((many,)), WEIGHTS)
    assert alone is not None
    ses = []
    for icc in (0.0, DEFAULT_ICC, 1.0):
        effect = weighted_effect(Stages((many,) * 3, icc), WEIGHTS)
        assert effect is not None
        assert effect.theta == pytest.approx(alone.theta)
        ses.append(effect.se)
    assert ses[0] == pytest.approx(alone.se / math.sqrt(3))
    assert ses[0] < ses[1] < ses[2] == pytest.approx(alone.se)


def test_a_stage_without_users_enough_has_no_weight() -> None:
    few, many = quality(50, 1, (BAD, GOOD), 0.02), quality(50, 50, (BAD, BAD), 0.5)
    assert weighted_effect(Stages((few, many)), WEIGHTS) == weighted_effect(Stages((many,)), WEIGHTS)


def test_a_metric_of_one_stage_only_counts_with_that_stage() -> None:
    """Votes came late: of the first stage there are none."""
    silent = quality(90, 10, ({"thumbs": None}, {"thumbs": None}), 0.1)
    both = quality(50, 50, ({}, {"thumbs": (1.0,) * 9 + (0.0,)}), 0.5)
    found = weighted_effect(Stages((silent, both)), {Metric.POSITIVE: 1.0})
    assert found == weighted_effect(Stages((both,)), {Metric.POSITIVE: 1.0})


def test_the_smaller_arm_borrows_whichever_it_is() -> None:
    """In a watch the small arm is the old champion's: a lucky one must not make the new champion look bad."""
    many = arm_stats(CHALLENGER, 900, errors=(*(0.0,) * 19, 1.0)).moments
    lucky = arm_stats(CHAMPION, 100, errors=(0.0,)).moments
    mirrored = difference(Stages((stage(0.9, lucky, many),)), Metric.ERROR)
    plain = difference(Stages((stage(0.1, many, lucky),)), Metric.ERROR)
    naive = difference(Stages((stage(0.5, lucky, many),)), Metric.ERROR)
    assert mirrored is not None
    assert plain is not None
    assert naive is not None
    assert (mirrored.theta, mirrored.se) == (pytest.approx(-plain.theta), pytest.approx(plain.se))
    assert mirrored.se > 2 * naive.se


def test_metrics_whose_products_nobody_keeps_move_together_as_much_as_they_can() -> None:
    """Standard errors add up: the sum can be no surer than either."""
    champion, challenger = arm_stats(CHAMPION, 80).moments, arm_stats(CHALLENGER, 40).moments
    stages = Stages.one(champion, challenger)
    parts = [weighted_effect(stages, {metric: 1.0}) for metric in (Metric.QUALITY, Metric.VOTED)]
    both = weighted_effect(stages, {Metric.QUALITY: 1.0, Metric.VOTED: 1.0})
    assert both is not None
    assert both.se == pytest.approx(sum(part.se for part in parts if part is not None))


def test_means_without_a_comparison_are_shown_as_they_are() -> None:
    old = arm_stats(CHAMPION, 5).moments
    assert overall_means(Stages.one(old, Moments()), Metric.QUALITY)[1] is None
    shown = overall_means(Stages.one(old, Moments()), Metric.QUALITY)[0]
    assert isinstance(shown, MetricMean)
    assert replace(shown, mean=0.0).mean == 0.0


@pytest.mark.parametrize("case", ORACLE["effects"])
def test_effects_agree_with_the_oracle(case: dict[str, Any]) -> None:
    champion, challenger = moments(case["champion"]), moments(case["challenger"])
    for effect, expected in (
        (weighted_effect(Stages.one(champion, challenger), WEIGHTS), case["composite"]),
        (difference(Stages.one(champion, challenger), Metric.ERROR), case["error"]),
    ):
        assert effect is not None
        assert effect.theta == pytest.approx(expected["theta"], rel=1e-9, abs=1e-9)
        assert effect.se == pytest.approx(expected["se"], rel=1e-9)
        assert effect.effective_users == pytest.approx(expected["effective_users"], rel=1e-9)


def test_without_data_there_is_no_effect() -> None:
    full, no_votes = arm_stats(CHAMPION, 20).moments, arm_stats(CHALLENGER, 20, thumbs=None).moments
    assert weighted_effect(Stages.one(full, no_votes), WEIGHTS) is None
    assert weighted_effect(Stages.one(no_votes, full), WEIGHTS) is None
    assert weighted_effect(Stages.one(arm_stats(CHAMPION, 20, thumbs=(0.0,)).moments, full), WEIGHTS) is None
    assert weighted_effect(Stages.one(full, full), {Metric.QUALITY: 0.0}) is None
    assert difference(Stages.one(full, Moments()), Metric.ERROR) is None
    assert weighted_effect(Stages.one(full, no_votes), {**WEIGHTS, Metric.POSITIVE: 0.0}) is not None


def test_a_lone_user_has_no_spread() -> None:
    many, one = arm_stats(CHAMPION, 20).moments, arm_stats(CHALLENGER, 1).moments
    composite, errors = weighted_effect(Stages.one(many, one), WEIGHTS), difference(Stages.one(one, many), Metric.ERROR)
    assert composite is not None
    assert errors is not None
    assert composite.se == errors.se == math.inf


def test_agreement_of_all_users_is_not_certainty_about_scores() -> None:
    champion = arm_stats(CHAMPION, 30, quality=(0.8,)).moments
    challenger = arm_stats(CHALLENGER, 30, quality=(0.9,)).moments
    effect = weighted_effect(Stages.one(champion, challenger), {Metric.QUALITY: 1.0})
    assert effect is not None
    assert effect.theta == pytest.approx(0.125)
    assert effect.se == math.inf


def test_total_failure_against_none_is_evidence() -> None:
    champion = arm_stats(CHAMPION, 100, errors=(0.0,)).moments
    challenger = arm_stats(CHALLENGER, 25, errors=(1.0,)).moments
    effect = difference(Stages.one(champion, challenger), Metric.ERROR)
    assert effect is not None
    assert effect.theta == 1.0
    assert effect.se == pytest.approx(math.sqrt(0.2 * 0.8 * (1 / 100 + 1 / 25)))


def test_no_errors_at_all_is_no_change_of_unknown_spread() -> None:
    champion, challenger = (arm_stats(arm, 100, errors=(0.0,)).moments for arm in (CHAMPION, CHALLENGER))
    effect = difference(Stages.one(champion, challenger), Metric.ERROR)
    assert effect is not None
    assert effect.theta == 0.0
    assert effect.se == math.inf


def test_a_lucky_small_arm_borrows_the_champions_spread() -> None:
    champion = arm_stats(CHAMPION, 1000, thumbs=(*(1.0,) * 9, 0.0)).moments
    lucky = arm_stats(CHALLENGER, 12, thumbs=(1.0,)).moments
    effect = weighted_effect(Stages.one(champion, lucky), {Metric.POSITIVE: 1.0})
    assert effect is not None
    assert effect.se >= math.sqrt(0.9 * 0.1 / 12) / 0.9


@given(st.lists(totals, min_size=2, max_size=8), st.lists(totals, min_size=2, max_size=8))
def test_effects_are_finite_or_say_that_they_are_not(a: list[UserTotals], b: list[UserTotals]) -> None:
    arms = []
    for users in (a, b):
        arm = Moments()
        for user in users:
            arm = arm.replaced(None, user.vector())
        arms.append(arm)
    composite, errors = weighted_effect(Stages.one(*arms), WEIGHTS), difference(Stages.one(*arms), Metric.ERROR)
    for effect in (composite, errors):
        if effect is not None:
            assert math.isfinite(effect.theta)
            assert effect.se > 0
            assert effect.effective_users > 0
