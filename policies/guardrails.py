"""What a challenger may not make worse, however good it is otherwise.

A weighted sum lets speed buy quality: −5 % quality, −5 % thumbs and −50 % latency add up to +6 %. So each metric has
a limit of its own. Errors, refusals and slow answers roll back on proof of harm, from the first hour; quality and
thumbs block a promotion (their harm rolls back through the composite). Missing data is `unknown`, which holds a
promotion.

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
from typing import Annotated, Final

from policies.estimates import EffectEstimate, Metric, MetricMean, Moments, difference, metric_mean, weighted_effect
from policies.evidence import bounds, log_e_value
from policies.intervals import Interval
from policies.wording import finite, odds, percent, points, signed_percent

__all__ = ["COMPOSITE_HARM_PART", "FAILURE_DELTAS", "GUARDRAILS", "RATE_DELTAS", "Guardrail", "GuardrailConfig",
           "GuardrailKind", "GuardrailResult", "GuardrailState", "check"]  # fmt: skip

RATE_DELTAS: Final = (0.01, 0.05, 0.20)
"""The changes of a rate (absolute) that its e-value is quickest to see: 1, 5 and 20 percentage points."""
FAILURE_DELTAS: Final = (*RATE_DELTAS, 1.0)
"""Of errors and refusals also 100 points: a challenger that answers nobody is found with its first few users."""
_RATES: Final = (Metric.ERROR, Metric.REFUSED, Metric.SLOW)
"""Compared by their difference; the others by how much of the champion's value they change."""


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

    @property
    def is_rate(self) -> bool:
        """Whether it compares rates by their difference, not by how much of the champion's value they change."""
        return self.metric in _RATES


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
        ),
        "positive": GuardrailKind(
            words="thumbs up",
            metric=Metric.POSITIVE,
            limit=lambda settings: settings.max_positive_drop,
            watch_part=1 / 6,
            weighed_as=Metric.POSITIVE,
        ),
    }
)
"""By name. Errors and refusals have the same parts of alpha_harm: to a user without an answer they are the same, so the
same numbers of them are proven at the same time."""
COMPOSITE_HARM_PART: Final = 0.35
"""What is left of alpha_harm in a test for the composite: with the guardrails it is split as 7 : 5 : 5 : 3."""


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
    """The arms' means: a score for quality, else a rate (for latency the share of slow answers)."""
    estimate: float | None
    """The change: absolute for errors, refused and latency, relative for quality and positive."""
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
    """The rule for one metric. Worse is up for errors, refusals and latency, down for quality and thumbs."""

    name: str
    metric: Metric
    limit: float
    """Estimated worsening that blocks."""
    alpha: float
    """Chance that harm is "proven" of a harmless challenger, over any number of looks."""
    deltas: tuple[float, ...] = RATE_DELTAS
    """EffectEstimate sizes that the harm e-value is quickest to see."""
    tolerance: float = 0.0
    """Harm means: worse by more than this."""
    rolls_back: bool = False
    """Proven harm takes the users away; else it blocks a promotion."""
    required: bool = True
    """Missing data is unknown. Else (a metric that is switched off) only proven harm counts."""


def check(guardrail: Guardrail, champion: Moments, challenger: Moments, config: GuardrailConfig) -> GuardrailResult:
    """What `guardrail` says about the challenger. Rates are compared absolutely, scores relatively."""
    old, new = metric_mean(champion, guardrail.metric), metric_mean(challenger, guardrail.metric)
    if _is_rate(guardrail):
        effect = difference(champion, challenger, guardrail.metric)
    else:
        effect = weighted_effect(champion, challenger, {guardrail.metric: 1.0})
    if effect is None:
        return _unmeasured(guardrail, old, new)
    log_e = _log_e_harm(guardrail, effect)
    lower, upper = bounds(effect.theta, effect.se, deltas=guardrail.deltas, alpha=guardrail.alpha)
    state, why = _judge(guardrail, effect, log_e, config)
    return GuardrailResult(
        name=guardrail.name,
        champion=old.mean if old else None,
        challenger=new.mean if new else None,
        estimate=effect.theta,
        lower=finite(lower),
        upper=finite(upper),
        log_e_harm=finite(log_e),
        state=state,
        reason=f"{_change(guardrail, effect, old, new)}; {why}",
    )


def _is_rate(guardrail: Guardrail) -> bool:
    return guardrail.metric in _RATES


def _log_e_harm(guardrail: Guardrail, effect: EffectEstimate) -> float:
    worsening = effect.theta if _is_rate(guardrail) else -effect.theta
    return log_e_value(worsening, effect.se, null=guardrail.tolerance, deltas=guardrail.deltas, alpha=guardrail.alpha)


def _judge(
    guardrail: Guardrail, effect: EffectEstimate, log_e: float, config: GuardrailConfig
) -> tuple[GuardrailState, str]:
    worsening = effect.theta if _is_rate(guardrail) else -effect.theta
    needed = -math.log(guardrail.alpha)
    if effect.effective_users < config.min_effective_users:
        why = f"{effect.effective_users:.1f} of {config.min_effective_users:g} effective users"
        return (GuardrailState.UNKNOWN if guardrail.required else GuardrailState.PASS), why
    if log_e >= needed:
        state = GuardrailState.ROLL_BACK if guardrail.rolls_back else GuardrailState.BLOCK
        return state, f"harm is proven ({odds(log_e)}, {odds(needed)} needed)"
    if guardrail.required and worsening > guardrail.limit:
        return GuardrailState.BLOCK, f"worse than the limit of {percent(guardrail.limit)}, though not proven yet"
    return GuardrailState.PASS, f"within the limit of {percent(guardrail.limit)}"


def _change(guardrail: Guardrail, effect: EffectEstimate, old: MetricMean | None, new: MetricMean | None) -> str:
    assert old is not None  # an effect needs both arms
    assert new is not None
    if _is_rate(guardrail):
        return f"{percent(new.mean)} against {percent(old.mean)}, {points(effect.theta)}"
    return f"{new.mean:.3f} against {old.mean:.3f}, {signed_percent(effect.theta)}"


def _unmeasured(guardrail: Guardrail, old: MetricMean | None, new: MetricMean | None) -> GuardrailResult:
    if old is None or new is None:
        missing = "in either arm" if old is new else "for the champion" if old is None else "for the challenger"
        why = f"no data {missing} yet"
    else:
        why = "the champion's value is 0, so there is no relative change"
    return GuardrailResult(
        name=guardrail.name,
        champion=old.mean if old else None,
        challenger=new.mean if new else None,
        estimate=None,
        lower=None,
        upper=None,
        log_e_harm=None,
        state=GuardrailState.UNKNOWN if guardrail.required else GuardrailState.PASS,
        reason=why if guardrail.required else f"{why}; its weight is 0, so it is not needed",
    )
