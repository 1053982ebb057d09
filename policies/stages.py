"""How two arms differ, over all stages of a test, and how sure that is.

A test's share may rise in stages. What every arm did in a stage is kept apart, for rows of different shares must never
be pooled: where all answers get better with the days, the arm that got its users later looks better (Simpson). Within
a stage the arms are concurrent, so its difference is honest whatever the weather; the stages' means are put together
with Mantel and Haenszel's weights h = W₀W₁/(W₀ + W₁), which do not look at outcomes:

    θ = Σ_k ω_k (A_k/B_k − 1),   A = Σ_s h R₁,  B = Σ_s h R₀          (of a rate: (A − B)/Σ h)

A stage's variance V_s is that of the delta method over users (Deng, Knoblich, Lu, arXiv 1803.06336) plus a floor: a
lucky small arm understates its own variance, so its part is at least what the other arm's spread implies. The same
users come back in the next stage, so stages are not independent: r is the largest correlation that the shares imply, f
the part of a stage's variance that can be between users at all,

    r_st = √( p_s(1 − p_t) / ((1 − p_s) p_t) ),   f_s = min(1, icc · max ΣN²/ΣN)
    V = Σ V_s + 2 Σ r_st √(f_s f_t V_s V_t)

With one stage all of it is that stage's own estimate, to the last digit. Not modelled: users who bring habits along
from the other arm, and arms that slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple, Self

from policies.estimates import (
    DEFAULT_ICC,
    NOT_ACCEPTED,
    WEIGHABLE,
    EffectEstimate,
    Metric,
    MetricMean,
    Moments,
    clustered,
    metric_mean,
)
from policies.past import PastMoments

__all__ = ["Adjustment", "Stage", "StagePart", "Stages", "Term", "combined_effect", "difference", "effective_users",
           "overall_means", "parts_by_stage", "share_correlation", "weighted_effect", "weighted_terms"]  # fmt: skip

_NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Both arms while the challenger had one share of the users."""

    share: float
    """The challenger's, in (0, 1)."""
    champion: Moments
    challenger: Moments
    champion_past: PastMoments | None = None
    challenger_past: PastMoments | None = None
    """What the arms' users did before the test; None where nobody has kept it."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a test, in order of rising share."""

    parts: tuple[Stage, ...]
    icc: float = DEFAULT_ICC
    """Intra-class correlation behind the soft cap: how alike one user's answers are."""

    @classmethod
    def one(cls, champion: Moments, challenger: Moments, share: float = 0.5) -> Self:
        """A test without a ramp."""
        return cls((Stage(share=share, champion=champion, challenger=challenger),))


class StagePart(NamedTuple):
    """What a stage says of a metric, or of several that make one quantity."""

    stage: int
    """Its place among the stages."""
    part: float
    """Its Mantel–Haenszel weight, as a part of all stages': they sum to 1."""
    old: Mapping[Metric, MetricMean]
    new: Mapping[Metric, MetricMean]


class Term(NamedTuple):
    """One metric's part in an effect, in one stage: ∂θ/∂R₁ is `gain`, −∂θ/∂R₀ is `loss`."""

    stage: int
    part: float
    metric: Metric
    old: MetricMean
    new: MetricMean
    gain: float
    loss: float


class Adjustment(NamedTuple):
    """What is known to have nothing to do with the models, and is taken off an effect (`policies.cuped`)."""

    theta: float
    variance: Mapping[int, float]
    """What a stage's variance gains by that, by its place; below 0 where it gets less."""
    factor: float
    """γ: how much of what was measured before is taken off."""


def share_correlation(lower: float, higher: float) -> float:
    """Largest correlation of the estimates of two stages with these shares, when the same users come in both."""
    return math.sqrt(lower * (1.0 - higher) / ((1.0 - lower) * higher))


def parts_by_stage(stages: Stages, metrics: Iterable[Metric]) -> list[StagePart]:
    """Each stage in which all of `metrics` were observed in both arms; the first of them gives the weights.

    Of several stages one with fewer than two users in an arm says nothing of its own error, and has weight 0.
    """
    wanted = tuple(metrics)
    found: list[tuple[int, float, dict[Metric, MetricMean], dict[Metric, MetricMean]]] = []
    for at, stage in enumerate(stages.parts):
        if len(stages.parts) > 1 and min(stage.champion.users, stage.challenger.users) < 2:
            continue
        old, new = _means(stage.champion, wanted), _means(stage.challenger, wanted)
        if old is None or new is None:
            continue
        w0, w1 = old[wanted[0]].observations, new[wanted[0]].observations
        found.append((at, w0 * w1 / (w0 + w1), old, new))
    whole = sum(h for _, h, _, _ in found)
    return [StagePart(at, h / whole, old, new) for at, h, old, new in found]


def overall_means(stages: Stages, metric: Metric) -> tuple[MetricMean | None, MetricMean | None]:
    """A metric in the champion's and the challenger's arm over all stages, weighted alike, so that the difference of
    the two is the estimated one; None where an arm was never observed.

    Where no stage has both arms, the one that was observed is shown as it is.
    """
    parts = parts_by_stage(stages, (metric,))
    if len(parts) == 1:
        return parts[0].old[metric], parts[0].new[metric]
    if parts:
        return _overall(parts, [part.old[metric] for part in parts]), _overall(parts, [p.new[metric] for p in parts])
    arms = ([stage.champion for stage in stages.parts], [stage.challenger for stage in stages.parts])
    old, new = (next((m for one in arm if (m := metric_mean(one, metric)) is not None), None) for arm in arms)
    return old, new


def weighted_effect(stages: Stages, weights: Mapping[Metric, float]) -> EffectEstimate | None:
    """The weighted sum of relative changes, Σ ω (A/B − 1). Metrics with weight 0 are left out.

    None when no metric has a weight, or when one of them was not observed in both arms of any stage, or is zero
    throughout in the champion (there is no relative change of nothing).
    """
    found = weighted_terms(stages, weights)
    if found is None or not found[1]:
        return None
    theta, terms = found
    return combined_effect(theta, stages, [[term] for term in terms])


def weighted_terms(stages: Stages, weights: Mapping[Metric, float]) -> tuple[float, list[Term]] | None:
    """The sum of `weighted_effect` and the terms that its error is made of; None where a metric lacks an arm."""
    terms: list[Term] = []
    theta = 0.0
    for metric, weight in weights.items():
        if not weight:
            continue
        parts = parts_by_stage(stages, (metric,))
        before = sum(part.part * part.old[metric].mean for part in parts)
        after = sum(part.part * part.new[metric].mean for part in parts)
        if metric in NOT_ACCEPTED:
            before, after, sign = 1.0 - before, 1.0 - after, -1.0
        else:
            sign = 1.0
        if before < _NOTHING:
            return None
        theta += weight * (after / before - 1.0)
        gain, loss = sign * weight / before, sign * weight * after / before**2
        terms += [
            Term(at, part, metric, old[metric], new[metric], part * gain, part * loss) for at, part, old, new in parts
        ]
    return theta, terms


def difference(stages: Stages, metric: Metric) -> EffectEstimate | None:
    """The absolute change R₁ − R₀ of a metric in [0, 1]; None when it was not observed in both arms of any stage.

    Where all users agree exactly within each arm (no error against nothing but errors) the moments show no spread.
    Then the variance is the largest that values in [0, 1] with the pooled mean can have, so that total failure counts.
    """
    parts = parts_by_stage(stages, (metric,))
    if not parts:
        return None
    terms = [Term(at, part, metric, old[metric], new[metric], part, part) for at, part, old, new in parts]
    theta = sum(term.part * (term.new.mean - term.old.mean) for term in terms)
    effect = combined_effect(theta, stages, [[term] for term in terms])
    if math.isfinite(effect.se) or any(_few_users(stages.parts[term.stage]) for term in terms):
        return effect
    variance = sum(_largest_variance(term) for term in terms)
    if variance <= _NOTHING:
        return effect
    return EffectEstimate(theta=effect.theta, se=math.sqrt(variance), effective_users=effect.effective_users)


def combined_effect(
    theta: float, stages: Stages, groups: Sequence[Sequence[Term]], less: Adjustment | None = None
) -> EffectEstimate:
    """`theta` with its standard error; `less` is taken off both. The terms of a group are parts of one quantity in one
    stage: they share a floor, by the weight of the first of them, which is the rarest. Effective users are those of all
    terms.

    Metrics whose products with the others are not kept (all but WEIGHABLE) are taken as moving with them as much as
    they can: their standard errors add up. An adjustment that leaves of the variance no more than rounding does is not
    made.
    """
    effective = effective_users([term for group in groups for term in group])
    changes = {} if less is None else less.variance
    spreads: list[tuple[float, float, float]] = []
    for at, stage in enumerate(stages.parts):
        mine = [group for group in groups if group[0].stage == at]
        if not mine:
            continue
        if _few_users(stage):
            return EffectEstimate(theta=theta, se=math.inf, effective_users=effective)
        spreads.append(
            (stage.share, _stage_variance(stage, mine, changes.get(at, 0.0)), _between_users(mine, stages.icc))
        )
    variance = sum(v for _, v, _ in spreads)
    for (p, v, f), (q, u, g) in combinations(spreads, 2):
        variance += 2.0 * share_correlation(min(p, q), max(p, q)) * math.sqrt(f * g * v * u)
    if less is not None:
        plain = combined_effect(theta, stages, groups)
        if variance <= _NOTHING * plain.se**2:
            return plain
        theta -= less.theta
    return EffectEstimate(theta=theta, se=math.sqrt(variance) if variance > 0 else math.inf, effective_users=effective)


def effective_users(terms: Sequence[Term]) -> float:
    """The smallest over arms and metrics. Of several stages (Σ h)² / (Σ (h/W) √ΣN²)²: no fewer than there are, for the
    same users come back."""
    roots: dict[tuple[Metric, int], float] = {}
    for term in terms:
        if term.part == 1.0:
            continue
        for arm, mean in enumerate((term.old, term.new)):
            key = term.metric, arm
            roots[key] = roots.get(key, 0.0) + term.part / math.sqrt(mean.effective_users)
    whole = [mean.effective_users for term in terms if term.part == 1.0 for mean in (term.old, term.new)]
    return min([*whole, *(root**-2 for root in roots.values())])


def _means(arm: Moments, metrics: Iterable[Metric]) -> dict[Metric, MetricMean] | None:
    found = {metric: metric_mean(arm, metric) for metric in metrics}
    known = {metric: mean for metric, mean in found.items() if mean is not None}
    return known if len(known) == len(found) else None


def _overall(parts: Sequence[StagePart], means: Sequence[MetricMean]) -> MetricMean:
    root = sum(part.part / math.sqrt(mean.effective_users) for part, mean in zip(parts, means, strict=True))
    return MetricMean(
        mean=sum(part.part * mean.mean for part, mean in zip(parts, means, strict=True)),
        observations=sum(mean.observations for mean in means),
        effective_users=root**-2,
    )


def _few_users(stage: Stage) -> bool:
    return min(stage.champion.users, stage.challenger.users) < 2


def _between_users(groups: Sequence[Sequence[Term]], icc: float) -> float:
    """f: how much of a stage's variance lies between users, at most; icc times the weight of the average observation's
    user, of the metric and arm where that is largest."""
    largest = max(
        mean.observations / mean.effective_users for group in groups for term in group for mean in (term.old, term.new)
    )
    return min(1.0, icc * largest)


def _stage_variance(stage: Stage, groups: Sequence[Sequence[Term]], change: float) -> float:
    """V_s: of the metrics that have products with each other, with the `change` that an adjustment makes in it, and
    beside them of the others one by one."""
    together = [group for group in groups if all(term.metric in WEIGHABLE for term in group)]
    alone = [group for group in groups if group not in together]
    known = max(_variance(stage, together) + change, 0.0) if together else 0.0
    if not alone:
        return known
    if not together and len(alone) == 1:
        return _variance(stage, alone)
    error = math.sqrt(known)
    return (error + sum(math.sqrt(_variance(stage, [group])) for group in alone)) ** 2


def _variance(stage: Stage, groups: Sequence[Sequence[Term]]) -> float:
    terms = [term for group in groups for term in group]
    variance = clustered(stage.challenger, [_in_new(term) for term in terms])
    variance += clustered(stage.champion, [_in_old(term) for term in terms])
    return variance + sum(_floor(stage, group) for group in groups)


def _in_new(term: Term) -> tuple[Metric, float, float]:
    """Its part in the challenger's variance."""
    return term.metric, term.new.mean, term.gain / term.new.observations


def _in_old(term: Term) -> tuple[Metric, float, float]:
    """Its part in the champion's."""
    return term.metric, term.old.mean, term.loss / term.old.observations


def _floor(stage: Stage, group: Sequence[Term]) -> float:
    """What is missing of the variance that the larger arm's spread implies for the smaller arm's mean."""
    first = group[0]
    if stage.share <= 0.5:
        own = clustered(stage.challenger, [_in_new(term) for term in group])
        implied = clustered(stage.champion, [(t.metric, t.old.mean, t.gain / t.old.observations) for t in group])
        return max(implied * first.old.observations / first.new.observations - own, 0.0)
    own = clustered(stage.champion, [_in_old(term) for term in group])
    implied = clustered(stage.challenger, [(t.metric, t.new.mean, t.loss / t.new.observations) for t in group])
    return max(implied * first.new.observations / first.old.observations - own, 0.0)


def _largest_variance(term: Term) -> float:
    """Of the difference of two means of values in [0, 1], of which neither arm shows a spread."""
    old, new = term.old, term.new
    pooled = (old.mean * old.observations + new.mean * new.observations) / (old.observations + new.observations)
    return term.part**2 * pooled * (1.0 - pooled) * (1.0 / old.effective_users + 1.0 / new.effective_users)
