"""How ingest shares a core with the workers: behind each batch of a backlog it rests as long as that took.

Half of a core is left to requests then, and none waits behind more than a batch. A low priority alone does not do that:
it halves the median that catching up costs and leaves the worst hundredth. Where nobody asks, nobody is given way to.
Two things are worth more than latency, and end the rests: a backlog that grows all the same, and a spool so full that
it might have to refuse records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from proxy.clock import Clock

__all__ = ["Pace"]

_LOOKS_EVERY_S: Final = 5.0
_LEAST_S: Final = 0.03
"""A rest is at least so long: a batch of a few records costs as much as its transaction."""
_MOST_S: Final = 0.5
"""And at most: a round that had no turn on a busy core has left that to others already."""
_HURRY_SHARE: Final = 0.5
"""Of `spool.max_bytes`: from there on there are no rests."""
_CAUGHT_UP_BYTES: Final = 2 << 20
"""What is left of a backlog that grew when rests begin again."""


class Pace:
    """One per ingestor."""

    def __init__(
        self, max_bytes: int, interval_s: float, clock: Clock, on_hurry: Callable[[bool], None] | None = None
    ) -> None:
        """`max_bytes`: of the spool; `interval_s`: between two rounds that find everything stored, no rest is longer;
        `on_hurry` hears that there is no time to give way, and that there is again."""
        self._max_bytes = max_bytes
        self._interval_s = interval_s
        self._clock = clock
        self._on_hurry = on_hurry
        self._looked_at = clock.monotonic()
        self._pending = 0
        """Bytes that waited at the last look; 0: there was no backlog."""
        self._grows = False
        self.hurries = False
        self._ends: Mapping[str, tuple[int, int]] | None = None
        """How far the spool's writers had come when that was looked at last."""
        self._quiet = False
        """Nothing was written to the spool of late."""

    def rest_s(self, worked_s: float) -> float:
        """How long to rest behind a round of a backlog that took `worked_s`."""
        return 0.0 if self.hurries or self._quiet else min(max(worked_s, _LEAST_S), _MOST_S, self._interval_s)

    @property
    def looks(self) -> bool:
        """Whether it is time to look at the backlog: every few seconds, for that reads the spool's folder."""
        return self._clock.monotonic() - self._looked_at >= _LOOKS_EVERY_S

    def saw(self, pending: int) -> None:
        """So many bytes of a backlog wait; 0: there is none, whatever came in this moment."""
        before, self._pending = self._pending, pending
        self._looked_at = self._clock.monotonic()
        self._grows = pending > 0 and (pending > before > 0 or (self._grows and pending > _CAUGHT_UP_BYTES))

    def choose(self, held: int, ends: Mapping[str, tuple[int, int]]) -> None:
        """Hurry or not, with `held` bytes in the spool; asked about once a second. `ends`: how far its writers have
        come (the size says less: it falls, too, whenever a segment is let go of)."""
        self._quiet, self._ends = ends == self._ends, ends
        hurries = self._grows or held >= _HURRY_SHARE * self._max_bytes
        if hurries != self.hurries and self._on_hurry is not None:
            self._on_hurry(hurries)
        self.hurries = hurries
