"""The rule's estimates after every hour of a test at once: which hours are worth a look.

What is decided is decided by the product (`policies.experiment.evaluate`). That takes a millisecond a look; here the
same estimates are made of arrays, and say at which hours something may happen at all. A test holds the two together:
looks at every hour end in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from policies.estimates import DEFAULT_ICC, WEIGHABLE, Metric
from policies.evidence import log_e_value
from policies.experiment import ABTestConfig, guardrails_of
from policies.guardrails import GUARDRAILS, RATE_DELTAS
from policies.measurements import harm_alpha
from policies.stages import share_correlation
from tests.simulation.series import StageSeries
from tests.simulation.traffic import Bools, Floats

__all__ = ["Effects", "absolute", "deciding_hours", "relative", "wins"]

_POSSIBLE_Z: Final = 1.6
"""No bet of the rule is won with fewer standard errors: it would not even hold for a single look."""
_MARGIN: Final = 1e-6
_FEEDBACK_ALPHA: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """After each hour; not a number where there is no estimate."""

    theta: Floats
    se: Floats
    effective_users: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One metric in one stage, after each hour."""

    stage: StageSeries
    metric: Metric
    weight: float
    means: tuple[Floats, Floats]
    weights: tuple[Floats, Floats]
    squares: tuple[Floats, Floats]
    h: Floats


def relative(stages: Sequence[StageSeries], weights: Mapping[Metric, float], icc: float = DEFAULT_ICC) -> Effects:
    """As `policies.stages.weighted_effect`."""
    return _effects(stages, weights, icc, is_relative=True)


def absolute(stages: Sequence[StageSeries], metric: Metric, icc: float = DEFAULT_ICC) -> Effects:
    """As `policies.stages.difference`, but for arms without any spread."""
    return _effects(stages, {metric: 1.0}, icc, is_relative=False)


def wins(effects: Effects, *, sign: float, null: float, deltas: Sequence[float], alpha: float, users: float) -> Bools:
    """The hours at which the bet that the effect times `sign` is above `null` has won."""
    with np.errstate(invalid="ignore"):
        z = (sign * effects.theta - null) / effects.se
        possible = (z >= _POSSIBLE_Z) & (effects.effective_users >= users - _MARGIN)
    won, target = np.zeros(z.size, dtype=bool), -math.log(alpha) - _MARGIN
    for hour in np.flatnonzero(possible):
        theta, se = sign * float(effects.theta[hour]), float(effects.se[hour])
        won[hour] = log_e_value(theta, se, null=null, deltas=deltas, alpha=alpha) >= target
    return won


def deciding_hours(
    stages: Sequence[StageSeries], weights: Mapping[Metric, float], config: ABTestConfig, *, among: int
) -> tuple[Bools, Bools, Effects]:
    """The hours at which the test may end in harm, futility or doubt; those at which the gain is proven; the gain.
    `among`: how many stages share what the guardrails of the running one have."""
    deltas = config.promotion_threshold, 4 * config.promotion_threshold
    gain = relative(stages, weights)
    known = np.isfinite(gain.theta)
    quality = {Metric.QUALITY: weights[Metric.QUALITY]} if weights.get(Metric.QUALITY) else {}
    parts = relative(stages, quality) if quality else gain
    harm = Effects(
        theta=np.where(known, gain.theta, parts.theta),
        se=np.where(known, gain.se, parts.se),
        effective_users=np.where(known, gain.effective_users, parts.effective_users),
    )
    least = config.guardrails.min_effective_users
    ends = wins(harm, sign=-1, null=0, deltas=deltas, alpha=harm_alpha(config), users=least)
    null, users = -config.promotion_threshold, config.min_effective_users
    ends |= wins(gain, sign=-1, null=null, deltas=deltas, alpha=config.alpha, users=users)
    voted = absolute(stages, Metric.VOTED)
    for sign in (1, -1):
        ends |= wins(voted, sign=sign, null=0, deltas=RATE_DELTAS, alpha=_FEEDBACK_ALPHA, users=users)
    for guardrail in guardrails_of(config):
        if GUARDRAILS[guardrail.name].harm_part is not None:
            effects = absolute(stages[-1:], guardrail.metric)
            alpha = guardrail.alpha / among
            ends |= wins(effects, sign=1, null=0, deltas=guardrail.deltas, alpha=alpha, users=least)
            ends |= (effects.theta > 0) & ~np.isfinite(effects.se)  # no spread at all: only the product knows
    proven = wins(gain, sign=1, null=0, deltas=deltas, alpha=config.alpha, users=users)
    with np.errstate(invalid="ignore"):
        proven &= gain.theta >= config.promotion_threshold - _MARGIN
    return ends, proven, gain


def _effects(
    stages: Sequence[StageSeries], weights: Mapping[Metric, float], icc: float, *, is_relative: bool
) -> Effects:
    with np.errstate(invalid="ignore", divide="ignore"):
        parts: list[_Part] = []
        theta: Floats | float = 0.0
        gains: dict[Metric, tuple[Floats, Floats]] = {}
        for metric, weight in weights.items():
            if not weight:
                continue
            mine = [_part(stage, metric, weight, several=len(stages) > 1) for stage in stages]
            whole = sum(part.h for part in mine)
            whole = np.where(whole > 0, whole, np.nan)
            before, after = (
                sum(np.where(part.h > 0, part.h / whole * part.means[arm], 0.0) for part in mine) for arm in (0, 1)
            )
            before = np.where(before > 1e-9, before, np.nan) if is_relative else before
            theta = theta + weight * (after / before - 1.0 if is_relative else after - before)
            one = np.ones_like(whole)
            gains[metric] = (weight / before / whole, weight * after / before**2 / whole) if is_relative else (
                weight / whole * one, weight / whole * one)  # fmt: skip
            parts += mine
        return Effects(
            theta=theta + 0.0 * parts[0].h, se=_error(stages, parts, gains, icc), effective_users=_effective(parts)
        )


def _part(stage: StageSeries, metric: Metric, weight: float, *, several: bool) -> _Part:
    (old, w0, q0), (new, w1, q1) = stage.mean(0, metric), stage.mean(1, metric)
    h = np.nan_to_num(w0 * w1 / (w0 + w1), nan=0.0)
    if several:
        h = np.where(stage.users.min(axis=0) >= 2, h, 0.0)
    return _Part(stage=stage, metric=metric, weight=weight, means=(old, new), weights=(w0, w1), squares=(q0, q1), h=h)


def _effective(parts: Sequence[_Part]) -> Floats:
    found: Floats | None = None
    for metric in {part.metric for part in parts}:
        mine = [part for part in parts if part.metric is metric]
        whole = sum(part.h for part in mine)
        for arm in (0, 1):
            root = sum(np.where(p.h > 0, p.h / p.weights[arm] * np.sqrt(p.squares[arm]), 0.0) for p in mine)
            users = (whole / root) ** 2
            found = users if found is None else np.minimum(found, users)
    assert found is not None
    return np.nan_to_num(found, nan=0.0)


def _error(
    stages: Sequence[StageSeries], parts: Sequence[_Part], gains: Mapping[Metric, tuple[Floats, Floats]], icc: float
) -> Floats:
    spreads: list[tuple[float, Floats, Floats]] = []
    few = np.zeros_like(parts[0].h, dtype=bool)
    for stage in stages:
        mine = [part for part in parts if part.stage is stage]
        used = np.any([part.h > 0 for part in mine], axis=0)
        few |= used & (stage.users.min(axis=0) < 2)
        between = np.max(
            [np.where(p.h > 0, p.squares[arm] / p.weights[arm], 0.0) for p in mine for arm in (0, 1)], axis=0
        )
        spreads.append((stage.share, _variance(stage, mine, gains), np.minimum(1.0, icc * between)))
    variance = sum(v for _, v, _ in spreads)
    for (p, v, f), (q, u, g) in combinations(spreads, 2):
        variance = variance + 2 * share_correlation(min(p, q), max(p, q)) * np.sqrt(f * g * v * u)
    return np.where((variance > 0) & ~few, np.sqrt(variance), np.inf)


def _variance(stage: StageSeries, parts: Sequence[_Part], gains: Mapping[Metric, tuple[Floats, Floats]]) -> Floats:
    total: Floats | float = 0.0
    for arm, users in enumerate(stage.users):
        own: Floats | float = 0.0
        for one in parts:
            for other in parts:
                if one is not other and not {one.metric, other.metric} <= set(WEIGHABLE):
                    raise ValueError(f"no products of {one.metric} and {other.metric} are kept")
                c, d = (np.where(p.h > 0, gains[p.metric][1 - arm] * p.h / p.weights[arm], 0.0) for p in (one, other))
                own = own + np.nan_to_num(c * d * stage.residual(arm, one.metric, other.metric))
        total = total + np.maximum(own, 0.0) * users / np.maximum(users - 1, 1)
    for part in parts:
        total = total + _floor(stage, part, gains[part.metric])
    return np.nan_to_num(total)


def _floor(stage: StageSeries, part: _Part, gain: tuple[Floats, Floats]) -> Floats:
    """What is missing in the smaller arm of the variance that the larger one's spread implies."""
    small, large = (1, 0) if stage.share <= 0.5 else (0, 1)
    factor = gain[1 - small] * part.h

    def spread(arm: int) -> Floats:
        users = stage.users[arm]
        return np.maximum(stage.residual(arm, part.metric, part.metric), 0.0) * users / np.maximum(users - 1, 1)

    own = spread(small) / part.weights[small] ** 2
    implied = spread(large) / part.weights[large] / part.weights[small]
    return np.nan_to_num(factor**2 * np.maximum(implied - own, 0.0))
