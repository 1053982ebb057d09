"""Which answers a judge reads, and how many: decided by the record's id and the clock, never by arm, model or answer.

An answer is drawn when a hash of its record's id is below the share: the same chance in both arms, and decided before
anybody has seen it. What the budget leaves no room for waits, oldest first, and is left out once it is too old: by
time, which is the same for both arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.assignment import unit_interval

__all__ = ["LAG_S", "Budget", "Spent", "is_drawn"]

LAG_S: Final = 3600.0
"""An answer that could not be judged for so long is left out."""
_SALT: Final = b"judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Answers that were asked about."""

    hour: int = 0
    """In the last 60 minutes."""
    day: int = 0
    """In the last 24 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many answers may be asked about."""

    max_per_hour: int
    max_per_day: int

    def left(self, spent: Spent) -> int:
        """How many more may be asked about now."""
        return max(0, min(self.max_per_hour - spent.hour, self.max_per_day - spent.day))


def is_drawn(record_id: str, share: float) -> bool:
    """Whether the record with this id (hex) is among the `share` of all that are judged."""
    return unit_interval(_SALT, bytes.fromhex(record_id)) < share
