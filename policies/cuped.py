"""What of a gain was the users' and not the model's: CUPED, with each user's own past.

Users who were content before are content again, whatever model answers them. If by chance more of them are in the
challenger's arm it looks better, and how much better is known: the same comparison made of their past, from before
anybody was assigned, is an estimate of nothing (Deng, Xu, Kohavi, Walker, WSDM 2013; of ratios as there). So

    θ' = θ − γ θ_past      θ_past = Σ ω (X₁/X₀ − 1) over the metrics whose past has at least ten effective users
    γ = ΣC₀/ΣF₀            C = K/(K−1) Σ_users ψφ,  F = K/(K−1) Σ φ²,  of the champion alone, over all stages
    V'_s = V_s − 2γ(C₀ + C₁) + γ²(F₀ + F₁)

with ψ and φ a user's part in θ and in θ_past, and V_s with its floor. γ is the champion's, so that the challenger's
luck has no say in it. Metrics weigh by what was served *before*: weights of the test would take out what a challenger
does when it makes content users come more often. Over the stages of a ramp θ_past is put together as θ is
(`policies.stages`), of the past of those who were seen in each, which is always the one before the first stage; r and f
between stages are those of θ. Users without a past change nothing. Without a past that suffices, γ is 0.

Guardrails are not adjusted: a limit is a limit of what happened. Metrics without products with the past (whatever is
not WEIGHABLE) keep their whole error, which is added as if it moved with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from policies.estimates import WEIGHABLE, EffectEstimate, Metric, MetricMean, Moments, clustered, metric_mean
from policies.past import PAST, PastMoments
from policies.stages import Adjustment, Stage, Stages, Term, combined_effect, effective_users, weighted_terms
from policies.wording import many, percent

__all__ = ["LEAST_PAST_USERS", "PastEffect", "PastSaving", "adjusted", "adjustment", "cuped_effect", "past_effect",
           "saving", "without_past"]  # fmt: skip

LEAST_PAST_USERS: Final = 10.0
"""Effective users with a past, in the smaller arm, below which a metric's past says too little."""
_NOTHING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEffect:
    """What the users' past made of an estimate."""

    theta_plain: float
    """The estimate without it."""
    saved: float
    """Part of the variance that is gone, 0 to 1: so much shorter is the wait. Below 0 where the past misleads."""
    users: tuple[int, int]
    """Units of evidence of the champion's and the challenger's arm that have a past, in the stage that runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastSaving:
    """What taking the users' past off would save in an installation, by its own traffic."""

    saved: float
    """Part of the variance of the gain, 0 to 1: so much shorter is the wait."""
    users: int
    """The champion's users that were looked at."""
    with_past: int
    """Those of them that were here before."""
    experiment_id: int | None
    """The test whose users they are; None: those of the last two weeks."""

    def in_words(self, *, on: bool) -> str:
        """One or two sentences; `on`: the setting is."""
        whose = "the last two weeks" if self.experiment_id is None else f"experiment {self.experiment_id}"
        crowd = f"of {many(self.users)} users of {whose}, {many(self.with_past)} were here before"
        if on:
            return (
                f"The users' past (ab_test_config.cuped) saves about {percent(self.saved)} of the wait here: {crowd}."
            )
        return (
            f"The users' past would save about {percent(self.saved)} of the wait here: {crowd}. "
            "To use it from the next test on, set ab_test_config.cuped."
        )


class _Part(NamedTuple):
    """One arm's part in an effect: metric, R, and the factor before the residual."""

    metric: Metric
    mean: float
    factor: float


def cuped_effect(stages: Stages, weights: Mapping[Metric, float]) -> EffectEstimate | None:
    """As `weighted_effect`, less what the users' past explains, where the stages have it."""
    found = weighted_terms(stages, weights)
    if found is None or not found[1]:
        return None
    theta, terms = found
    return adjusted(theta, stages, [[term] for term in terms], weights)


def adjusted(
    theta: float, stages: Stages, groups: Sequence[Sequence[Term]], weights: Mapping[Metric, float]
) -> EffectEstimate:
    """As `combined_effect`, less what the past explains; `weights` say how the metrics of the past are weighed."""
    terms = [term for group in groups for term in group]
    return combined_effect(theta, stages, groups, adjustment(stages, terms, weights))


def past_effect(stages: Stages, effect: EffectEstimate, plain: EffectEstimate) -> PastEffect | None:
    """What the past changed, of an estimate with and without it; None where there is no past, or no error is known."""
    running = stages.parts[-1]
    if not any(_pasts(stage) for stage in stages.parts) or not math.isfinite(plain.se):
        return None
    champion, challenger = _pasts(running) or (PastMoments(), PastMoments())
    saved = 1.0 - (effect.se / plain.se) ** 2
    return PastEffect(theta_plain=plain.theta, saved=saved, users=(champion.users, challenger.users))


def without_past(stages: Stages) -> Stages:
    """The same evidence, unadjusted."""
    plain = (replace(stage, champion_past=None, challenger_past=None) for stage in stages.parts)
    return replace(stages, parts=tuple(plain))


def adjustment(stages: Stages, terms: Sequence[Term], weights: Mapping[Metric, float]) -> Adjustment | None:
    """What to take off an effect that is made of `terms`; None where there is no past, or too little."""
    if all(_pasts(stage) is None for stage in stages.parts):
        return None
    if any(
        min(stages.parts[term.stage].champion.users, stages.parts[term.stage].challenger.users) < 2 for term in terms
    ):
        return None
    known = [term for term in terms if term.metric in WEIGHABLE]
    theta, past = _past_terms(stages, weights, {term.stage for term in known})
    shared = {at: _shared(stages.parts[at], _of(known, at), _of(past, at)) for at in {term.stage for term in past}}
    own = {at: _own(stages.parts[at], _of(past, at)) for at in shared}
    spread = sum(champion for champion, _ in own.values())
    if spread <= 0.0:
        return None
    gamma = sum(champion for champion, _ in shared.values()) / spread
    change = {at: gamma * gamma * sum(own[at]) - 2.0 * gamma * sum(shared[at]) for at in shared}
    return Adjustment(theta=gamma * theta, variance=change, factor=gamma)


def saving(
    champion: Moments, past: PastMoments, weights: Mapping[Metric, float], shown: Sequence[Metric] = PAST
) -> float | None:
    """Part of the variance that the past would take out of a test, as one arm shows it: C²/(F·V), 0 to 1.

    Of `shown` those metrics that have a weight and were observed. None where they, or their past, do not suffice.
    """
    test = [
        (metric, mean) for metric in shown if weights.get(metric) and (mean := _usable(metric_mean(champion, metric)))
    ]
    before = [(metric, mean) for metric in PAST if weights.get(metric) and (mean := _usable(past.mean(metric)))]
    if champion.users < 2 or not test or not before:
        return None
    ours, theirs = _as_parts(test, weights), _as_parts(before, weights)
    variance = clustered(champion, ours)
    spread, shared = _sum_of_past(past, theirs), _sum_of_both(past, ours, theirs)
    scale = champion.users / (champion.users - 1)
    if variance <= 0.0 or spread <= 0.0:
        return None
    return min((scale * shared) ** 2 / (scale * spread * variance), 1.0)


def _usable(mean: MetricMean | None) -> MetricMean | None:
    enough = mean is not None and mean.effective_users >= LEAST_PAST_USERS and mean.mean > _NOTHING
    return mean if enough else None


def _as_parts(means: Sequence[tuple[Metric, MetricMean]], weights: Mapping[Metric, float]) -> list[_Part]:
    return [_Part(m, mean.mean, weights[m] / mean.mean / mean.observations) for m, mean in means]


def _pasts(stage: Stage) -> tuple[PastMoments, PastMoments] | None:
    """Both arms'."""
    if stage.champion_past is None or stage.challenger_past is None:
        return None
    return stage.champion_past, stage.challenger_past


def _past_terms(stages: Stages, weights: Mapping[Metric, float], where: Collection[int]) -> tuple[float, list[Term]]:
    """θ_past and what it is made of, in the stages `where` the effect has something to adjust."""
    theta, found = 0.0, list[Term]()
    for metric in PAST:
        weight, parts = weights.get(metric, 0.0), _past_parts(stages, metric, where)
        before = sum(part * old.mean for _, part, old, _ in parts)
        if not weight or before < _NOTHING:
            continue
        after = sum(part * new.mean for _, part, _, new in parts)
        gain, loss = weight / before, weight * after / before**2
        terms = [Term(at, part, metric, old, new, part * gain, part * loss) for at, part, old, new in parts]
        if effective_users(terms) >= LEAST_PAST_USERS:
            theta += weight * (after / before - 1.0)
            found += terms
    return theta, found


def _past_parts(
    stages: Stages, metric: Metric, where: Collection[int]
) -> list[tuple[int, float, MetricMean, MetricMean]]:
    """Each stage's Mantel–Haenszel weight and the arms' means of the past, where both arms have one."""
    found: list[tuple[int, float, MetricMean, MetricMean]] = []
    for at in sorted(where):
        pasts = _pasts(stages.parts[at])
        old, new = (None, None) if pasts is None else (past.mean(metric) for past in pasts)
        if old is not None and new is not None:
            w0, w1 = old.observations, new.observations
            found.append((at, w0 * w1 / (w0 + w1), old, new))
    whole = sum(h for _, h, _, _ in found)
    return [(at, h / whole, old, new) for at, h, old, new in found]


def _of(terms: Sequence[Term], stage: int) -> list[Term]:
    return [term for term in terms if term.stage == stage]


def _shared(stage: Stage, terms: Sequence[Term], past: Sequence[Term]) -> tuple[float, float]:
    """C of both arms."""
    champion, challenger = _pasts(stage) or (PastMoments(), PastMoments())
    return (
        _sum_of_both(champion, _in_old(terms), _in_old(past)) * _scale(stage.champion),
        _sum_of_both(challenger, _in_new(terms), _in_new(past)) * _scale(stage.challenger),
    )


def _own(stage: Stage, past: Sequence[Term]) -> tuple[float, float]:
    """F of both arms."""
    champion, challenger = _pasts(stage) or (PastMoments(), PastMoments())
    return (
        _sum_of_past(champion, _in_old(past)) * _scale(stage.champion),
        _sum_of_past(challenger, _in_new(past)) * _scale(stage.challenger),
    )


def _scale(arm: Moments) -> float:
    return arm.users / (arm.users - 1)


def _in_new(terms: Sequence[Term]) -> list[_Part]:
    return [_Part(term.metric, term.new.mean, term.gain / term.new.observations) for term in terms]


def _in_old(terms: Sequence[Term]) -> list[_Part]:
    """Without its sign, which is the same in both effects."""
    return [_Part(term.metric, term.old.mean, term.loss / term.old.observations) for term in terms]


def _sum_of_both(past: PastMoments, test: Sequence[_Part], before: Sequence[_Part]) -> float:
    """Σ over users of ψφ."""
    return sum(
        one.factor * other.factor * past.shared(one.metric, other.metric, (one.mean, other.mean))
        for one in test
        for other in before
    )


def _sum_of_past(past: PastMoments, before: Sequence[_Part]) -> float:
    """Σ over users of φ²."""
    total = sum(
        one.factor * other.factor * past.spread(one.metric, other.metric, (one.mean, other.mean))
        for one in before
        for other in before
    )
    return max(total, 0.0)
