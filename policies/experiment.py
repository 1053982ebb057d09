"""What may be concluded from champion and challenger traffic.

One look takes the moments of both arms in the running epoch and returns a verdict with everything it rests on. Looks
may be taken at any time and as often as one likes; over all of them together the chance of promoting a challenger
that is no better is at most `alpha`, and of rolling back a harmless one at most `alpha_harm`, which is split over the
composite, errors, refusals and latency (`verdict.HARM_PARTS`; guardrails that only block need no part of it:
Schultzberg et al., arXiv 2402.11609). docs/statistics.md explains the rule and what was measured.

What measures quality is found out at every look (`policies.composite`). Tags are looked at one by one: harm that is
proven among the records of a tag blocks a promotion, at a level that all tags share.

What is missing holds. A promotion needs every metric that has a weight, in both arms. Proof of harm must not wait for
the rarest of them: while the composite is incomplete, harm is judged on quality and thumbs as far as they are there.
Latency does not join in then: speed neither excuses nor condemns before the answers themselves are known.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from policies.assessment import (
    Assessment,
    Carried,
    Eta,
    FeedbackRate,
    MetricComparison,
    NextStage,
    SampleRatio,
    StageResult,
    TagEffect,
    Verdict,
)
from policies.carriers import LEAST_VOTERS, Carriers
from policies.composite import (
    Composite,
    composite_effect,
    composite_of,
    composite_weights,
    judged_alone,
    parts_of,
)
from policies.cuped import PastEffect, cuped_effect, past_effect, without_past
from policies.estimates import METRICS, EffectEstimate, Metric, relative_change
from policies.eta import estimate_eta, eta_in_words
from policies.evidence import bounds, log_e_value, sample_ratio_log_bf
from policies.experiment_terms import ABTestConfig, Evidence
from policies.facts import ArmStats, ExperimentFacts, StageFacts
from policies.guardrails import (
    GUARDRAILS,
    RATE_DELTAS,
    Guardrail,
    GuardrailKind,
    GuardrailResult,
    GuardrailState,
    check,
)
from policies.measurements import Measurements, futility_alpha, harm_alpha
from policies.ramp import next_stage
from policies.rectified import RectifiedQuality, rectified_quality
from policies.stages import Stages, difference, overall_means, parts_by_stage, weighted_effect
from policies.verdict import decide, has_won
from policies.wording import finite, odds, signed_percent

__all__ = ["LEAST_TAG_SHARE", "ABTestConfig", "ArmStats", "Assessment", "Eta", "Evidence", "ExperimentFacts",
           "FeedbackRate", "MetricComparison", "NextStage", "SampleRatio", "StageFacts", "StageResult", "Verdict",
           "evaluate", "forgeable_weights",
           "guardrails_of", "would_promote"]  # fmt: skip

FEEDBACK_RATE_ALPHA: Final = 0.01
"""Chance of calling equal feedback rates different, over any number of looks."""
_UNKNOWN: Final = EffectEstimate(theta=0.0, se=math.inf, effective_users=0.0)
LEAST_TAG_SHARE: Final = 0.05
"""Of an experiment's requests, from which on what happens in a tag may block a promotion."""


def evaluate(facts: ExperimentFacts, config: ABTestConfig, now: float) -> Assessment:
    """Assess one look at `now` (Unix seconds). Look as often as you like: the error rates hold over all looks."""
    look = _measure(facts, config, now)
    verdict, reasons = decide(look)
    eta = None
    waits_for_more = look.carried is None or not look.carried.holds
    if look.effect is not None and waits_for_more and verdict in (Verdict.CONTINUE, Verdict.INCONCLUSIVE):
        eta = estimate_eta(facts, config, look.effect, look.composite.metrics, now)
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
        champion_requests=facts.requests[0],
        challenger_requests=facts.requests[1],
        metrics=_comparisons(look.evidence, look.composite),
        guardrails=look.guardrails,
        sample_ratio=look.sample_ratio,
        feedback_rate=look.feedback_rate,
        eta=eta,
        carried=look.carried,
        quality=look.composite.measure,
        rectified=_rectified(look.evidence, look.composite),
        tags=look.tags,
        stages=_stage_results(facts, config, look.composite),
        next_stage=look.next_stage,
        past=look.past,
    )


def would_promote(facts: ExperimentFacts, config: ABTestConfig, now: float) -> bool:
    """Whether this look would promote but for the question who carries the evidence: then `facts.carriers` are to be
    found out, which takes a read of all units that have voted."""
    return has_won(_measure(facts, config, now))


def forgeable_weights(facts: ExperimentFacts, config: ABTestConfig, *, scores: bool = False) -> dict[Metric, float]:
    """What a stranger can make up, with its weight in the composite: votes, what users show without voting, and with
    `scores` the quality score, where anybody may give one. Where votes rectify a judge, what it says of answers with
    votes goes with the votes."""
    composite, shown = composite_of(facts, config), config.signal_weights.by_metric()
    if composite.rectified:
        return {Metric.POSITIVE: composite.rectified, Metric.JUDGE_VOTED: 0.0, **shown}
    forgeable = (Metric.POSITIVE, *([Metric.QUALITY] if scores else []))
    return {metric: composite.weights.get(metric, 0.0) for metric in forgeable} | shown


def guardrails_of(config: ABTestConfig, *, judge_counts: bool = True) -> tuple[Guardrail, ...]:
    """The guardrails of a running test: errors, refusals and latency roll back, and what `roll_back` names; the others
    block. The judge is one of them where it counts."""
    weights = composite_weights(config)
    return tuple(
        _guardrail(name, kind, config, weights)
        for name, kind in GUARDRAILS.items()
        if judge_counts or kind.metric is not Metric.JUDGE
    )


def _guardrail(name: str, kind: GuardrailKind, config: ABTestConfig, weights: dict[Metric, float]) -> Guardrail:
    rolls_back = kind.harm_part is not None or name in config.guardrails.roll_back
    weighs = kind.weighed_as is None or weights[kind.weighed_as] != 0
    return Guardrail(
        name=name,
        metric=kind.metric,
        limit=kind.limit(config.guardrails),
        alpha=harm_alpha(config, name) if rolls_back else config.alpha_harm,
        deltas=kind.deltas or _deltas(config),
        rolls_back=rolls_back,
        required=weighs and not kind.optional,
        limited=weighs,
    )


def _deltas(config: ABTestConfig) -> tuple[float, float]:
    """The gains that the evidence is quickest to see: the threshold and four times that."""
    return config.promotion_threshold, 4 * config.promotion_threshold


def _sample_ratio(facts: ExperimentFacts, config: ABTestConfig) -> SampleRatio:
    """Of the running stage, or of an earlier one that is not as it should be."""
    ratios = [_sample_ratio_of(stage, config) for stage in reversed(facts.stages)]
    return next((ratio for ratio in ratios if ratio.mismatch), ratios[0])


def _sample_ratio_of(stage: StageFacts, config: ABTestConfig) -> SampleRatio:
    users = stage.champion.users, stage.challenger.users
    log_bf = sample_ratio_log_bf(users, stage.share, config.guardrails.srm_concentration)
    return SampleRatio(
        expected_share=stage.share,
        observed_share=users[1] / sum(users) if sum(users) else None,
        champion_users=users[0],
        challenger_users=users[1],
        log_bayes_factor=log_bf,
        mismatch=log_bf is not None and log_bf >= math.log(config.guardrails.srm_bayes_factor),
    )


def _feedback_rate(stages: Stages, config: ABTestConfig) -> FeedbackRate:
    """Two one-sided tests at half the error rate each."""
    old, new = overall_means(stages, Metric.VOTED)
    effect = difference(stages, Metric.VOTED)
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
    evidence, deltas = facts.evidence(config.icc), _deltas(config)
    feedback_rate = _feedback_rate(evidence, config)
    composite = composite_of(facts, config)
    effect = composite_effect(composite, evidence)
    judged = judged_alone(composite, evidence)
    harm_effect = _harm_effect(evidence, config, effect, feedback_rate)
    gain, harm = effect or _UNKNOWN, harm_effect or _UNKNOWN
    lower, upper = bounds(gain.theta, gain.se, deltas=deltas, alpha=config.alpha)
    threshold = config.promotion_threshold
    promote_null = threshold if config.evidence == "strict" else 0.0
    guardrails = _guardrail_results(facts, evidence, config)
    sample_ratio = _sample_ratio(facts, config)
    tags = _tags(facts, config, composite, feedback_rate)
    return Measurements(
        facts=facts,
        evidence=evidence,
        config=config,
        composite=composite,
        elapsed_hours=max(now - facts.evidence_since, 0.0) / 3600,
        effect=effect,
        harm_effect=harm_effect,
        judged=judged,
        lower=lower,
        upper=upper,
        log_e_promote=log_e_value(gain.theta, gain.se, null=promote_null, deltas=deltas, alpha=config.alpha),
        log_e_harm=log_e_value(-harm.theta, harm.se, deltas=deltas, alpha=harm_alpha(config)),
        log_e_futility=_log_e_futility(gain, config, composite),
        log_e_judged_futility=_log_e_futility(judged or _UNKNOWN, config, composite),
        past=_past(evidence, composite, effect),
        guardrails=guardrails,
        sample_ratio=sample_ratio,
        feedback_rate=feedback_rate,
        carried=None if facts.carriers is None else _carried(facts, facts.carriers, config, composite),
        tags=tags,
        next_stage=None
        if facts.set_by_hand
        else next_stage(
            config,
            share_now=facts.share,
            planned=facts.planned,
            hours=max(now - facts.epoch_started_at, 0.0) / 3600,
            comparable=not sample_ratio.mismatch,
            guardrails=guardrails,
            harmed_tags=[tag.tag for tag in tags if tag.harm is not None],
            effect=effect,
        ),
        clock_behind_hours=max(facts.epoch_started_at - now, 0.0) / 3600,
    )


def _past(evidence: Stages, composite: Composite, effect: EffectEstimate | None) -> PastEffect | None:
    plain = None if effect is None else composite_effect(composite, without_past(evidence))
    return None if effect is None or plain is None else past_effect(evidence, effect, plain)


def _guardrail_results(facts: ExperimentFacts, evidence: Stages, config: ABTestConfig) -> tuple[GuardrailResult, ...]:
    """Errors, refusals and latency of the running stage alone, each stage with its part of their error rate: more load
    on a model may slow it. The others over all stages."""
    stages, running = len(facts.earlier) + 1 + len(facts.planned), facts.running()
    results = []
    for guardrail in guardrails_of(config, judge_counts=facts.judge is not None and facts.judge.counts):
        if GUARDRAILS[guardrail.name].harm_part is None:
            results.append(check(guardrail, evidence, config.guardrails))
        else:
            shared = replace(guardrail, alpha=guardrail.alpha / stages)
            results.append(check(shared, running, config.guardrails))
    return tuple(results)


def _log_e_futility(effect: EffectEstimate, config: ABTestConfig, composite: Composite) -> float:
    """Evidence that the true gain is below the threshold."""
    alpha = futility_alpha(config, composite)
    return log_e_value(-effect.theta, effect.se, null=-config.promotion_threshold, deltas=_deltas(config), alpha=alpha)


def _tags(
    facts: ExperimentFacts, config: ABTestConfig, composite: Composite, feedback_rate: FeedbackRate
) -> tuple[TagEffect, ...]:
    """Each tag by itself, those with the most requests first. The tags that count share alpha_harm."""
    requests = sum(facts.requests)
    sizes = {tag: sum(facts.requests_of_tag(tag)) for stage in facts.stages for tag in stage.tags}
    counting = {tag for tag, size in sizes.items() if requests and size >= LEAST_TAG_SHARE * requests}
    return tuple(
        _tag(tag, facts, sizes[tag] / requests if requests else 0.0, config, composite, feedback_rate,
             among=len(counting) if tag in counting else 0)
        for tag in sorted(sizes, key=lambda tag: (-sizes[tag], tag))
    )  # fmt: skip


def _tag(
    tag: str,
    facts: ExperimentFacts,
    share: float,
    config: ABTestConfig,
    composite: Composite,
    feedback_rate: FeedbackRate,
    *,
    among: int,
) -> TagEffect:
    """`among`: how many tags count; 0 where this one does not."""
    stages, (champion, challenger) = facts.of_tag(tag, config.icc), facts.requests_of_tag(tag)
    effect = _harm_effect(stages, config, composite_effect(composite, stages), feedback_rate)
    known = effect or _UNKNOWN
    lower, upper = bounds(known.theta, known.se, deltas=_deltas(config), alpha=config.alpha)
    return TagEffect(
        tag=tag,
        share=share,
        champion_requests=champion,
        challenger_requests=challenger,
        theta=None if effect is None else effect.theta,
        lower=finite(lower) if effect else None,
        upper=finite(upper) if effect else None,
        counts=among > 0,
        harm=_harm_in(stages, effect, config, among) if among else None,
    )


def _harm_in(stages: Stages, effect: EffectEstimate | None, config: ABTestConfig, among: int) -> str | None:
    """What is proven to be worse among a tag's records, at alpha_harm divided by the tags that count, and within one as
    in the whole test."""
    for guardrail in guardrails_of(config):
        if guardrail.rolls_back:
            shared = replace(guardrail, alpha=guardrail.alpha / among)
            found = check(shared, stages, config.guardrails)
            if found.state is GuardrailState.ROLL_BACK:
                return found.named_reason
    if effect is None or effect.effective_users < config.guardrails.min_effective_users:
        return None
    alpha = harm_alpha(config) / among
    log_e = log_e_value(-effect.theta, effect.se, deltas=_deltas(config), alpha=alpha)
    if log_e < -math.log(alpha):
        return None
    return f"the weighted metrics together are {signed_percent(effect.theta)}; harm is proven ({odds(log_e)})"


def _rectified(evidence: Stages, composite: Composite) -> RectifiedQuality | None:
    return rectified_quality(evidence) if composite.rectified else None


def _carried(facts: ExperimentFacts, carriers: Carriers, config: ABTestConfig, composite: Composite) -> Carried:
    """The e-value without those that carry it; where all claimed votes were left out, only those vouched for remain."""
    left = composite_effect(composite, carriers.evidence([stage.share for stage in facts.stages], config.icc))
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
    stages: Stages, config: ABTestConfig, effect: EffectEstimate | None, feedback_rate: FeedbackRate
) -> EffectEstimate | None:
    """The composite, or as much of quality and thumbs as both arms have; thumbs only where they are comparable."""
    if effect is not None and not feedback_rate.differs:
        return effect
    weights = {Metric.QUALITY: config.quality_weight, Metric.POSITIVE: config.feedback_weight}
    if feedback_rate.differs:
        del weights[Metric.POSITIVE]
    there = {m: w for m, w in weights.items() if w and weighted_effect(stages, {m: w}) is not None}
    return cuped_effect(stages, there)


def _comparisons(evidence: Stages, composite: Composite) -> tuple[MetricComparison, ...]:
    weights = parts_of(composite, evidence)
    rows: list[MetricComparison] = []
    for metric in METRICS:
        old, new = overall_means(evidence, metric)
        weight = weights.get(metric, 0.0)
        rows.append(
            MetricComparison(
                metric=metric, weight=weight, champion=old, challenger=new, change=relative_change(old, new)
            )
        )
    return tuple(rows)


def _stage_results(facts: ExperimentFacts, config: ABTestConfig, composite: Composite) -> tuple[StageResult, ...]:
    """Each stage by itself: the same bounds, of its own rows alone."""
    parts = {part.stage: part.part for part in parts_by_stage(facts.evidence(config.icc), (Metric.ERROR,))}
    results = []
    for at, stage in enumerate(facts.stages):
        alone = Stages.one(stage.champion.moments, stage.challenger.moments, stage.share)
        effect = composite_effect(composite, alone)
        known = effect or _UNKNOWN
        lower, upper = bounds(known.theta, known.se, deltas=_deltas(config), alpha=config.alpha)
        results.append(
            StageResult(
                share=stage.share,
                started_at=stage.started_at,
                champion_requests=stage.champion.requests,
                challenger_requests=stage.challenger.requests,
                champion_users=stage.champion.users,
                challenger_users=stage.challenger.users,
                theta=None if effect is None else effect.theta,
                lower=finite(lower) if effect else None,
                upper=finite(upper) if effect else None,
                part=parts.get(at, 0.0),
            )
        )
    return tuple(results)
