"""What may be concluded from champion and challenger traffic.

One look takes the moments of both arms in the running epoch and returns a verdict with everything it rests on. Looks
may be taken at any time and as often as one likes; over all of them together the chance of promoting a challenger
that is no better is at most `alpha`, and of rolling back a harmless one at most `alpha_harm`, which is split over the
composite, errors, refusals and latency (`verdict.HARM_PARTS`; guardrails that only block need no part of it:
Schultzberg et al., arXiv 2402.11609). docs/statistics.md explains the rule and what was measured.

What is missing holds. A promotion needs every metric that has a weight, in both arms. Proof of harm must not wait for
the rarest of them: while the composite is incomplete, harm is judged on quality and thumbs as far as they are there.
Latency does not join in then: speed neither excuses nor condemns before the answers themselves are known.
"""

from __future__ import annotations

import math
from typing import Final

from policies.assessment import (
    ABTestConfig,
    ArmStats,
    Assessment,
    Carried,
    Eta,
    Evidence,
    ExperimentFacts,
    FeedbackRate,
    MetricComparison,
    SampleRatio,
    Verdict,
)
from policies.carriers import LEAST_VOTERS, Carriers
from policies.estimates import (
    METRICS,
    EffectEstimate,
    Metric,
    Moments,
    difference,
    metric_mean,
    relative_change,
    weighted_effect,
)
from policies.eta import estimate_eta, eta_in_words
from policies.evidence import bounds, log_e_value, sample_ratio_log_bf
from policies.guardrails import GUARDRAILS, RATE_DELTAS, Guardrail, check
from policies.verdict import Measurements, composite_weights, decide, harm_alpha, has_won
from policies.wording import finite

__all__ = ["ABTestConfig", "ArmStats", "Assessment", "Eta", "Evidence", "ExperimentFacts", "FeedbackRate",
           "MetricComparison", "SampleRatio", "Verdict", "evaluate", "forgeable_weights", "guardrails_of",
           "would_promote"]  # fmt: skip

FEEDBACK_RATE_ALPHA: Final = 0.01
"""Chance of calling equal feedback rates different, over any number of looks."""


def evaluate(facts: ExperimentFacts, config: ABTestConfig, now: float) -> Assessment:
    """Assess one look at `now` (Unix seconds). Look as often as you like: the error rates hold over all looks."""
    look = _measure(facts, config, now)
    verdict, reasons = decide(look)
    eta = None
    waits_for_more = look.carried is None or not look.carried.holds
    if look.effect is not None and waits_for_more and verdict in (Verdict.CONTINUE, Verdict.INCONCLUSIVE):
        metrics = [metric for metric, weight in composite_weights(config).items() if weight]
        eta = estimate_eta(facts, config, look.effect, metrics, look.elapsed_hours)
    if eta is not None:
        reasons = (*reasons, eta_in_words(eta, config))
    return Assessment(
        verdict=verdict,
        reasons=reasons,
        at=now,
        elapsed_hours=look.elapsed_hours,
        theta=look.effect.theta if look.effect else None,
        se=finite(look.effect.se) if look.effect else None,
        lower=finite(look.lower),
        upper=finite(look.upper),
        log_e_promote=finite(look.log_e_promote),
        log_e_harm=finite(look.log_e_harm),
        log_e_futility=finite(look.log_e_futility),
        log_e_promote_target=-math.log(config.alpha),
        log_e_harm_target=-math.log(harm_alpha(config)),
        effective_users=look.effect.effective_users if look.effect else None,
        champion_requests=facts.champion.requests,
        challenger_requests=facts.challenger.requests,
        metrics=_comparisons(facts, config),
        guardrails=look.guardrails,
        sample_ratio=look.sample_ratio,
        feedback_rate=look.feedback_rate,
        eta=eta,
        carried=look.carried,
    )


def would_promote(facts: ExperimentFacts, config: ABTestConfig, now: float) -> bool:
    """Whether this look would promote but for the question who carries the evidence: then `facts.carriers` are to be
    found out, which takes a read of all units that have voted."""
    return has_won(_measure(facts, config, now))


def forgeable_weights(config: ABTestConfig, *, scores: bool = False) -> dict[Metric, float]:
    """What a stranger can make up, with its weight in the composite: votes, and with `scores` the quality score, where
    anybody may give one."""
    weights = composite_weights(config)
    return {metric: weights[metric] for metric in (Metric.POSITIVE, *([Metric.QUALITY] if scores else []))}


def guardrails_of(config: ABTestConfig) -> tuple[Guardrail, ...]:
    """The guardrails of a running test: errors, refusals and latency roll back, quality and thumbs block."""
    weights = composite_weights(config)
    return tuple(
        Guardrail(
            name=name,
            metric=kind.metric,
            limit=kind.limit(config.guardrails),
            alpha=config.alpha_harm if kind.harm_part is None else harm_alpha(config, name),
            deltas=kind.deltas or _deltas(config),
            rolls_back=kind.harm_part is not None,
            required=kind.weighed_as is None or weights[kind.weighed_as] != 0,
        )
        for name, kind in GUARDRAILS.items()
    )


def _deltas(config: ABTestConfig) -> tuple[float, float]:
    """The gains that the evidence is quickest to see: the threshold and four times that."""
    return config.promotion_threshold, 4 * config.promotion_threshold


def _sample_ratio(facts: ExperimentFacts, config: ABTestConfig) -> SampleRatio:
    users = facts.champion.users, facts.challenger.users
    log_bf = sample_ratio_log_bf(users, facts.share, config.guardrails.srm_concentration)
    return SampleRatio(
        expected_share=facts.share,
        observed_share=users[1] / sum(users) if sum(users) else None,
        champion_users=users[0],
        challenger_users=users[1],
        log_bayes_factor=log_bf,
        mismatch=log_bf is not None and log_bf >= math.log(config.guardrails.srm_bayes_factor),
    )


def _feedback_rate(champion: Moments, challenger: Moments, config: ABTestConfig) -> FeedbackRate:
    """Two one-sided tests at half the error rate each."""
    old, new = metric_mean(champion, Metric.VOTED), metric_mean(challenger, Metric.VOTED)
    effect = difference(champion, challenger, Metric.VOTED)
    alpha = FEEDBACK_RATE_ALPHA / 2
    log_e, enough = -math.inf, False
    if effect is not None:
        log_e = log_e_value(abs(effect.theta), effect.se, deltas=RATE_DELTAS, alpha=alpha)
        enough = effect.effective_users >= config.min_effective_users
    return FeedbackRate(
        champion=old.mean if old else None,
        challenger=new.mean if new else None,
        log_e=finite(log_e),
        differs=enough and log_e >= -math.log(alpha),
    )


def _measure(facts: ExperimentFacts, config: ABTestConfig, now: float) -> Measurements:
    champion, challenger, deltas = facts.champion.moments, facts.challenger.moments, _deltas(config)
    feedback_rate = _feedback_rate(champion, challenger, config)
    effect = weighted_effect(champion, challenger, composite_weights(config))
    harm_effect = _harm_effect(facts, config, effect, feedback_rate)
    unknown = EffectEstimate(theta=0.0, se=math.inf, effective_users=0.0)
    gain, harm = effect or unknown, harm_effect or unknown
    lower, upper = bounds(gain.theta, gain.se, deltas=deltas, alpha=config.alpha)
    threshold = config.promotion_threshold
    promote_null = threshold if config.evidence == "strict" else 0.0
    return Measurements(
        facts=facts,
        config=config,
        elapsed_hours=max(now - facts.epoch_started_at, 0.0) / 3600,
        effect=effect,
        harm_effect=harm_effect,
        lower=lower,
        upper=upper,
        log_e_promote=log_e_value(gain.theta, gain.se, null=promote_null, deltas=deltas, alpha=config.alpha),
        log_e_harm=log_e_value(-harm.theta, harm.se, deltas=deltas, alpha=harm_alpha(config)),
        log_e_futility=log_e_value(-gain.theta, gain.se, null=-threshold, deltas=deltas, alpha=config.alpha),
        guardrails=tuple(check(g, champion, challenger, config.guardrails) for g in guardrails_of(config)),
        sample_ratio=_sample_ratio(facts, config),
        feedback_rate=feedback_rate,
        carried=None if facts.carriers is None else _carried(facts.carriers, config),
        clock_behind_hours=max(facts.epoch_started_at - now, 0.0) / 3600,
    )


def _carried(carriers: Carriers, config: ABTestConfig) -> Carried:
    """The e-value without those that carry it; where all claimed votes were left out, only those vouched for remain."""
    left = weighted_effect(carriers.champion, carriers.challenger, composite_weights(config))
    log_e = -math.inf
    if left is not None:
        null = config.promotion_threshold if config.evidence == "strict" else 0.0
        log_e = log_e_value(left.theta, left.se, null=null, deltas=_deltas(config), alpha=config.alpha)
    few = carriers.claimed_voters_left > 0 and min(carriers.voters) < LEAST_VOTERS
    return Carried(
        holds=carriers.claimed and (few or log_e < -math.log(config.alpha)),
        theta=None if left is None else left.theta,
        log_e_promote=finite(log_e),
        units=carriers.units,
        left_out=carriers.left_out,
        voters=carriers.voters,
        strongest=carriers.strongest,
    )


def _harm_effect(
    facts: ExperimentFacts, config: ABTestConfig, effect: EffectEstimate | None, feedback_rate: FeedbackRate
) -> EffectEstimate | None:
    """The composite, or as much of quality and thumbs as both arms have; thumbs only where they are comparable."""
    if effect is not None and not feedback_rate.differs:
        return effect
    champion, challenger = facts.champion.moments, facts.challenger.moments
    weights = {Metric.QUALITY: config.quality_weight, Metric.POSITIVE: config.feedback_weight}
    if feedback_rate.differs:
        del weights[Metric.POSITIVE]
    there = {m: w for m, w in weights.items() if w and weighted_effect(champion, challenger, {m: w}) is not None}
    return weighted_effect(champion, challenger, there)


def _comparisons(facts: ExperimentFacts, config: ABTestConfig) -> tuple[MetricComparison, ...]:
    weights = composite_weights(config)
    rows: list[MetricComparison] = []
    for metric in METRICS:
        old, new = metric_mean(facts.champion.moments, metric), metric_mean(facts.challenger.moments, metric)
        weight = weights.get(metric, 0.0)
        rows.append(
            MetricComparison(
                metric=metric, weight=weight, champion=old, challenger=new, change=relative_change(old, new)
            )
        )
    return tuple(rows)
