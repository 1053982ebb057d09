"""Slots of a worker's shared counters that the feedback endpoint uses. Apart from it, so that a worker can declare
them before it has imported the web framework.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ACCEPTED", "FEEDBACK_COUNTERS", "refused_slot"]

ACCEPTED: Final = "feedback_votes_total"
_REASONS: Final = {
    400: "bad",
    403: "forged",
    409: "ambiguous",
    410: "too_old",
    413: "too_large",
    429: "too_many",
    503: "spool_full",
}


def refused_slot(status: int) -> str:
    """The slot that counts a feedback request refused with `status`."""
    return f'feedback_refused_total{{reason="{_REASONS[status]}"}}'


FEEDBACK_COUNTERS: Final = (ACCEPTED, *(refused_slot(status) for status in _REASONS))
"""Votes accepted, and requests refused by reason."""
