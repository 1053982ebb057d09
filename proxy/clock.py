"""Where time comes from: the only module that may read the system clock.

Wall time (`now`) dates things; `monotonic` measures them. Tests hand in a `ManualClock` and move it.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["AdjustedClock", "Clock", "JumpWatch", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """A source of wall time and of monotonic time, both in seconds."""

    def now(self) -> float:
        """Unix seconds, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class AdjustedClock:
    """The machine's clocks, with wall time set right by what is known of how far it is ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        """Seconds by which this machine's wall clock is ahead of the one that counts."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> float:
        """Unix seconds, UTC, by the clock that counts."""
        return time.time() - self.ahead_s

    @staticmethod
    def unadjusted() -> float:
        """Unix seconds, UTC, by this machine's clock."""
        return time.time()


class JumpWatch:
    """Tells when wall time was set: it went on by another amount than the time that passed."""

    def __init__(self, clock: Clock, *, least_s: float = 1.0) -> None:
        """What is less than `least_s` between two looks is no jump: clocks drift, and are drawn right slowly."""
        self._clock = clock
        self._least_s = least_s
        self._apart = clock.now() - clock.monotonic()

    def look(self) -> float:
        """By how many seconds wall time was set since the last look, forward or (negative) back; 0 where it was not."""
        apart = self._clock.now() - self._clock.monotonic()
        jumped_s, self._apart = apart - self._apart, apart
        return jumped_s if abs(jumped_s) > self._least_s else 0.0


class ManualClock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Unix seconds, UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since construction, as advanced."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Move only the wall clock (either way), as NTP or an operator does."""
        self._now += seconds
