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
feedback rates looks for that. Of a test in stages Q is put together as any other mean (`policies.stages`), with one λ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.cuped import adjusted
from policies.estimates import EffectEstimate, Metric, MetricMean, covariance
from policies.stages import StagePart, Stages, Term, parts_by_stage, weighted_terms

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


def rectified_quality(stages: Stages) -> RectifiedQuality | None:
    """Q in both arms; None where votes, or judged answers, or such with a vote are missing in one of them."""
    parts = parts_by_stage(stages, RECTIFIED)
    if not parts:
        return None
    trust = _trust(stages, parts)
    return RectifiedQuality(
        champion=sum(part.part * _q(part.old, trust) for part in parts),
        challenger=sum(part.part * _q(part.new, trust) for part in parts),
        trust=trust,
    )


def rectified_effect(
    stages: Stages, weight: float = 1.0, beside: Mapping[Metric, float] | None = None
) -> EffectEstimate | None:
    """`weight` times the relative change of Q, plus the weighted changes of the metrics `beside` it, with one standard
    error. Effective users are those of votes and of judged answers (and of the metrics beside). Where the stages have
    their users' past, what that explains is taken off: the past of Q is that of the votes.

    None where Q is not known in both arms, or not above 0 in the champion, or a metric beside it is missing.
    """
    quality, rest = rectified_quality(stages), weighted_terms(stages, beside or {})
    if quality is None or rest is None or quality.champion < _NOTHING:
        return None
    signs = {Metric.POSITIVE: 1.0, Metric.JUDGE: quality.trust, Metric.JUDGE_VOTED: -quality.trust}
    gain, loss = weight / quality.champion, weight * quality.challenger / quality.champion**2
    groups = [
        [
            Term(at, part, metric, old[metric], new[metric], part * gain * sign, part * loss * sign)
            for metric, sign in signs.items()
        ]
        for at, part, old, new in parts_by_stage(stages, RECTIFIED)
    ]
    theta, others = rest
    theta += weight * (quality.challenger / quality.champion - 1.0)
    past = {**(beside or {}), Metric.POSITIVE: weight}
    return adjusted(theta, stages, [*groups, *([term] for term in others)], past)


def _q(means: Mapping[Metric, MetricMean], trust: float) -> float:
    judged = means[Metric.JUDGE].mean - means[Metric.JUDGE_VOTED].mean
    return means[Metric.POSITIVE].mean + trust * judged


def _trust(stages: Stages, parts: Sequence[StagePart]) -> float:
    """λ, one for all stages."""
    votes, apart = {Metric.POSITIVE: 1.0}, {Metric.JUDGE_VOTED: 1.0, Metric.JUDGE: -1.0}
    arms = [(part.part**2, stages.parts[part.stage].champion) for part in parts]
    spread = sum(weight * covariance(arm, apart, apart) for weight, arm in arms)
    shared = sum(weight * covariance(arm, votes, apart) for weight, arm in arms)
    return min(1.0, max(0.0, shared / spread)) if spread > 0 else 0.0
