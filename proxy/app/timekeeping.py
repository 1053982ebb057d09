"""One time for all hosts that share a database: the database's.

Which of two votes came later, when an epoch began, how long a test has run: none of it may depend on which host was
asked, and clocks of hosts differ. So the controller compares its clock with the database's every few seconds and writes
the difference into a file; it and the workers go by the database's time from then on. A host that agrees to a tenth of
a second, as any host with NTP does, is left alone, and so is one with SQLite, which has nobody to agree with.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from proxy.clock import AdjustedClock
from proxy.private import replace_private

if TYPE_CHECKING:  # a worker never loads the store
    from proxy.store.store import Store

__all__ = ["Timekeeper", "follow_time"]

_TOLERANCE_S: Final = 0.1
_MOST_DOUBT_S: Final = 1.0
"""A database that takes twice as long to answer does not tell the time."""

_log = logging.getLogger(__name__)


class Timekeeper:
    """The controller's end: sets `clock` right, and tells the workers through the file `path`."""

    def __init__(self, path: Path, clock: AdjustedClock) -> None:
        self._path = path
        self._clock = clock
        follow_time(path, clock)

    async def compare(self, store: Store) -> None:
        """Look at the database's clock. Raises TemporaryError, and OSError where the file cannot be written."""
        before = self._clock.unadjusted()
        theirs = await store.replicas.now()
        self.heard(before, theirs, self._clock.unadjusted())

    def heard(self, before: float, theirs: float, after: float) -> None:
        """The database said the time between two moments of this host's own clock. Raises OSError."""
        doubt_s = (after - before) / 2
        if doubt_s <= _MOST_DOUBT_S:
            self._adopt(before + doubt_s - theirs, doubt_s)

    def _adopt(self, ahead_s: float, doubt_s: float) -> None:
        tolerance_s = max(_TOLERANCE_S, 2 * doubt_s)
        if abs(ahead_s) <= tolerance_s:
            ahead_s = 0.0
        if abs(ahead_s - self._clock.ahead_s) <= tolerance_s:
            return
        self._clock.ahead_s = ahead_s
        _log.warning("this host's clock differs from the database's by %+.1f s; the database's time is used", ahead_s)
        replace_private(self._path, orjson.dumps({"ahead_s": ahead_s}))

    def forget(self) -> None:
        """There is no other clock to agree with any more. Raises OSError."""
        self._clock.ahead_s = 0.0
        self._path.unlink(missing_ok=True)


def follow_time(path: Path, clock: AdjustedClock) -> None:
    """Set `clock` by what the file says; one that is not there, or is damaged, changes nothing."""
    try:
        clock.ahead_s = float(orjson.loads(path.read_bytes())["ahead_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return
