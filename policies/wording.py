"""Numbers in sentences: rounded as far as they are known, the same everywhere a decision is explained."""

from __future__ import annotations

import math

__all__ = ["confidence", "duration", "finite", "odds", "percent", "points", "signed_percent"]


def percent(share: float) -> str:
    """0.0512 → "5.1 %"."""
    return f"{100 * share:.1f} %"


def confidence(alpha: float) -> str:
    """How sure an error rate leaves one: 0.05 → "95 %"."""
    return f"{100 * (1 - alpha):g} %"


def signed_percent(change: float) -> str:
    """A relative change, with a true minus sign: −0.021 → "−2.1 %"."""
    return f"{_rounded(change):+.1f} %".replace("-", "−")


def points(change: float) -> str:
    """An absolute change of a rate: 0.021 → "+2.1 points"."""
    return f"{_rounded(change):+.1f} points".replace("-", "−")


def duration(hours: float) -> str:
    """Hours up to two days, days from there: "5.5 hours", "12 days"."""
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def odds(log_e: float) -> str:
    """An e-value from its logarithm: "e = 3.2"; what is beyond a million or a thousandth is not spelt out."""
    if log_e > math.log(1e6):
        return "e > 1,000,000"
    if log_e < math.log(1e-3):
        return "e < 0.001"
    e = math.exp(log_e)
    return f"e = {e:,.0f}" if e >= 100 else f"e = {e:.3g}"


def finite(number: float) -> float | None:
    """`number`, or None for what JSON cannot say."""
    return number if math.isfinite(number) else None


def _rounded(change: float) -> float:
    """In hundredths, to one decimal, and never −0.0."""
    return round(100 * change, 1) + 0.0
