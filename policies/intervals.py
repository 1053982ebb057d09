"""The range of a setting, declared beside it: `share: Annotated[float, Interval("[0, 1]", "a share, 0 to 1")]`.

The configuration's checks, their messages and docs/reference/config.md read it from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers in the usual notation: `[0, 1]` with its ends, `(0, 1)` without them, `inf` for no end."""

    text: str
    meaning: str
    """What the number is, with its unit; part of the message where it is out of range."""

    def remedy(self, value: float) -> str | None:
        """What to write instead of `value`: "too small …; at least 0"; None where it is inside."""
        low_text, high_text = self.text[1:-1].split(", ")
        low, high = float(low_text), float(high_text)
        if value < low or (value == low and self.text[0] == "("):
            word = "more than" if self.text[0] == "(" else "at least"
            return f"too small ({self.meaning}); write {word} {low_text}"
        if value > high or (value == high and self.text[-1] == ")" and not math.isinf(high)):
            word = "less than" if self.text[-1] == ")" else "at most"
            return f"too large ({self.meaning}); write {word} {high_text}"
        return None
