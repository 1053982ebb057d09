"""One controller at a time in a directory: the next begins when the one before has stored what it had."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from proxy.app.orphans import end_stuck_controller
from proxy.app.store_keeper import pause
from proxy.clock import Clock

__all__ = ["ControllerLock"]

_LOOK_S: Final = 0.1


class ControllerLock:
    """The lock of one data directory; the kernel releases it with the process."""

    def __init__(self, lock: Path, supervisor: int, clock: Clock) -> None:
        """`lock`: its file; `supervisor`: the process id of ours."""
        self._lock = lock
        self._supervisor = supervisor
        self._clock = clock

    async def take(
        self,
        stop: asyncio.Event,
        stack: AsyncExitStack,
        *,
        overdue_s: float,
        waits: Callable[[str], None],
        fails: Callable[[str], None],
    ) -> bool:
        """Wait for it, and hold it until `stack` ends; False when told to stop first. A controller of an earlier
        supervisor that has not ended after `overdue_s` is ended; `waits` is told what this waits for, and
        `fails` what has to be mended first."""
        descriptor = -1
        overdue_at = self._clock.monotonic() + overdue_s
        while True:
            try:
                if descriptor < 0:
                    descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
                    stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waits("an earlier controller is still finishing")
                end_stuck_controller(self._lock, self._supervisor, overdue=self._clock.monotonic() >= overdue_at)
            except OSError as exc:
                fails(f"the data directory cannot be written: {exc}")
            else:
                return True
            if stop.is_set():
                return False
            await pause(stop, _LOOK_S)
