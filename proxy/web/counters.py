"""Slots of a worker's shared counters that the feedback endpoint uses. Apart from it, so that a worker can declare
them before it has imported the web framework.
"""

from __future__ import annotations

from typing import Final

from proxy.metrics.slots import WorkerCounter, slots_of

__all__ = ["ACCEPTED", "FEEDBACK", "FEEDBACK_COUNTERS", "refused_slot"]

ACCEPTED: Final = "feedback_votes_total"
_REASONS: Final = {
    400: "bad",
    401: "no_token",
    403: "forged",
    409: "ambiguous",
    410: "too_old",
    413: "too_large",
    429: "too_many",
    503: "spool_full",
}
_REFUSED: Final = WorkerCounter(
    name="feedback_refused_total",
    text="Feedback requests refused, by reason.",
    labels=(("reason", tuple(_REASONS.values())),),
)
FEEDBACK: Final = (WorkerCounter(name=ACCEPTED, text="Votes accepted."), _REFUSED)
FEEDBACK_COUNTERS: Final = slots_of(FEEDBACK)


def refused_slot(status: int) -> str | None:
    """The slot that counts a feedback request refused with `status`; None for what is no vote at all."""
    return _REFUSED.slot(_REASONS[status]) if status in _REASONS else None
