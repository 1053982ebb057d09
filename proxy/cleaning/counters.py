"""Slots of a worker's shared counters that cleaning uses: declared in every worker, also where nothing is cleaned."""

from __future__ import annotations

from typing import Final

from proxy.metrics.slots import WorkerCounter, slots_of

__all__ = ["CLEANING", "CLEANING_COUNTERS", "lost_slot"]

_LOST: Final = WorkerCounter(
    name="redaction_lost_total",
    text="Bodies, headers and votes that are not recorded because redaction failed, by reason.",
    labels=(("reason", ("deadline", "backlog", "shutdown", "failed")),),
)
CLEANING: Final = (_LOST,)
CLEANING_COUNTERS: Final = slots_of(CLEANING)


def lost_slot(reason: str) -> str:
    """The slot that counts what is not recorded because it could not be cleaned for this `reason`: it took too long,
    too much waited, the worker ended, or what cleans failed."""
    return _LOST.slot(reason)
