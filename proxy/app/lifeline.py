"""When a child is to end: SIGTERM, or the end of the supervisor's pipe, whichever comes first."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

__all__ = ["Told"]

_log = logging.getLogger(__name__)


class Told:
    """Listens for the end. Make it in the running event loop.

    SIGINT is ignored: Ctrl-C reaches the whole group, and the order of the shutdown is the supervisor's. The
    supervisor starts children with their signals blocked; one that came meanwhile is delivered here.
    """

    def __init__(self, lifeline: int) -> None:
        """`lifeline` is the descriptor from `receive_inheritance`."""
        self.stop = asyncio.Event()
        """Set when it is time to end."""
        self.orphaned = False
        """True where the supervisor is gone, so that the other children are only now ending, too."""
        self._lifeline = lifeline
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._loop.add_reader(lifeline, self._heard)

    def _heard(self) -> None:
        if os.read(self._lifeline, 1):
            return
        self._loop.remove_reader(self._lifeline)
        self.orphaned = True
        if not self.stop.is_set():
            _log.warning("the supervisor is gone: finishing")
            self.stop.set()
