"""Slots of a worker's shared counters that cleaning uses: declared in every worker, also where nothing is cleaned."""

from __future__ import annotations

from typing import Final

__all__ = ["CLEANING_COUNTERS", "lost_slot"]

_REASONS: Final = ("deadline", "backlog", "shutdown", "failed")


def lost_slot(reason: str) -> str:
    """The slot that counts what is not recorded because it could not be cleaned for this `reason`."""
    return f'redaction_lost_total{{reason="{reason}"}}'


CLEANING_COUNTERS: Final = tuple(map(lost_slot, _REASONS))
"""Bodies, heads and votes that are not recorded: they took too long, too many waited, the worker ended, or what cleans
failed."""
