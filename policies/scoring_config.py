"""The settings of the format check (`policies.scoring`). In a file of their own, which is not compiled: processes hand
them to each other, and a frozen class of a compiled module cannot be unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.intervals import Interval

__all__ = ["ScoringConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """The format check: scores in [0, 1] by visible defects; a score sent with feedback or found by pointer wins."""

    enabled: bool = True
    """Score every answer whose text was understood."""
    min_response_chars: Annotated[int, Interval("[0, inf)", "a count")] = 1
    """Shorter answers are empty and score 0."""
    refusal_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.2
    """Score of an answer that declines."""
    truncated_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.4
    """Score of an answer that a limit truncated."""
    repetition_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.2
    """Score of an answer that repeats itself."""
    invalid_json_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.0
    """Score of an answer that is no JSON where JSON was asked for."""
