"""Numbers in sentences: rounded as far as they are known, the same everywhere a decision is explained."""

from __future__ import annotations

import math

__all__ = ["confidence", "counted", "duration", "finite", "odds", "percent", "points", "share", "signed_percent"]


def percent(share: float) -> str:
    """0.0512 → "5.1 %"."""
    return f"{100 * share:.1f} %"


def share(part: float) -> str:
    """A share that somebody has set, or that is counted exactly: 0.3 → "30 %", 0.125 → "12.5 %"."""
    return f"{round(100 * part, 1):g} %"


def counted(number: int, noun: str) -> str:
    """1 → "1 user", 3 → "3 users"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
    """In the unit that fits: "36 seconds", "12 minutes", "5.5 hours", from two days on "12 days"."""
    if hours >= 48:
        return f"{hours / 24:.0f} days"
    if hours >= 1:
        return f"{hours:.1f} hours"
    return counted(round(hours * 60), "minute") if hours * 60 >= 1 else counted(round(hours * 3600), "second")


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
