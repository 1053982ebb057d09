"""Which answers a judge reads, and how many: decided by the record's id and the clock, never by arm, model or answer.

An answer is drawn when a hash of its record's id is below the share: the same chance in both arms, and decided before
anybody has seen it. What the budget leaves no room for waits, oldest first, and is left out once it is too old: by
time, which is the same for both arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.agreement import Label
from policies.assignment import unit_interval

__all__ = ["LAG_S", "JudgeBudget", "Spent", "is_drawn", "label_of_preference"]

LAG_S: Final = 3600.0
"""An answer that could not be judged for so long is left out."""
_SALT: Final = b"judge"
_SIDE: Final = b"side"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Answers that were asked about."""

    hour: int = 0
    """In the last 60 minutes."""
    day: int = 0
    """In the last 24 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeBudget:
    """How many answers may be asked about."""

    max_per_hour: int
    max_per_day: int

    def left(self, spent: Spent) -> int:
        """How many more may be asked about now."""
        return max(0, min(self.max_per_hour - spent.hour, self.max_per_day - spent.day))


def is_drawn(record_id: str, share: float) -> bool:
    """Whether the record with this id (hex) is among the `share` of all that are judged."""
    return unit_interval(_SALT, bytes.fromhex(record_id)) < share


def label_of_preference(key: str, *, person: int, judge: float) -> Label:
    """A person's preference of two answers as a label of one of them, which a hash of `key` picks: was it preferred,
    and did the judge put it above the other? Both numbers are positive for the challenger's answer, negative for the
    champion's; a judge that sees no difference (0) was wrong.

    Picked by chance, so that preferred and other answers are about as many, however good the challenger is.
    """
    side = 1 if unit_interval(_SIDE, key.encode()) < 0.5 else -1
    liked = person * side > 0
    return Label(liked=liked, called_good=judge * side > 0 if judge else not liked)
