"""How sure an estimate makes us, at any time: e-values, bounds, information, the sample ratio.

An e-value is a bet against "the effect is at most `null`" that a fair game would not let grow: when it ever reaches
1/α the null is rejected, and the chance of that happening to a true null is at most α however often one looks. The
bet here is the one-sided normal mixture of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit
theory and asymptotic confidence sequences", Ann. Stat. 52(6), 2024 (arXiv 2103.06476), with z = (θ − null)/SE:

    e_δ = 2 (1 + τ)^(−1/2) exp(x²/2) Φ(x),  x = z √(τ/(1+τ)),  τ = τ*·(δ/3.6)²/SE²,  τ* = −2 ln 2α + ln(1 − 2 ln 2α)

It is tightest when SE = δ/3.6, which is about when an effect of size δ is decided; the mean over a few δ finds small
and large effects both. For a fixed SE, e grows with z, so "rejected" means z ≥ `critical_z`, and bounds are θ ∓ z·SE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["bounds", "critical_z", "information_needed", "log_e_value", "sample_ratio_log_bf"]

_MAX_Z: Final = 60.0
"""A bound further away than this many standard errors says nothing: it is reported as infinite."""
_LOG_2: Final = math.log(2.0)
_LOG_ROOT_2_PI: Final = 0.5 * math.log(2.0 * math.pi)
_ROOT_HALF: Final = math.sqrt(0.5)
_SMALLEST_DELTA: Final = 0.005
"""Below this an effect size is not worth tuning for; with 0 the bet would be empty."""


def log_e_value(theta: float, se: float, *, null: float = 0.0, deltas: Sequence[float], alpha: float) -> float:
    """Log of the evidence that the effect is above `null`; reject at ≥ −ln(alpha), at any look.

    `deltas` are the effect sizes (> 0) to be quickest at; the e-values of all are averaged. −inf when `se` is inf.
    """
    if not 0.0 < se < math.inf:
        return -math.inf
    return _log_mixture((theta - null) / se, _bets(se, deltas, alpha))[0]


def critical_z(se: float, *, deltas: Sequence[float], alpha: float) -> float:
    """How many standard errors an estimate must lie above a null before that null is rejected; inf when never.

    log e is convex and rising in z, so Newton's steps from the right never overshoot. To the right of the root lies
    any z at which one effect size would do it alone, with Φ at its smallest.
    """
    if not 0.0 < se < math.inf:
        return math.inf
    bets, target = _bets(se, deltas, alpha), -math.log(alpha)
    alone = target + math.log(2.0 * len(bets))
    z = min(math.sqrt(2.0 * (alone - bet.offset)) / bet.scale for bet in bets)
    if z > _MAX_Z:
        z = _MAX_Z
        if _log_mixture(z, bets)[0] < target:
            return math.inf
    while True:
        log_e, slope = _log_mixture(z, bets)
        nearer = z - (log_e - target) / slope
        if nearer >= z * (1.0 - 1e-7):  # the error squares with each step: this one was the last that shows
            return nearer
        z = nearer


def bounds(theta: float, se: float, *, deltas: Sequence[float], alpha: float) -> tuple[float, float]:
    """Always-valid lower and upper bound, each wrong at any time with probability at most `alpha`; may be infinite."""
    margin = critical_z(se, deltas=deltas, alpha=alpha) * se
    return theta - margin, theta + margin


def information_needed(effect: float, *, deltas: Sequence[float], alpha: float, z_power: float = 0.84) -> float:
    """Information 1/SE² at which a true `effect` > 0 is seen at one look with power Φ(z_power) (0.84: 80 %).

    ValueError when `effect` is not positive: nothing ever shows that.
    """
    if effect <= 0:
        raise ValueError(f"effect: {effect} is not above 0; no amount of data shows a gain that is not there")
    low, high = 1.0, 1e4 / effect**2
    for _ in range(48):
        middle = math.sqrt(low * high)
        se = middle**-0.5
        if log_e_value(effect - z_power * se, se, deltas=deltas, alpha=alpha) >= -math.log(alpha):
            high = middle
        else:
            low = middle
    return high


def sample_ratio_log_bf(users: tuple[int, int], share: float, concentration: float) -> float | None:
    """Log Bayes factor against "the split of (champion, challenger) users is as configured".

    Sequential multinomial test with a Dirichlet prior (Lindon and Malek, arXiv 2011.03567), valid at any time: alarm
    when it reaches ln of the alarm's Bayes factor. None when `share` is not inside (0, 1): there is no split to check.
    """
    if not 0.0 < share < 1.0:
        return None
    log_bf = math.lgamma(concentration) - math.lgamma(concentration + sum(users))
    for seen, expected in zip(users, (1.0 - share, share), strict=True):
        prior = concentration * expected
        log_bf += math.lgamma(prior + seen) - math.lgamma(prior) - seen * math.log(expected)
    return log_bf


class _Bet(NamedTuple):
    """One effect size at one standard error: log e = offset + ln(exp(x²/2) Φ(x)) at x = z·scale."""

    offset: float
    scale: float


def _bets(se: float, deltas: Sequence[float], alpha: float) -> list[_Bet]:
    """The bet for each effect size; finite however small `se` is."""
    log_term = -2.0 * math.log(2.0 * min(alpha, 0.49))
    best = log_term + math.log1p(log_term)
    bets: list[_Bet] = []
    for delta in deltas:
        ratio = max(delta, _SMALLEST_DELTA) / 3.6 / se
        tau = min(max(best * ratio * ratio, 1e-300), 1e300)
        bets.append(_Bet(_LOG_2 - 0.5 * math.log1p(tau), math.sqrt(tau / (1.0 + tau))))
    return bets


def _log_mixture(z: float, bets: Sequence[_Bet]) -> tuple[float, float]:
    """Log of the mean e-value at `z` and its slope in z."""
    logs: list[float] = []
    slopes: list[float] = []
    for offset, scale in bets:
        log_growth, slope = _growth(z * scale)
        logs.append(offset + log_growth)
        slopes.append(slope * scale)
    top = max(logs)
    if math.isinf(top):
        return top, math.inf
    total = slope = 0.0
    for log_e, own_slope in zip(logs, slopes, strict=True):
        part = math.exp(log_e - top)
        total += part
        slope += part * own_slope
    return top + math.log(total / len(bets)), slope / total


def _growth(x: float) -> tuple[float, float]:
    """ln(exp(x²/2) Φ(x)) and its slope; far to the left the two factors cancel and only Mills' ratio is left."""
    if x < -30.0:
        return -math.log(-x) - _LOG_ROOT_2_PI, -1.0 / x
    normal = 0.5 * math.erfc(-x * _ROOT_HALF)
    half_square = 0.5 * x * x
    return half_square + math.log(normal), x + math.exp(-half_square - _LOG_ROOT_2_PI) / normal
