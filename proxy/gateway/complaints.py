"""Which failures are worth a line in the log: the first of its kind, and then one in ten seconds for all that followed.

A model's server that is down fails every request. A line for each would fill a disk with the news that is known, and
cost the workers their time just then; records and counters have every single one anyway.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Complaints"]

_EVERY_S: Final = 10.0
_MOST_TOPICS: Final = 64


class Complaints:
    """Counts what is not said, per topic."""

    __slots__ = ("_heard",)

    def __init__(self) -> None:
        self._heard: dict[tuple[str, str], tuple[float, int]] = {}
        """Per topic: when it was last said (monotonic seconds), and how often it was kept back since."""

    def of(self, topic: tuple[str, str], now: float) -> int | None:
        """How many of `topic` were kept back before this one, which is to be said; None: keep this one back, too."""
        said_at, kept_back = self._heard.get(topic, (None, 0))
        if said_at is not None and now - said_at < _EVERY_S:
            self._heard[topic] = (said_at, kept_back + 1)
            return None
        if said_at is None and len(self._heard) >= _MOST_TOPICS:
            self._heard.clear()
        self._heard[topic] = (now, 0)
        return kept_back
