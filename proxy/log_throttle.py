"""Which failures are worth a line in the log: the first of its kind, and then one in a while for all that followed.

A model's server that is down fails every request, and a disk that is ill every record. A line for each would fill a
disk with the news that is known, and cost the processes their time just then; counters have every single one anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Final

from proxy.clock import Clock

__all__ = ["LogThrottle", "ThrottledLog"]

_EVERY_S: Final = 10.0
_MOST_TOPICS: Final = 64
_SAME_S: Final = 10.0
"""What fails again so soon after it worked is no news."""


class LogThrottle:
    """Counts what is not said, per topic."""

    __slots__ = ("_every_s", "_heard", "_over")

    def __init__(self, every_s: float = _EVERY_S) -> None:
        self._every_s = every_s
        self._heard: dict[Hashable, tuple[float, int, float]] = {}
        """Per topic: when it was last said (monotonic seconds), how often it was kept back since, and when it was last
        heard."""
        self._over: set[Hashable] = set()
        """Of these, what has worked since."""

    def of(self, topic: Hashable, now: float) -> int | None:
        """How many of `topic` were kept back before this one, which is to be said; None: keep this one back, too."""
        if topic in self._over and now - self._heard[topic][2] >= _SAME_S:
            del self._heard[topic]
        self._over.discard(topic)
        said_at, kept_back, _ = self._heard.get(topic, (None, 0, now))
        if said_at is not None and now - said_at < self._every_s:
            self._heard[topic] = (said_at, kept_back + 1, now)
            return None
        if said_at is None and len(self._heard) >= _MOST_TOPICS:
            self._heard.clear()
            self._over.clear()
        self._heard[topic] = (now, 0, now)
        return kept_back

    def over(self, topic: Hashable) -> None:
        """It works: the next of this topic is news again, unless it comes and goes every few seconds."""
        if topic in self._heard:
            self._over.add(topic)


class ThrottledLog:
    """A logger for what may go wrong every second for hours: each topic has a line a minute at most, with a count of
    those between. One thread."""

    def __init__(self, log: logging.Logger, clock: Clock, *, every_s: float = 60.0) -> None:
        self._log = log
        self._clock = clock
        self._throttle = LogThrottle(every_s)

    def error(self, topic: Hashable, text: str, *args: object) -> None:
        """Say it, as `logging.error` does, unless `topic` had its line."""
        self._say(logging.ERROR, topic, text, args)

    def warning(self, topic: Hashable, text: str, *args: object) -> None:
        """Say it, as `logging.warning` does, unless `topic` had its line."""
        self._say(logging.WARNING, topic, text, args)

    def exception(self, topic: Hashable, text: str, *args: object) -> None:
        """Say it with the exception that is being handled, as `logging.exception` does, unless `topic` had its line."""
        self._say(logging.ERROR, topic, text, args, exc_info=True)

    def over(self, topic: Hashable) -> None:
        """It works again: the next failure is news, unless it comes and goes every few seconds."""
        self._throttle.over(topic)

    def _say(self, level: int, topic: Hashable, text: str, args: tuple[object, ...], *, exc_info: bool = False) -> None:
        before = self._throttle.of(topic, self._clock.monotonic())
        if before is not None:
            more = f" ({before:,} more since the last line like this)" if before else ""
            self._log.log(level, text + "%s", *args, more, exc_info=exc_info)
