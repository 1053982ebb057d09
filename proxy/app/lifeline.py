"""When a child is to end: SIGTERM, or the end of the supervisor's pipe, whichever comes first.

A thread waits for the end of the pipe, so that it is heard although the event loop hangs; from then on nobody is left
who would kill a child that does not end, so it has the kernel do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading

__all__ = ["Told"]

_log = logging.getLogger(__name__)


class Told:
    """Listens for the end. Make it in the running event loop.

    SIGINT is ignored: Ctrl-C reaches the whole group, and the order of the shutdown is the supervisor's. The
    supervisor starts children with their signals blocked; one that came meanwhile is delivered here.
    """

    def __init__(self, lifeline: int, *, orphan_s: float | None = None) -> None:
        """`lifeline` is the descriptor from `receive_inheritance`.

        `orphan_s`: seconds after the supervisor's end at which the process is ended, whatever it is doing then.
        """
        self.stop = asyncio.Event()
        """Set when it is time to end."""
        self.orphaned = False
        """True where the supervisor is gone, so that the other children are only now ending, too."""
        self._orphan_s = orphan_s
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        threading.Thread(target=self._listen, args=(lifeline,), name="lifeline", daemon=True).start()

    def _listen(self, lifeline: int) -> None:
        """In a thread of its own: wait for the end of the pipe, into which nobody writes."""
        while os.read(lifeline, 1):
            pass
        if self._orphan_s is not None:
            signal.setitimer(signal.ITIMER_REAL, self._orphan_s)  # SIGALRM, which nobody handles, ends the process
        with contextlib.suppress(RuntimeError):  # the event loop may have ended by now
            self._loop.call_soon_threadsafe(self._heard)

    def _heard(self) -> None:
        self.orphaned = True
        if not self.stop.is_set():
            _log.warning("the supervisor is gone: finishing")
            self.stop.set()
