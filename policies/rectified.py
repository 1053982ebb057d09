"""A judge's score, rectified by votes: what voters would say of the answers that nobody has voted on.

A judge sees every answer, and is never quite right: it may like the challenger's manner, or be of its family. People
vote on few answers, and their votes are what counts. Both together (prediction-powered inference: Angelopoulos et al.,
Science 382, 2023, arXiv 2301.09633) are surer than the votes alone, and as honest: per arm

    Q = V + λ (J − Jv)      V the votes, J the judge on all judged answers, Jv the judge on those that are voted on

Whatever the judge adds to one arm is in J and in Jv, and goes. λ = cov(V, Jv − J) / var(Jv − J), within [0, 1] and from
the champion alone, is how much the judge's word is worth: a judge that knows nothing of votes has 0, and the votes
decide by themselves. θ = Q₁/Q₀ − 1 by the delta method over the three pairs of sums, all soft-capped ratios as ever;
λ is taken as fixed, and the floor comes from the champion's spread of Q.

Voters are no random sample of users: Q says what *voters* would say. If who votes depends on the answer in the same way
in both arms, equal models stay equal. If it depends on the arm, nothing computed from votes is valid: the check of the
feedback rates looks for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.estimates import (
    EffectEstimate,
    Metric,
    MetricMean,
    Moments,
    Term,
    combined_effect,
    covariance,
    metric_mean,
    weighted_terms,
)

__all__ = ["RECTIFIED", "RectifiedQuality", "rectified_effect", "rectified_quality"]

RECTIFIED: Final = (Metric.POSITIVE, Metric.JUDGE, Metric.JUDGE_VOTED)
"""What Q is made of."""
_NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class RectifiedQuality:
    """Q of both arms."""

    champion: float
    challenger: float
    trust: float
    """λ, 0 to 1: how much the judge's word is worth beside the votes."""


def rectified_quality(champion: Moments, challenger: Moments) -> RectifiedQuality | None:
    """Q in both arms; None where votes, or judged answers, or such with a vote are missing in one of them."""
    old, new = _means(champion), _means(challenger)
    if old is None or new is None:
        return None
    trust = _trust(champion)
    return RectifiedQuality(champion=_q(old, trust), challenger=_q(new, trust), trust=trust)


def rectified_effect(
    champion: Moments, challenger: Moments, weight: float = 1.0, beside: Mapping[Metric, float] | None = None
) -> EffectEstimate | None:
    """`weight` times the relative change of Q, plus the weighted changes of the metrics `beside` it, with one standard
    error. Effective users are those of votes and of judged answers (and of the metrics beside).

    None where Q is not known in both arms, or not above 0 in the champion, or a metric beside it is missing.
    """
    old, new = _means(champion), _means(challenger)
    rest = weighted_terms(champion, challenger, beside or {})
    if old is None or new is None or rest is None:
        return None
    trust = _trust(champion)
    q_old, q_new = _q(old, trust), _q(new, trust)
    if q_old < _NOTHING:
        return None
    signs = {Metric.POSITIVE: 1.0, Metric.JUDGE: trust, Metric.JUDGE_VOTED: -trust}
    group = [
        Term(metric, old[metric], new[metric], weight * sign / q_old, weight * sign * q_new / q_old**2)
        for metric, sign in signs.items()
    ]
    theta, others = rest
    return combined_effect(
        theta + weight * (q_new / q_old - 1.0), champion, challenger, [group, *([t] for t in others)]
    )


def _means(arm: Moments) -> dict[Metric, MetricMean] | None:
    found = {metric: mean for metric in RECTIFIED if (mean := metric_mean(arm, metric)) is not None}
    return found if len(found) == len(RECTIFIED) else None


def _q(means: Mapping[Metric, MetricMean], trust: float) -> float:
    judged = means[Metric.JUDGE].mean - means[Metric.JUDGE_VOTED].mean
    return means[Metric.POSITIVE].mean + trust * judged


def _trust(champion: Moments) -> float:
    votes, apart = {Metric.POSITIVE: 1.0}, {Metric.JUDGE_VOTED: 1.0, Metric.JUDGE: -1.0}
    spread = covariance(champion, apart, apart)
    return min(1.0, max(0.0, covariance(champion, votes, apart) / spread)) if spread > 0 else 0.0
