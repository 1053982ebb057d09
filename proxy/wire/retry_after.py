"""`Retry-After`: how long a server wants to be left alone (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["retry_after_s"]

_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
"""Some servers give fractions."""
_LONGEST_S: Final = 86_400.0


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from the answer with these headers, a day at most; None where it names no time, or none that is one.

    A date is counted from the answer's own `Date`: the server's clock need not be ours. `headers` finds names in any
    case, as a client library's do.
    """
    said = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(said):
        return min(float(said), _LONGEST_S)
    until, now = _date(said), _date(headers.get("Date", ""))
    if until is None or now is None:
        return None
    return min(max(0.0, (until - now).total_seconds()), _LONGEST_S)


def _date(said: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(said)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
