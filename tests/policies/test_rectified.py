"""A judge's score that votes rectify: the worked example, the reference's numbers, and what it can never do."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.rectified import rectified_effect, rectified_quality
from policies.stages import Stages, weighted_effect

Answers = Sequence[tuple[int | None, float]]
"""Of each user one answer: the vote (1, 0 or none), and what the judge says."""
CHAMPION: Answers = [*[(1, 1)] * 6, *[(0, 0)] * 3, (0, 1), *[(None, 1)] * 21, *[(None, 0)] * 9] * 4


def arm(answers: Answers) -> Moments:
    moments = Moments()
    for vote, judged in answers:
        cast = float(vote is not None)
        seen = {
            Metric.POSITIVE: (cast, float(vote or 0)),
            Metric.LATENCY: (1.0, 1.0 + 0.1 * (judged > 0.5)),
            Metric.JUDGE: (1.0, judged),
            Metric.JUDGE_VOTED: (cast, cast * judged),
        }
        n, s = zip(*(seen.get(metric, (0.0, 0.0)) for metric in METRICS), strict=True)
        moments = moments.replaced(None, UserTotals(n=n, s=s).vector())
    return moments


def test_a_judge_who_likes_whatever_the_challenger_says_is_rectified() -> None:
    """Thumbs are 0.6 in both arms; the judge says 0.7 of the champion, and 1 of the challenger."""
    flat = arm([*[(1, 1)] * 6, *[(0, 1)] * 4, *[(None, 1)] * 30] * 4)
    raw = weighted_effect(Stages.one(arm(CHAMPION), flat), {Metric.JUDGE: 1.0})
    assert raw is not None
    assert raw.theta == pytest.approx(3 / 7)
    quality = rectified_quality(Stages.one(arm(CHAMPION), flat))
    assert quality is not None
    assert (quality.trust, quality.champion, quality.challenger) == pytest.approx((6 / 7, 0.6, 0.6))
    effect = rectified_effect(Stages.one(arm(CHAMPION), flat))
    assert effect is not None
    assert effect.theta == pytest.approx(0.0, abs=1e-12)
    assert effect.se == pytest.approx(0.159552, abs=1e-6)
    assert effect.effective_users == 40


def test_a_good_judge_makes_votes_worth_more() -> None:
    votes = weighted_effect(Stages.one(arm(CHAMPION), arm(CHAMPION)), {Metric.POSITIVE: 1.0})
    both = rectified_effect(Stages.one(arm(CHAMPION), arm(CHAMPION)))
    assert votes is not None
    assert both is not None
    assert both.theta == pytest.approx(votes.theta, abs=1e-12)
    assert (votes.se / both.se) ** 2 > 1.8


@pytest.mark.parametrize("word", [0.0, 0.5, 1.0])
def test_a_judge_who_always_says_the_same_leaves_the_votes(word: float) -> None:
    champion, challenger = (arm([(vote, word) for vote, _ in answers]) for answers in (CHAMPION, CHAMPION[3:]))
    votes, both = (
        weighted_effect(Stages.one(champion, challenger), {Metric.POSITIVE: 1.0}),
        rectified_effect(Stages.one(champion, challenger)),
    )
    assert votes is not None
    assert both is not None
    assert (both.theta, both.se) == pytest.approx((votes.theta, votes.se))


@given(seed=st.integers(0, 10_000))
def test_a_judge_who_knows_nothing_of_votes_has_next_to_no_say(seed: int) -> None:
    """What it says is drawn apart from the votes: λ is near 0, and so is the effect to that of the votes."""
    rng = random.Random(seed)
    answers = [(rng.choice((1, 1, 0, None)), rng.random()) for _ in range(800)]
    quality = rectified_quality(Stages.one(arm(answers), arm(answers[::-1])))
    assert quality is not None
    assert 0.0 <= quality.trust < 0.45
    others = [(rng.choice((1, 1, 0, None)), rng.random()) for _ in range(800)]
    champion, challenger = arm(answers), arm(others)
    votes, both = (
        weighted_effect(Stages.one(champion, challenger), {Metric.POSITIVE: 1.0}),
        rectified_effect(Stages.one(champion, challenger)),
    )
    assert votes is not None
    assert both is not None
    assert abs(both.theta - votes.theta) < 1.5 * votes.se
    assert both.se < 1.05 * votes.se


judged = st.tuples(st.sampled_from((None, 0, 1)), st.floats(0, 1))


@given(st.lists(judged, max_size=12), st.lists(judged, max_size=12))
def test_what_is_missing_is_unknown_and_what_is_known_is_finite(old: Answers, new: Answers) -> None:
    champion, challenger = arm(old), arm(new)
    quality, effect = (
        rectified_quality(Stages.one(champion, challenger)),
        rectified_effect(Stages.one(champion, challenger)),
    )
    known = all(any(vote is not None for vote, _ in answers) for answers in (old, new))
    assert (quality is not None) == known
    assert known or effect is None
    if quality is not None:
        assert 0.0 <= quality.trust <= 1.0
    if effect is not None:
        assert math.isfinite(effect.theta)
        assert effect.se > 0


def test_it_stands_in_one_sum_with_latency() -> None:
    champion, challenger = arm(CHAMPION), arm(CHAMPION[5:])
    whole = rectified_effect(Stages.one(champion, challenger), 0.8, {Metric.LATENCY: -0.2})
    quality = rectified_effect(Stages.one(champion, challenger))
    latency = weighted_effect(Stages.one(champion, challenger), {Metric.LATENCY: 1.0})
    assert whole is not None
    assert quality is not None
    assert latency is not None
    assert whole.theta == pytest.approx(0.8 * quality.theta - 0.2 * latency.theta)
    assert rectified_effect(Stages.one(champion, Moments()), 0.8, {Metric.LATENCY: -0.2}) is None
