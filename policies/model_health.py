"""Is a model's server well? Judged from what became of the requests that it got, as the gateway counts them.

It is failing where one of these is so, over the last minute at most and never over what came before it last changed:

    three failures in a row
    half of five answers or more have failed
    no answer came at all, and five clients had waited for one and left
    our own key was refused (401, 403) by five answers in a row, and nothing else came

It is well again with the first good answer where none had come through; where some had, with three in a row, or once
less than a fifth of five answers or more fail: what fails every second time would change its health all day. Silence
changes nothing. A refusal (4xx) is an answer, apart from that of a key which is ours: whose fault another one is, a
server alone does not tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["Answers", "Evidence", "ModelHealth", "judge"]

_FEWEST: Final = 5
_FAILING_SHARE: Final = 0.5
_WELL_SHARE: Final = 0.2
_ROW: Final = 3


class ModelHealth(Enum):
    """What is known of a model's server."""

    UNKNOWN = "unknown"
    WELL = "well"
    FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What became of the requests of some time."""

    good: int = 0
    """Answered, refusals of the client's doing included."""
    failed: int = 0
    """Not reached, silent, broken off, or a 5xx."""
    denied: int = 0
    """Our own key was refused."""
    left: int = 0
    """Clients that left after a second or more, before any answer."""

    def __add__(self, other: Answers) -> Answers:
        return Answers(
            good=self.good + other.good,
            failed=self.failed + other.failed,
            denied=self.denied + other.denied,
            left=self.left + other.left,
        )

    @property
    def bad(self) -> int:
        """No good to whoever asked."""
        return self.failed + self.denied

    @property
    def answered(self) -> int:
        """All that have an end."""
        return self.good + self.failed + self.denied

    @property
    def bad_share(self) -> float | None:
        """Share (0 to 1) of those that were no good; None without any."""
        return self.bad / self.answered if self.answered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What came since the health changed last."""

    minute: Answers
    """Of the last minute."""
    latest: Answers
    """Since the judge was asked last; part of `minute`."""
    good: int
    """Good answers, however long ago."""
    good_in_a_row: int
    """Since the last one that was not."""
    failed_in_a_row: int
    """Since the last one that was good."""


def judge(health: ModelHealth, evidence: Evidence) -> ModelHealth:
    """What the health is now."""
    if health is ModelHealth.FAILING:
        return ModelHealth.WELL if _recovered(evidence) else health
    if _fails(evidence):
        return ModelHealth.FAILING
    return ModelHealth.WELL if evidence.good else health


def _fails(evidence: Evidence) -> bool:
    minute = evidence.minute
    if evidence.failed_in_a_row >= _ROW:
        return True
    if not minute.answered:
        return minute.left >= _FEWEST
    if minute.denied == minute.answered:
        return minute.denied >= _FEWEST
    return minute.answered >= _FEWEST and minute.failed / minute.answered >= _FAILING_SHARE


def _recovered(evidence: Evidence) -> bool:
    if not evidence.latest.good:
        return False
    if evidence.good == evidence.latest.good:  # nothing had come through before
        return True
    minute = evidence.minute
    share = minute.bad_share
    return evidence.good_in_a_row >= _ROW or (minute.answered >= _FEWEST and share is not None and share < _WELL_SHARE)
