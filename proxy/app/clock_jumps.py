"""Counts how often somebody set this host's clock: what was dated in between is dated wrong, and people may wonder why.

By wall time against monotonic time, four times a second, so that a clock that is wrong for a moment is seen, too. What
follows the database's clock is not counted: that is how it should be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal

from proxy.clock import Clock, JumpWatch, SystemClock
from proxy.log_throttle import ThrottledLog

__all__ = ["Direction", "watch_clock"]

Direction = Literal["forward", "back"]
_EVERY_S: Final = 0.25

_log = logging.getLogger(__name__)


async def watch_clock(count: Callable[[Direction], None], clock: Clock | None = None) -> None:
    """Look until cancelled; `count` is called for each jump of more than a second."""
    clock = clock or SystemClock()
    watch, said = JumpWatch(clock), ThrottledLog(_log, clock)
    while True:
        await asyncio.sleep(_EVERY_S)
        if jumped_s := watch.look():
            direction: Direction = "forward" if jumped_s > 0 else "back"
            count(direction)
            said.warning(direction, "this host's clock was set %s by %.1f s; records are dated by this clock",
                         direction, abs(jumped_s))  # fmt: skip
