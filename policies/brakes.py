"""What keeps a recipe that never wins from training for ever: rejections in a row, and trainings in a month.

After `stop_after_rejections` challengers in a row that were not better, triggers start nothing until a person has
looked: more of the same data in the same recipe is unlikely to help. What lifts it is `ratchet trigger`,
`ratchet resume`, and a promotion that has outlasted its watch. `max_runs_per_month` is a budget, and lifts itself as
the oldest training leaves the last 30 days. A person's `ratchet trigger` asks neither.

A challenger was not better if it came from a training and was sent back by the gate, by its test, for harm, or in the
watch after its promotion. What a person withdrew says nothing of the recipe, nor does a training or a server that
failed: the back-off is for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

__all__ = ["MONTH_S", "Brake", "month_full_until", "stop_in_words"]

MONTH_S: Final = 30 * 86400.0
"""A month here: the last 30 days."""
_IN_WORDS: Final = ("", "", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


class Brake(StrEnum):
    """Why triggers start no training, although nothing has failed."""

    REJECTIONS = "rejections"
    """A person is asked."""
    MONTH = "month"
    """It ends by itself."""


def stop_in_words(rejections: int, most: int) -> str | None:
    """What a person is told after `rejections` in a row; None below `most`, and where that is 0 (no limit)."""
    if most == 0 or rejections < most:
        return None
    if rejections == 1:
        what = "The last challenger was not better than the champion"
    else:
        number = _IN_WORDS[rejections] if rejections < len(_IN_WORDS) else str(rejections)
        what = f"{number} challengers in a row were not better than the champion"
    return (
        f"{what}: triggers start no training until a person has looked "
        f"(trigger_config.stop_after_rejections is {most}). `ratchet trigger` or `ratchet resume` goes on."
    )


def month_full_until(starts: Sequence[float], most: int, now: float) -> float | None:
    """When another training fits into the month (Unix seconds); None: it does now.

    `starts` of trainings, oldest first: the newest `most` of them suffice.
    """
    counted = [start for start in starts if start > now - MONTH_S]
    return None if len(counted) < most else counted[-most] + MONTH_S
