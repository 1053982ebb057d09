"""Circuit breaker: a challenger that keeps failing is left alone, and probed by one request at a time.

closed --n failures in a row--> open --wait--> half open --success--> closed
                                 ^------- failure: wait doubles, up to ten times ------'
"""

from __future__ import annotations

from proxy.config.serving import BreakerConfig

__all__ = ["Breaker"]

_LONGEST = 10


class Breaker:
    """Whether the next request may go to a model. Every `allow` that said yes is answered by one of
    `success`, `failure` or `release`."""

    __slots__ = ("_config", "_failures", "_probing", "_retry_at", "_wait_s")

    def __init__(self, config: BreakerConfig) -> None:
        self._config = config
        self._failures = 0
        self._wait_s = config.open_seconds
        self._retry_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests are being kept away (half open included)."""
        return self._retry_at is not None

    def allow(self, now: float) -> bool:
        """Whether a request may go there at the monotonic time `now`; while open, only one probe at a time."""
        if self._retry_at is None:
            return True
        if self._probing or now < self._retry_at:
            return False
        self._probing = True
        return True

    def success(self) -> None:
        """The model answered."""
        self._failures = 0
        self._retry_at = None
        self._probing = False
        self._wait_s = self._config.open_seconds

    def failure(self, now: float) -> None:
        """The model could not be reached, stayed silent, or said that it cannot serve."""
        self._failures += 1
        if self._probing:
            self._probing = False
            self._wait_s = min(2 * self._wait_s, _LONGEST * self._config.open_seconds)
        elif self._retry_at is not None or self._failures < self._config.consecutive_failures:
            return
        self._retry_at = now + self._wait_s

    def release(self) -> None:
        """The request ended without showing anything about the model (its client left)."""
        self._probing = False
