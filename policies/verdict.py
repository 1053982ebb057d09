"""From what was measured at one look to a verdict and its reasons.

The order is the one in which safety asks: proven harm, then whether the arms are comparable at all, then gain, then
futility, then time. A promotion names nothing that it waits for; whatever else is returned names all of it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from policies.assessment import QualityMeasure, Verdict
from policies.carriers import LEAST_VOTERS
from policies.estimates import NOT_ACCEPTED, SIGNALS, EffectEstimate, Metric, MetricMean, relative_change
from policies.guardrails import GuardrailState
from policies.measurements import Measurements, futility_alpha, harm_alpha
from policies.ramp import ramp_in_words
from policies.stages import overall_means
from policies.verdict_words import (
    estimate_in_words,
    feedback_rate_in_words,
    futility_in_words,
    gain_in_words,
    harm_in_words,
    left_in_words,
    mismatch_in_words,
    past_in_words,
    strongest_in_words,
)
from policies.wording import counted, duration, many, nothing_yet, number, odds, percent, score

__all__ = ["NOTHING_MEASURES", "NOT_ABOVE_NOTHING", "decide", "has_won"]

NOTHING_MEASURES: Final = (
    "Quality: nothing measures it yet. The format check finds no defects in either arm, and says nothing else of an "
    "answer: have people vote, send scores, or set up a judge."
)
NOT_ABOVE_NOTHING: Final = (
    "By votes and judge together the champion's quality is not above 0, so there is no relative change. Decide by hand "
    "(`ratchet promote`, `ratchet rollback`)."
)

_NAMES: Final[dict[Metric, str]] = {
    Metric.QUALITY: "quality score",
    Metric.POSITIVE: "positive rate",
    Metric.LATENCY: "latency",
    Metric.JUDGE: "judge's score",
    Metric.JUDGE_VOTED: "judge's score of answers with votes",
    Metric.CONVERSATION: "positive rate of conversations",
    Metric.COPIED: "share of copied answers",
    **{metric: f"share of answers that were not {metric.value}" for metric in SIGNALS if metric in NOT_ACCEPTED},
}
_DATA: Final[dict[Metric, str]] = {
    Metric.QUALITY: "quality scores",
    Metric.POSITIVE: "votes",
    Metric.LATENCY: "latencies",
    Metric.JUDGE: "scores of the judge",
    Metric.JUDGE_VOTED: "judged answers with votes",
    Metric.CONVERSATION: "votes on conversations",
    **{metric: "answers of which that can be told" for metric in SIGNALS if metric is not Metric.CONVERSATION},
}
_SETTINGS: Final[dict[Metric, str]] = {
    Metric.QUALITY: "quality_weight",
    Metric.POSITIVE: "feedback_weight",
    Metric.LATENCY: "latency_weight",
    Metric.JUDGE: "quality_weight",
    **{metric: f"signal_weights.{metric.value}" for metric in SIGNALS},
}
_STAYS: Final = "the challenger keeps its share until somebody decides."
_PLAIN_Z: Final = 4.0
"""A gain this many standard errors above nothing is plain to see, whatever the bet says of it."""


def decide(look: Measurements) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons: proven harm, then comparability, then gain, then futility, then time."""
    effect = look.effect
    broken = tuple(f"Guardrail {g.named_reason}." for g in look.guardrails if g.state is GuardrailState.ROLL_BACK)
    if broken:
        return Verdict.ROLL_BACK, broken
    if look.sample_ratio.mismatch:
        return Verdict.INVALID, (mismatch_in_words(look.sample_ratio),)
    if look.harm_effect is not None and _is_harmful(look, look.harm_effect):
        return Verdict.ROLL_BACK, (harm_in_words(look, look.harm_effect),)
    if look.feedback_rate.differs and look.composite.uses_votes:
        return Verdict.INVALID, (feedback_rate_in_words(look.feedback_rate),)
    nothing = nothing_yet(*look.facts.requests)
    if nothing is not None and effect is None:
        return _in_time(look, (nothing,))
    waits = _waits(look)
    if effect is not None and not waits:
        waits = _carriers_to_wait_for(look)
        if not waits:
            return Verdict.PROMOTE, (
                gain_in_words(look, effect),
                *past_in_words(look),
                *_carriers_to_know_of(look),
                *_unmeasured(look),
            )
    if effect is not None and _is_futile(look, effect, look.log_e_futility):
        return Verdict.REJECT, (futility_in_words(look, effect),)
    if look.judged is not None and _is_futile(look, look.judged, look.log_e_judged_futility):
        return Verdict.REJECT, (f"{futility_in_words(look, look.judged)} So says the judge alone: it may reject.",)
    reasons = (estimate_in_words(look), *past_in_words(look), *waits, *_stage(look), *_unmeasured(look))
    return _in_time(look, reasons)


def _in_time(look: Measurements, reasons: tuple[str, ...]) -> tuple[Verdict, tuple[str, ...]]:
    """The test goes on, for these reasons, unless it has had all the time that it may take."""
    hours = look.elapsed_hours + (look.facts.evidence_since - look.facts.started_at) / 3600
    if hours < look.config.max_duration_hours:
        return Verdict.CONTINUE, reasons
    within = duration(look.config.max_duration_hours)
    return Verdict.INCONCLUSIVE, (f"No decision within {within}: {_STAYS}", *reasons)


def _stage(look: Measurements) -> tuple[str, ...]:
    """Where the ramp stands, where it goes on."""
    return () if look.next_stage is None else (ramp_in_words(look.facts.share, look.next_stage),)


def has_won(look: Measurements) -> bool:
    """Whether nothing but the question who carries the evidence stands between this look and a promotion."""
    return look.effect is not None and not _waits(look)


def _carriers_to_wait_for(look: Measurements) -> tuple[str, ...]:
    """A promotion has to survive leaving out the strongest of those that nobody vouches for."""
    carried, needed = look.carried, 1 / look.config.alpha
    if carried is None:
        clusters = sum(stage.champion.clusters + stage.challenger.clusters for stage in look.facts.stages)
        unseen = clusters and look.composite.uses_votes
        return ("It has not been checked yet whether the evidence rests on a few users.",) if unseen else ()
    if not carried.holds:
        return ()
    if min(carried.voters) < LEAST_VOTERS:
        seen = min(carried.voters)
        reason = f"only {counted(seen, 'voter')} in the smaller arm, {LEAST_VOTERS} needed"
    else:
        reason = f"without their votes {left_in_words(carried)}, {number(needed)} needed"
    most = max(carried.left_out)
    return (
        f"The evidence rests on a few clusters of unverified users (sticky.trust). It has to suffice without the "
        f"{most} most influential ones of each arm: {reason}. {strongest_in_words(carried)}",
    )


def _carriers_to_know_of(look: Measurements) -> tuple[str, ...]:
    """The same of users who are vouched for: it holds nothing."""
    carried = look.carried
    if carried is None or carried.log_e_promote is None or carried.log_e_promote >= -math.log(look.config.alpha):
        return ()
    most = max(carried.left_out)
    return (
        f"Without the votes of the {most} most influential users of each arm {left_in_words(carried)}. "
        f"{strongest_in_words(carried)}",
    )


def _is_harmful(look: Measurements, harm: EffectEstimate) -> bool:
    enough = harm.effective_users >= look.config.guardrails.min_effective_users
    return enough and look.log_e_harm >= -math.log(harm_alpha(look.config))


def _is_futile(look: Measurements, effect: EffectEstimate, log_e: float) -> bool:
    enough = effect.effective_users >= look.config.min_effective_users
    return enough and log_e >= -math.log(futility_alpha(look.config, look.composite))


def _is_unmeasured(look: Measurements) -> bool:
    """Whether quality has a weight, and nothing measures it."""
    return look.composite.measure is QualityMeasure.NOTHING and look.config.quality_weight > 0


def _rests_on_latency(look: Measurements) -> bool:
    """Whether quality ought to be measured, and nothing but latency is: no votes are weighed, and no scores say
    anything. Who weighs neither wants it so."""
    return _is_unmeasured(look) and not look.composite.uses_votes


def _unmeasured(look: Measurements) -> tuple[str, ...]:
    return (NOTHING_MEASURES,) if _is_unmeasured(look) else ()


def _waits(look: Measurements) -> tuple[str, ...]:
    """Everything that a promotion still waits for, each with what would end the wait."""
    config, facts = look.config, look.facts
    waits = [*_missing(look)]
    if look.effect is not None:
        if look.log_e_promote < -math.log(config.alpha):
            waits.append(f"Evidence: {odds(look.log_e_promote)}, {number(1 / config.alpha)} needed.")
        if look.effect.theta < config.promotion_threshold:
            waits.append(f"The best estimate is below the threshold of {percent(config.promotion_threshold)}.")
        if look.effect.effective_users < config.min_effective_users:
            seen, needed = look.effect.effective_users, config.min_effective_users
            waits.append(
                f"Effective users: {number(round(seen, 1))} in the smallest arm and metric, {number(needed)} needed."
            )
        else:
            waits += _small_bases(look, look.effect)
    if look.clock_behind_hours:
        behind = duration(look.clock_behind_hours)
        waits.append(
            f"The clock is {behind} behind the start of this stage: no time counts until it is right. If it was wrong "
            "then and is right now, `ratchet share` starts a new one."
        )
    elif look.elapsed_hours < config.min_duration_hours:
        waits.append(f"Time: {number(round(look.elapsed_hours, 1))} of {number(config.min_duration_hours)} hours.")
    fewest = min(facts.requests)
    if fewest < config.min_samples_per_version:
        waits.append(f"Requests: {many(fewest)} in the smaller arm, {many(config.min_samples_per_version)} needed.")
    if look.sample_ratio.log_bayes_factor is None:
        waits.append(f"A share of {facts.share:g} leaves nothing to compare; it must lie between 0 and 1.")
    if _rests_on_latency(look):
        waits.append("Nothing but latency is measured of both arms, and no challenger is promoted for that alone.")
    if facts.slow_threshold_s is None and config.latency_weight:
        waits.append(
            "The champion's p95 latency was not known when the epoch began; a new epoch sets it (`ratchet share`)."
        )
    waits += [f"Guardrail {g.named_reason}." for g in look.guardrails if g.state is not GuardrailState.PASS]
    waits += [f"Tag {t.tag} ({percent(t.share)} of the requests): {t.harm}." for t in look.tags if t.harm is not None]
    return tuple(waits)


def _missing(look: Measurements) -> list[str]:
    """Why there is no composite: each metric that has a weight but no comparable data, and how to mend it."""
    if look.effect is not None:
        return []
    missing: list[str] = []
    for metric in look.composite.metrics:
        old, new = _weighed_means(look, metric)
        if relative_change(old, new) is not None:
            continue
        if old is not None and new is not None:
            missing.append(
                f"The {_NAMES[metric]} is 0 for the champion and {_in_words(metric, new.mean)} for the challenger, "
                f"so there is no relative change. {_way_out(metric)}"
            )
            continue
        where = "in either arm" if old is new else "for the champion" if old is None else "for the challenger"
        missing.append(f"Waiting: no {_DATA[metric]} {where} yet. {_without(look, metric)}")
    if not missing and look.composite.rectified:  # everything is there, and the judge takes more than votes give
        return [NOT_ABOVE_NOTHING]
    return missing or ["No metric has a weight: set one of quality_weight, feedback_weight, latency_weight above 0."]


def _small_bases(look: Measurements, effect: EffectEstimate) -> list[str]:
    """What keeps a plain gain from being proven: a metric that has more than doubled, from next to nothing.

    The bet is made for gains of about the threshold. Relative to a small base the gain is far larger, and so is its
    standard error; the bet has no stake on such numbers, and may never have.
    """
    if look.log_e_promote >= -math.log(look.config.alpha) or effect.theta < _PLAIN_Z * effect.se:
        return []
    small: list[str] = []
    for metric in look.composite.metrics:
        old, new = _weighed_means(look, metric)
        if metric is not Metric.LATENCY and old is not None and new is not None and new.mean > 2 * old.mean:
            small.append(
                f"The {_NAMES[metric]} is so low for the champion ({_in_words(metric, old.mean)}; challenger: "
                f"{_in_words(metric, new.mean)}) that the evidence for a relative gain may never suffice. "
                f"{_way_out(metric)}"
            )
    return small


def _weighed_means(look: Measurements, metric: Metric) -> tuple[MetricMean | None, MetricMean | None]:
    """Both arms' means as they weigh: of what was not accepted the rest."""
    old, new = overall_means(look.evidence, metric)
    if metric in NOT_ACCEPTED:
        old, new = (mean and replace(mean, mean=1.0 - mean.mean) for mean in (old, new))
    return old, new


def _without(look: Measurements, metric: Metric) -> str:
    """What to do where such data never come."""
    if look.composite.rectified and metric is not Metric.LATENCY:
        return "The judge counts, and only votes rectify what it says."
    return f"If this installation never has {_DATA[metric]}, set ab_test_config.{_SETTINGS[metric]} = 0."


def _in_words(metric: Metric, mean: float) -> str:
    return percent(mean) if metric is Metric.POSITIVE else f"{score(mean)}"


def _way_out(metric: Metric) -> str:
    return (
        "Decide by hand (`ratchet promote`, `ratchet rollback`), or leave it out of the comparison with "
        f"ab_test_config.{_SETTINGS.get(metric, 'feedback_weight')} = 0."
    )
