"""Has quality dropped? A change detector that errs once a year.

Shiryaev–Roberts e-detector (Shin, Ramdas, Rinaldo, "E-detectors", NEJSDS 2024) for users' hourly mean scores in [0, 1].
A bettor pays 1 an hour and bets that the mean has fallen below m₀; several bet sizes, because a small bet sees small
drops and a large one sees large drops soon. The state is a frozen value: feed an hour, get the next, keep it in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["DROP_BETS", "DROP_RUN_LENGTH", "DROP_TOLERANCE", "DropDetector"]

DROP_TOLERANCE: Final = 0.05
"""A mean that has fallen by less than this share of the baseline is no drop to the detector."""
DROP_BETS: Final = (0.4, 0.8, 1.6, 2.6)
"""Bet sizes λ, small ones for small drops; each is capped at 0.9/(1 − m₀), so that no single score ruins the bettor."""
DROP_RUN_LENGTH: Final = 24 * 365
"""Hours until a false alarm, on average at least: a year."""
_CEILING: Final = math.log(1000.0 * DROP_RUN_LENGTH)
"""The detector's memory of a drop is bounded, so that an end of the drop shows in hours and not in months."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDetector:
    """Shiryaev–Roberts e-detector for a falling mean of scores in [0, 1], as a value: feed an hour, get the next.

    For each bet size M ← Π_users (1 + λ(m₀ − x)) · (M + 1), m₀ = 0.95 · baseline; alarm when the mean of the M reaches
    8760. While the mean is at least m₀, each M grows by at most 1 an hour on average: one false alarm a year.
    """

    baseline: float
    """Mean score, frozen at promotion or install, in (0, 1]."""
    levels: tuple[float, ...] = (0.0,) * len(DROP_BETS)
    """ln(M + 1) for each bet size."""
    hours: int = 0
    """Hours with scores that were fed."""

    def update(self, user_means: Sequence[float]) -> DropDetector:
        """The detector after one hour in which each user's mean score was one of `user_means`.

        An hour without scores says nothing and changes nothing. Scores are clipped to [0, 1].
        """
        if not user_means:
            return self
        floor = min(self.baseline, 1.0) * (1.0 - DROP_TOLERANCE)
        shortfalls = [floor - min(max(mean, 0.0), 1.0) for mean in user_means]
        levels: list[float] = []
        for level, bet in zip(self.levels, DROP_BETS, strict=True):
            size = min(bet, 0.9 / (1.0 - floor))
            growth = level + math.fsum(math.log1p(size * shortfall) for shortfall in shortfalls)
            levels.append(min(max(growth, 0.0) + math.log1p(math.exp(-abs(growth))), _CEILING))
        return replace(self, levels=tuple(levels), hours=self.hours + 1)

    @property
    def statistic(self) -> float:
        """Mean of the M over the bet sizes."""
        return sum(math.expm1(level) for level in self.levels) / len(self.levels)

    @property
    def alarm(self) -> bool:
        """Whether quality has dropped."""
        return self.statistic >= DROP_RUN_LENGTH
