"""What a challenger may not make worse, however good it is otherwise.

A weighted sum lets speed buy quality: −5 % quality, −5 % thumbs and −50 % latency add up to +6 %. So each metric has
a limit of its own. Errors, refusals and slow answers roll back on proof of harm, from the first hour; quality and
thumbs block a promotion (their harm rolls back through the composite). Missing data is `unknown`, which holds a
promotion.

How answers behave (their length, refusals in words, calls that nobody can run, truncation, language) and what a judge
says are looked at where they are observed, and hold nothing where they are not: not every traffic has tools, or two
languages. They block a promotion; `roll_back` names those that take the users away. Length is compared both ways and
by the ratio of typical lengths, for no length is good or bad in itself.

A refusal (a 4xx) may be the client's own fault, an expired key or a prompt that is too long. Such clients are in both
arms; what one arm refuses more than the other is the model's. So refusals are compared as errors are, by the difference
of the rates, and have a guardrail of their own: they are not mixed into the errors, where they would add nothing but
noise on a site whose clients often err.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Literal

from policies.estimates import EffectEstimate, Metric, MetricMean
from policies.evidence import bounds, log_e_value
from policies.intervals import Interval
from policies.stages import Stages, difference, overall_means, weighted_effect
from policies.wording import finite, many, number, odds, percent, points, score, signed_percent

__all__ = ["COMPOSITE_HARM_PART", "FAILURE_DELTAS", "GUARDRAILS", "LENGTH_DELTAS", "NAMED_HARM_PART", "RATE_DELTAS",
           "BehaviourName", "Comparison", "Guardrail", "GuardrailConfig", "GuardrailKind", "GuardrailResult",
           "GuardrailState", "check"]  # fmt: skip

RATE_DELTAS: Final = (0.01, 0.05, 0.20)
"""The changes of a rate (absolute) that its e-value is quickest to see: 1, 5 and 20 percentage points."""
FAILURE_DELTAS: Final = (*RATE_DELTAS, 1.0)
"""Of errors and refusals also 100 points: a challenger that answers nobody is found with its first few users."""
LENGTH_DELTAS: Final = (0.05, 0.20, 1.0)
"""Of logarithms of lengths, beyond the limit: a twentieth, a fifth, and nearly three times as long."""
_LONGEST: Final = 20.0
"""Logarithm of a ratio that is as good as infinite."""
BehaviourName = Literal["length", "declined", "malformed", "truncated", "language"]


class Comparison(StrEnum):
    """How two arms' means are compared."""

    RATE = "rate"
    """Shares, by their difference; worse is up."""
    SCORE = "score"
    """By how much of the champion's value it changes; worse is down."""
    LENGTH = "length"
    """Means of logarithms, by their difference: the ratio of typical lengths; worse is far away in either direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailConfig:
    """Limits per metric. Harm is decided by e-values; these are the estimates that block a promotion."""

    max_error_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.02
    """Promotion is blocked while the challenger's error rate is estimated this much higher (absolute)."""
    max_refused_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.02
    """Promotion is blocked while the share of requests that the challenger refuses (4xx) is estimated this much higher
    (absolute)."""
    max_slow_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """Promotion is blocked while the share of slow answers is estimated this much higher (absolute)."""
    max_quality_drop: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """Promotion is blocked while quality is estimated to be this much lower (relative)."""
    max_positive_drop: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """Promotion is blocked while the positive rate is estimated to be this much lower (relative)."""
    max_judge_drop: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """Promotion is blocked while the judge's score is estimated to be this much lower (relative), once it counts."""
    max_length_change: Annotated[float, Interval("(0, inf)", "a relative change")] = 9.0
    """Promotion is blocked while typical answers are estimated to be longer by more than this (1.0: twice as long, 9.0:
    ten times), or shorter by the same factor."""
    max_declined_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """Promotion is blocked while the share of answers that decline in words is estimated this much higher
    (absolute)."""
    max_malformed_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.02
    """The same for answers with a tool call that nobody can run, or without the JSON that was asked for."""
    max_truncated_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers that a limit cut."""
    max_language_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers in another language than their question's."""
    max_regenerated_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers that the user has made anew."""
    max_rephrased_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers after which the user asks the same in other words, or complains."""
    max_retried_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers that the client's SDK asks for again."""
    max_abandoned_increase: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")] = 0.05
    """The same for answers that the client does not wait for."""
    roll_back: tuple[BehaviourName, ...] = ()
    """Which of `length`, `declined`, `malformed`, `truncated` and `language` take the users away on proof of harm, as
    errors do; the others block a promotion. Each has a part of alpha_harm, so that the rest have less."""
    min_effective_users: Annotated[float, Interval("[0, inf)", "a count")] = 5.0
    """Effective users per arm before a guardrail may roll back."""
    srm_bayes_factor: Annotated[float, Interval("(1, inf)", "a Bayes factor")] = 1000.0
    """Sample ratio mismatch alarm: Bayes factor on distinct users per arm."""
    srm_concentration: Annotated[float, Interval("(0, inf)", "a concentration")] = 100.0
    """Concentration c of the Dirichlet prior of that test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailKind:
    """What is fixed of a guardrail: all but what the settings say. `experiment.guardrails_of` puts both together."""

    words: str
    """What it looks at, as sentences and pages say it."""
    metric: Metric
    limit: Callable[[GuardrailConfig], float]
    """Its setting."""
    watch_part: float
    """Its part of alpha_harm in the watch window."""
    harm_part: float | None = None
    """Its part of alpha_harm in a test, where proven harm takes the users away; None: it only blocks a promotion."""
    deltas: tuple[float, ...] | None = None
    """Changes that its e-value is quickest to see; None: the gains that a promotion is quickest to see."""
    weighed_as: Metric | None = None
    """The metric of the composite without whose weight it needs no data; None: it always does."""
    compares: Comparison = Comparison.RATE
    optional: bool = False
    """Where it was not observed, it holds nothing."""

    @property
    def is_rate(self) -> bool:
        """Whether it compares rates by their difference, not by how much of the champion's value they change."""
        return self.compares is Comparison.RATE


def _behaviour(
    words: str,
    metric: Metric,
    limit: Callable[[GuardrailConfig], float],
    *,
    compares: Comparison = Comparison.RATE,
    deltas: tuple[float, ...] = RATE_DELTAS,
) -> GuardrailKind:
    return GuardrailKind(
        words=words, metric=metric, limit=limit, deltas=deltas, compares=compares, optional=True, watch_part=0.0
    )


GUARDRAILS: Final[Mapping[str, GuardrailKind]] = MappingProxyType(
    {
        "errors": GuardrailKind(
            words="errors",
            metric=Metric.ERROR,
            limit=lambda settings: settings.max_error_increase,
            harm_part=0.25,
            watch_part=1 / 4,
            deltas=FAILURE_DELTAS,
        ),
        "refused": GuardrailKind(
            words="refused requests",
            metric=Metric.REFUSED,
            limit=lambda settings: settings.max_refused_increase,
            harm_part=0.25,
            watch_part=1 / 4,
            deltas=FAILURE_DELTAS,
        ),
        "latency": GuardrailKind(
            words="slow answers",
            metric=Metric.SLOW,
            limit=lambda settings: settings.max_slow_increase,
            harm_part=0.15,
            watch_part=1 / 6,
            deltas=RATE_DELTAS,
            weighed_as=Metric.LATENCY,
        ),
        "quality": GuardrailKind(
            words="quality",
            metric=Metric.QUALITY,
            limit=lambda settings: settings.max_quality_drop,
            watch_part=1 / 6,
            weighed_as=Metric.QUALITY,
            compares=Comparison.SCORE,
        ),
        "positive": GuardrailKind(
            words="thumbs up",
            metric=Metric.POSITIVE,
            limit=lambda settings: settings.max_positive_drop,
            watch_part=1 / 6,
            weighed_as=Metric.POSITIVE,
            compares=Comparison.SCORE,
        ),
        "judge": GuardrailKind(
            words="judge's score",
            metric=Metric.JUDGE,
            limit=lambda settings: settings.max_judge_drop,
            watch_part=0.0,
            compares=Comparison.SCORE,
            optional=True,
        ),
        "length": _behaviour(
            "answer length", Metric.LENGTH, lambda settings: settings.max_length_change,
            compares=Comparison.LENGTH, deltas=LENGTH_DELTAS,
        ),
        "declined": _behaviour(
            "declined in words", Metric.DECLINED, lambda settings: settings.max_declined_increase
        ),
        "malformed": _behaviour(
            "malformed answers", Metric.MALFORMED, lambda settings: settings.max_malformed_increase
        ),
        "truncated": _behaviour(
            "truncated answers", Metric.TRUNCATED, lambda settings: settings.max_truncated_increase
        ),
        "language": _behaviour(
            "answers in another language", Metric.LANGUAGE, lambda settings: settings.max_language_increase
        ),
        "regenerated": _behaviour(
            "regenerated answers", Metric.REGENERATED, lambda settings: settings.max_regenerated_increase
        ),
        "rephrased": _behaviour(
            "answers that were asked for again in other words", Metric.REPHRASED,
            lambda settings: settings.max_rephrased_increase,
        ),
        "retried": _behaviour(
            "answers that the client retried", Metric.RETRIED, lambda settings: settings.max_retried_increase
        ),
        "abandoned": _behaviour(
            "abandoned answers", Metric.ABANDONED, lambda settings: settings.max_abandoned_increase
        ),
    }
)  # fmt: skip
"""By name. Errors and refusals have the same parts of alpha_harm: to a user without an answer they are the same, so the
same numbers of them are proven at the same time."""
COMPOSITE_HARM_PART: Final = 0.35
"""What is left of alpha_harm in a test for the composite: with the guardrails it is split as 7 : 5 : 5 : 3."""
NAMED_HARM_PART: Final = 0.15
"""Of each guardrail that `roll_back` names, beside these, as much as latency has; all are scaled down to alpha_harm."""


class GuardrailState(StrEnum):
    """What a guardrail says about the challenger."""

    PASS = "pass"
    BLOCK = "block"
    """No promotion now; the test goes on."""
    ROLL_BACK = "roll_back"
    """Harm is proven: take the users away from it."""
    UNKNOWN = "unknown"
    """Not enough data to say: no promotion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailResult:
    """One guardrail at one look. None where a number is not known, or a bound is infinite."""

    name: str
    """A key of GUARDRAILS."""
    champion: float | None
    challenger: float | None
    """The arms' means: a score, a typical number of characters, or a rate (for latency the share of slow answers)."""
    estimate: float | None
    """The change: absolute for rates, relative for scores and lengths."""
    lower: float | None
    upper: float | None
    log_e_harm: float | None
    """Log e-value for harm; proof at ≥ −ln of the guardrail's share of alpha_harm."""
    state: GuardrailState
    reason: str
    """The numbers and what they mean, without the guardrail's name; results stored by older versions begin with it."""

    @property
    def named_reason(self) -> str:
        """The reason where no name stands beside it: "slow answers: 12.0 % against 3.0 %, …"."""
        return f"{GUARDRAILS[self.name].words}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """The rule for one metric. Worse is up for rates, down for scores, and far away for lengths."""

    name: str
    metric: Metric
    limit: float
    """Estimated worsening that blocks."""
    alpha: float
    """Chance that harm is "proven" of a harmless challenger, over any number of looks."""
    deltas: tuple[float, ...] = RATE_DELTAS
    """EffectEstimate sizes that the harm e-value is quickest to see."""
    tolerance: float = 0.0
    """Harm means: worse by more than this. Of a length it is always the limit."""
    rolls_back: bool = False
    """Proven harm takes the users away; else it blocks a promotion."""
    required: bool = True
    """Missing data is unknown. Else (a metric that is switched off, or that not every traffic has) it holds nothing."""
    limited: bool = True
    """An estimate beyond the limit blocks, though nothing is proven. Not where the metric is switched off."""

    @property
    def compares(self) -> Comparison:
        """How the arms' means are compared."""
        return GUARDRAILS[self.name].compares


def check(guardrail: Guardrail, stages: Stages, config: GuardrailConfig) -> GuardrailResult:
    """What `guardrail` says about the challenger. Rates are compared absolutely, scores and lengths relatively."""
    old, new = overall_means(stages, guardrail.metric)
    if guardrail.compares is Comparison.SCORE:
        effect = weighted_effect(stages, {guardrail.metric: 1.0})
    else:
        effect = difference(stages, guardrail.metric)
    if effect is None:
        return _unmeasured(guardrail, old, new)
    log_e = _log_e_harm(guardrail, effect)
    lower, upper = bounds(effect.theta, effect.se, deltas=guardrail.deltas, alpha=guardrail.alpha)
    state, why = _judge(guardrail, effect, log_e, config)
    return GuardrailResult(
        name=guardrail.name,
        champion=_shown(guardrail, old),
        challenger=_shown(guardrail, new),
        estimate=_relative(guardrail, effect.theta),
        lower=finite(_relative(guardrail, lower)),
        upper=finite(_relative(guardrail, upper)),
        log_e_harm=finite(log_e),
        state=state,
        reason=f"{_change(guardrail, effect, old, new)}; {why}",
    )


def _relative(guardrail: Guardrail, change: float) -> float:
    """A change as it is shown: of a length, from the logarithm to a part of the champion's."""
    if guardrail.compares is not Comparison.LENGTH or not math.isfinite(change):
        return change
    return math.expm1(min(change, _LONGEST))


def _shown(guardrail: Guardrail, mean: MetricMean | None) -> float | None:
    if mean is None:
        return None
    return math.expm1(mean.mean) if guardrail.compares is Comparison.LENGTH else mean.mean


def _worsening(guardrail: Guardrail, effect: EffectEstimate) -> float:
    match guardrail.compares:
        case Comparison.RATE:
            return effect.theta
        case Comparison.SCORE:
            return -effect.theta
        case Comparison.LENGTH:
            return abs(effect.theta)


def _limit(guardrail: Guardrail) -> float:
    """On the scale of the effect."""
    return math.log1p(guardrail.limit) if guardrail.compares is Comparison.LENGTH else guardrail.limit


def _log_e_harm(guardrail: Guardrail, effect: EffectEstimate) -> float:
    worsening, null, alpha = _worsening(guardrail, effect), guardrail.tolerance, guardrail.alpha
    if guardrail.compares is not Comparison.LENGTH:
        return log_e_value(worsening, effect.se, null=null, deltas=guardrail.deltas, alpha=alpha)
    one_way = log_e_value(worsening, effect.se, null=_limit(guardrail), deltas=guardrail.deltas, alpha=alpha / 2)
    return one_way - math.log(2.0)  # two tests, too long and too short, at half the error rate each


def _judge(
    guardrail: Guardrail, effect: EffectEstimate, log_e: float, config: GuardrailConfig
) -> tuple[GuardrailState, str]:
    needed = -math.log(guardrail.alpha)
    if effect.effective_users < config.min_effective_users:
        why = f"{number(round(effect.effective_users, 1))} of {number(config.min_effective_users)} effective users"
        return (GuardrailState.UNKNOWN if guardrail.required else GuardrailState.PASS), why
    if log_e >= needed:
        state = GuardrailState.ROLL_BACK if guardrail.rolls_back else GuardrailState.BLOCK
        return state, f"harm is proven ({odds(log_e)}, {odds(needed)} needed)"
    if guardrail.limited and _worsening(guardrail, effect) > _limit(guardrail):
        return GuardrailState.BLOCK, f"worse than the limit of {percent(guardrail.limit)}, though not proven yet"
    return GuardrailState.PASS, f"within the limit of {percent(guardrail.limit)}"


def _change(guardrail: Guardrail, effect: EffectEstimate, old: MetricMean | None, new: MetricMean | None) -> str:
    assert old is not None  # an effect needs both arms
    assert new is not None
    match guardrail.compares:
        case Comparison.RATE:
            return f"{percent(new.mean)} against {percent(old.mean)}, {points(effect.theta)}"
        case Comparison.SCORE:
            return f"{score(new.mean)} against {score(old.mean)}, {signed_percent(effect.theta)}"
        case Comparison.LENGTH:
            typical = f"{many(math.expm1(new.mean))} characters against {many(math.expm1(old.mean))}"
            return f"typically {typical}, {signed_percent(_relative(guardrail, effect.theta))}"


def _unmeasured(guardrail: Guardrail, old: MetricMean | None, new: MetricMean | None) -> GuardrailResult:
    if old is None or new is None:
        missing = "in either arm" if old is new else "for the champion" if old is None else "for the challenger"
        why = f"no data {missing} yet"
    else:
        why = "the champion's value is 0, so there is no relative change"
    if not guardrail.required:
        why += "; it is not needed" if guardrail.limited else "; its weight is 0, so it is not needed"
    return GuardrailResult(
        name=guardrail.name,
        champion=_shown(guardrail, old),
        challenger=_shown(guardrail, new),
        estimate=None,
        lower=None,
        upper=None,
        log_e_harm=None,
        state=GuardrailState.UNKNOWN if guardrail.required else GuardrailState.PASS,
        reason=why,
    )
