"""When a child is to end: SIGTERM, or the end of the supervisor's pipe, whichever comes first.

A thread waits for the end of the pipe, so that it is heard although the event loop hangs. Then two things must not
depend on that loop. The port has to be free for the next server at once: the loop is asked to close its listener, and
whatever it does, the socket is shut down a moment later, which ends the listening for every process that still has
it. And the process has to end: nobody is left who would kill it, so it has the kernel do that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["ShutdownSignal"]

_CLOSE_S: Final = 0.1
"""For the event loop to close its listener in good order, once the supervisor is gone."""

_log = logging.getLogger(__name__)


class ShutdownSignal:
    """Listens for the end. Make it in the running event loop.

    SIGINT is ignored: Ctrl-C reaches the whole group, and the order of the shutdown is the supervisor's. The
    supervisor starts children with their signals blocked; one that came meanwhile is delivered here.
    """

    def __init__(self, parent_pipe: int, *, orphan_s: float) -> None:
        """`parent_pipe` is the descriptor from `receive_inheritance`.

        `orphan_s`: seconds after the supervisor's end at which the process is ended, whatever it is doing then.
        """
        self.stop = asyncio.Event()
        """Set when it is time to end."""
        self.orphaned = False
        """True where the supervisor is gone, so that the other children are only now ending, too."""
        self._orphan_s = orphan_s
        self._lock = threading.Lock()
        self._ending = False
        self._listeners: list[socket.socket] = []
        """Descriptors of our own, so that no other file can have taken their numbers."""
        self._closers: list[Callable[[], None]] = []
        self._closed = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTERM, self._asked)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        threading.Thread(target=self._listen, args=(parent_pipe,), name="parent_pipe", daemon=True).start()

    def guard(self, listener: socket.socket, close: Callable[[], None]) -> None:
        """Have `listener`, on which this process accepts, free its port at once when the supervisor is gone.

        `close` is called in the event loop then, to end it in good order. From SIGTERM on it is the caller's alone.
        """
        with self._lock:
            self._closers.append(close)
            if not self._ending:
                self._listeners.append(socket.socket(fileno=os.dup(listener.fileno())))
        if self.orphaned:
            close()

    def _listen(self, parent_pipe: int) -> None:
        """In a thread of its own: wait for the end of the pipe, into which nobody writes."""
        while os.read(parent_pipe, 1):
            pass
        signal.setitimer(signal.ITIMER_REAL, self._orphan_s)  # SIGALRM, which nobody handles, ends the process
        with contextlib.suppress(RuntimeError):  # the event loop may have ended by now
            self._loop.call_soon_threadsafe(self._heard)
        self._closed.wait(_CLOSE_S)
        for listener in self._let_go():
            with contextlib.suppress(OSError):  # another process was first
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _let_go(self) -> list[socket.socket]:
        with self._lock:
            self._ending = True
            listeners, self._listeners = self._listeners, []
        return listeners

    def _asked(self) -> None:
        for listener in self._let_go():
            listener.close()
        self.stop.set()

    def _heard(self) -> None:
        self.orphaned = True
        for close in self._closers:
            close()
        self._closed.set()
        if not self.stop.is_set():
            _log.warning("the supervisor is gone: shutting down")
            self.stop.set()
