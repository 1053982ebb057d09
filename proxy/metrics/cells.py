"""What is added to: one counter, one histogram. `families` renders them; whoever counts keeps those that it needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Cell", "Distribution"]


class Cell:
    """One counter. Add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Distribution:
    """One histogram. Bucket i counts values ≤ bounds[i] and above the bound before it; the last one has no bound."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value
