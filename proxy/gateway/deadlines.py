"""Time-outs for thousands of connections without a timer for each.

Every connection carries its own `deadline`; one timer sweeps over all of them a few times a second. Setting or
moving a deadline is an attribute assignment, which is what the hot path can afford. A time-out fires at most
one sweep late.
"""

from __future__ import annotations

import asyncio
import socket
from math import inf
from typing import Final, Protocol

from proxy.clock import Clock

__all__ = ["NEVER", "Deadlines", "Watched", "probe_when_silent"]

NEVER = inf
_PROBES: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""TCP's own: seconds of silence before the first probe, seconds between probes, how many stay unanswered."""


def probe_when_silent(transport: asyncio.BaseTransport) -> None:
    """Have the kernel look after a peer that is silent: gone with its power or network, it says no goodbye.

    A model would go on generating for it, a tunnel stay open for ever; and whatever tracks connections in between
    forgets one that is silent for minutes, as it is while a model thinks.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES.items():
        if hasattr(socket, name):  # not everywhere
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Watched(Protocol):
    """Something that may take too long."""

    deadline: float

    def expire(self) -> None:
        """Called once the monotonic time is past `deadline`; moves the deadline or ends the thing."""
        ...


class Deadlines:
    """The watched connections of one worker."""

    def __init__(self, clock: Clock, sweep_s: float) -> None:
        self._clock = clock
        self._sweep_s = sweep_s
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, thing: Watched) -> None:
        """Sweep over `thing` from now on."""
        self._watched.add(thing)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)

    def forget(self, thing: Watched) -> None:
        """Stop watching `thing`."""
        self._watched.discard(thing)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        self._timer = None
        if self._watched:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_s, self._sweep)
        for thing in [thing for thing in self._watched if thing.deadline <= now]:
            thing.expire()
