"""Works through items, a few at a time, and knows a server that is away from one that answers badly.

An item that could not be done for no fault of its own is tried again later. When several in a row could not, nothing
new begins for a while; when that lasts too long, the work ends with the reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["Away", "CheckPool"]

_TRIES: Final = 3
"""Of an item, while others can be done."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Away:
    """An item could not be done, and that is nobody's answer."""

    reason: str
    for_good: bool = False
    """Trying again is of no use."""


Do = Callable[[str, bool], Awaitable[Away | None]]
"""Does an item; with True it is the last time, and whatever comes of it counts."""


class CheckPool:
    """A few items at a time."""

    def __init__(self, clock: Clock, *, size: int, patience_s: float) -> None:
        """`patience_s`: how long everything may be away before that ends the work."""
        self._clock = clock
        self._size = size
        self._patience_s = patience_s
        self.waiting = ""
        """Why nothing goes on just now; empty while something does."""
        self._opened = asyncio.Event()
        self._opened.set()

    def pause(self, paused: bool) -> None:
        """Whether nothing new begins; what has begun goes on to its end."""
        if paused:
            self._opened.clear()
        else:
            self._opened.set()

    async def opened(self) -> None:
        """Wait for the end of a pause."""
        await self._opened.wait()

    async def work(
        self, items: Iterable[str], do: Do, *, over: Callable[[], bool], may_begin: Callable[[str], bool] | None = None
    ) -> Away | None:
        """Do all items, in order; end early when `over`. Returns what has ended it, where that was no answer.

        `may_begin` holds an item back until others are done. What `do` raises ends the work, too.
        """
        queue, tries = deque(items), Counter[str]()
        running: dict[asyncio.Task[Away | None], str] = {}
        in_row, pause_s, away_since = 0, _FIRST_PAUSE_S, 0.0
        try:
            while (queue or running) and not over():
                while queue and self._opened.is_set() and len(running) < self._size and in_row < self._size:
                    if running and may_begin is not None and not may_begin(queue[0]):
                        break
                    item = queue.popleft()
                    last = tries[item] >= _TRIES - 1 and in_row == 0
                    running[spawn(_as_coroutine(do(item, last)), name=f"check of {item}")] = item
                if not running and not self._opened.is_set():
                    await self.opened()
                    in_row, pause_s, self.waiting = 0, _FIRST_PAUSE_S, ""  # who was away then may be back
                    continue
                if not running:
                    await asyncio.sleep(pause_s)
                    in_row, pause_s = self._size - 1, min(2 * pause_s, _LONGEST_PAUSE_S)
                    continue
                done, _ = await asyncio.wait(running, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    item = running.pop(task)
                    away = task.result()
                    if away is None:
                        in_row, pause_s, self.waiting = 0, _FIRST_PAUSE_S, ""
                        continue
                    now = self._clock.monotonic()
                    away_since = now if in_row == 0 and not self.waiting else away_since
                    in_row, self.waiting = in_row + 1, away.reason
                    tries[item] += 1
                    queue.append(item)
                    if away.for_good or (in_row >= self._size and now - away_since >= self._patience_s):
                        return away
            return None
        finally:
            await cancel_and_wait(running)


async def _as_coroutine(work: Awaitable[Away | None]) -> Away | None:
    return await work
