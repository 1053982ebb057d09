"""Numbers as people read them: rounded as far as they are known, and alike in every sentence, page and table.

Whoever shows a number takes it from here: decisions, console, command line, notifications. Thousands have commas,
units stand after a space, a minus is a minus, and what is small is not shown as nothing: it has the digits that show
it, or is said to be less than the least that is shown ("<+0.001 %", and below zero ">−0.001 %").
"""

from __future__ import annotations

import math
from typing import Final

__all__ = [
    "confidence",
    "cost",
    "counted",
    "duration",
    "figure",
    "finite",
    "many",
    "no_proof",
    "nothing_yet",
    "number",
    "odds",
    "percent",
    "points",
    "progress",
    "score",
    "share",
    "signed",
    "signed_percent",
    "size",
    "span",
    "took",
]  # fmt: skip

_UNITS: Final = ((1e3, "KB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
_FINEST: Final = 3
"""Decimals of a per cent that are ever shown: one of 100,000."""


def many(value: float) -> str:
    """A whole number: 33200 → "33,200"; a part of one is "<1"."""
    if round(value) == 0 and value != 0:
        return "<1" if value > 0 else ">−1"
    return f"{round(value):,}".replace("-", "−")


def counted(number_of: int, noun: str) -> str:
    """1 → "1 user", 3 → "3 users", 1200 → "1,200 users"."""
    return f"{many(number_of)} {noun}" if number_of == 1 else f"{many(number_of)} {noun}s"


def number(value: float) -> str:
    """A number of no unit, as somebody has set it: 20 → "20", 2000 → "2,000", 12.5 → "12.5"."""
    if value == round(value) or abs(value) >= 1000:
        return many(value)
    return f"{'−' if value < 0 else ''}{abs(value):g}"


def figure(value: float) -> str:
    """A measured number of no unit, to three places: 0.70512 → "0.705", 23456.0 → "23,456"."""
    text = f"{value + 0.0:,.{_FINEST}f}".rstrip("0").rstrip(".")
    return _not_none(text, value, f"{10**-_FINEST}").replace("-", "−")


def signed(value: float) -> str:
    """A number that may be either way, to two digits: 0.333 → "+0.33", −1 → "−1"; none is "0"."""
    if value == 0:
        return "0"
    text = f"{value:+.2g}" if abs(value) < 99.5 else f"{value:+,.0f}"
    return _not_none("" if abs(value) < 10**-_FINEST else text, value, f"+{10**-_FINEST}").replace("-", "−")


def cost(value: float) -> str:
    """An amount of money, of whatever currency it was given in: "1,234.50"."""
    return _not_none(f"{value + 0.0:,.2f}", value, "0.01").replace("-", "−")


def percent(part: float) -> str:
    """A measured share: 0.0512 → "5.1 %". Only none is "0 %" and only all is "100 %": what is rare, or rarely missing,
    gets the digits that show it (0.00003 → "0.003 %"), or is said to be less ("<0.001 %")."""
    value = 100 * part + 0.0
    apart = min(abs(value), abs(100 - value))
    if apart == 0:
        return f"{value:.0f} %"
    text = _rare(value, apart)
    if text.strip("-0.") == "":
        return f"<{10**-_FINEST} %"
    return f">{100 - 10**-_FINEST} %" if 100 - value > 0 and text.startswith("100") else f"{text} %".replace("-", "−")


def share(part: float) -> str:
    """A share that somebody has set, or that is counted exactly: 0.3 → "30 %", 0.125 → "12.5 %"."""
    shown = f"{round(100 * part, 1) + 0.0:g} %"
    return shown if shown not in ("0 %", "100 %") else percent(part)


def progress(fraction: float) -> str:
    """How far something has come on its way, whole percents that are behind it: 0.419 → "41 %", 0.999 → "99 %", and a
    start that has been made is "<1 %"."""
    whole = math.floor(100 * min(max(fraction, 0.0), 1.0) + 1e-9)
    return "<1 %" if whole == 0 and fraction > 0 else f"{whole} %"


def confidence(alpha: float) -> str:
    """How sure an error rate leaves one: 0.05 → "95 %"."""
    return f"{100 * (1 - alpha):g} %"


def signed_percent(change: float) -> str:
    """A relative change, with a true minus sign: −0.021 → "−2.1 %"; a small one has the digits that show it."""
    return f"{_signed(100 * change)} %"


def points(change: float) -> str:
    """An absolute change of a rate: 0.021 → "+2.1 points"; a small one has the digits that show it."""
    return f"{_signed(100 * change)} points"


def score(value: float) -> str:
    """A score, 0 to 1, as exactly as means of scores are known: "0.813"."""
    return _not_none(f"{value + 0.0:.3f}", value, "0.001").replace("-", "−")


def duration(hours: float) -> str:
    """In the unit that fits: "36 seconds", "12 minutes", "5.5 hours", from two days on "12 days"."""
    if hours >= 48:
        return f"{hours / 24:,.0f} days"
    if hours >= 1:
        return f"{hours:.1f} hours"
    if hours * 60 >= 1:
        return counted(round(hours * 60), "minute")
    seconds = round(hours * 3600)
    return "less than 1 second" if seconds == 0 and hours > 0 else counted(seconds, "second")


def span(seconds: float) -> str:
    """A length of time that one waits, as roughly as one says it: "45 s", "10 min", "3.5 h", "2.0 days"."""
    if seconds < 120:
        return "<1 s" if 0 < seconds <= 0.5 else f"{round(seconds)} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"


def took(seconds: float) -> str:
    """A measured length of time, to three digits: "412 µs", "85.3 ms", "1.24 s"; from two minutes on as `span`."""
    if seconds >= 120 or seconds <= 0:
        return span(seconds)
    factor, unit = (1e6, "µs") if seconds < 0.000_999_5 else (1e3, "ms") if seconds < 0.9995 else (1.0, "s")
    return f"{_digits(seconds * factor)} {unit}"


def size(many_bytes: float) -> str:
    """Bytes, in thousands: "812 bytes", "1.2 KB", "34 MB"."""
    if many_bytes < 999.5:
        return counted(round(many_bytes), "byte")
    unit = next((unit for unit in _UNITS if many_bytes < 999.5 * unit[0]), _UNITS[-1])
    many_bytes /= unit[0]
    return f"{many_bytes:.1f} {unit[1]}" if many_bytes < 9.95 else f"{many(many_bytes)} {unit[1]}"


def odds(log_e: float) -> str:
    """An e-value from its logarithm: "e = 3.2"; what is beyond a million or a thousandth is not spelt out."""
    if log_e > math.log(1e6):
        return "e > 1,000,000"
    if log_e < math.log(1e-3):
        return "e < 0.001"
    e = math.exp(log_e)
    return f"e = {e:,.0f}" if e >= 100 else f"e = {e:.3g}"


def finite(value: float) -> float | None:
    """`value`, or None for what JSON cannot say."""
    return value if math.isfinite(value) else None


def no_proof(n: float, noun: str = "") -> str:
    """What a test that has found nothing says: not that there is nothing. `n` is what it rests on."""
    found = many(n)
    is_so = f"n {found[0]} {found[1:]}" if found[0] in "<>" else f"n = {found}"
    return f"No proof that they differ ({is_so}{f' {noun}' if noun else ''})"


def nothing_yet(champion_requests: int, challenger_requests: int) -> str | None:
    """What there is to say of two arms of which one has had no request: that alone. None where both have had some."""
    if champion_requests and challenger_requests:
        return None
    if not champion_requests and not challenger_requests:
        return "No request has come yet, for either arm."
    without, other = ("challenger", "champion") if champion_requests else ("champion", "challenger")
    there = counted(champion_requests or challenger_requests, "request")
    return f"The {without} has had no request yet (the {other}: {there}), so there is nothing to compare."


def _rare(value: float, apart: float) -> str:
    """One decimal, and of what is small, or near to all, two digits that count, as far as the finest."""
    decimals = 1 if apart >= 1 else 2 if apart >= 0.1 else _FINEST
    text = f"{value:,.{decimals}f}"
    return text if decimals == 1 else text.rstrip("0") + "0" * text.rstrip("0").endswith(".")


def _signed(value: float) -> str:
    """With the sign that it has, but none for nothing."""
    if value == 0:
        return "0"
    text = f"{'+' if value > 0 else ''}{_rare(value, abs(value))}"
    return _not_none(text, value, f"+{10**-_FINEST}").replace("-", "−")


def _not_none(text: str, value: float, least: str) -> str:
    """`text`, or where that would say 0 of what is not: that it is less than `least`, or more than minus that."""
    if value == 0 or text.strip("+-0.") != "":
        return text
    return f"<{least}" if value > 0 else f">-{least.removeprefix('+')}"


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
