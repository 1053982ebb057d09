"""Addresses of a model's host, looked up by a thread of that host's own.

The event loop's own look-ups share a few threads: a challenger whose name server does not answer would hold all of
them for half a minute each, and the champion's would wait behind. Here a host has one look-up at a time, however many
requests wait for it, and no other host waits for any of them. What was found is good for some seconds; while a name
server is slow or gone, connections go to the addresses that were found last.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

__all__ = ["Lookup"]

_FRESH_S: Final = 10.0
_PATIENCE_S: Final = 0.5
"""So long a connection waits for a look-up whose last result it could use as well."""
_DOUBTED_AFTER_S: Final = 1.0


class Lookup:
    """One host's addresses. For one event loop."""

    def __init__(self, host: str, port: int, monotonic: Callable[[], float]) -> None:
        self._host, self._port = host, port
        self._monotonic = monotonic
        self._literal = _is_literal(host)
        self._found: tuple[str, ...] = ()
        self._found_at = self._began_at = -inf
        self._running: asyncio.Future[tuple[str, ...]] | None = None

    @property
    def unknown(self) -> bool:
        """Whether no address was ever found."""
        return not self._literal and not self._found

    async def addresses(self) -> Sequence[str]:
        """Where the host is, as IP addresses in the resolver's order. Raises OSError (socket.gaierror), ValueError for
        what is no name, RuntimeError where no thread can be had."""
        if self._literal:
            return (self._host,)
        if self._found and self._monotonic() - self._found_at < _FRESH_S:
            return self._found
        running = self._running or self._begin()
        if self._found:
            await asyncio.wait([running], timeout=max(0.0, self._began_at + _PATIENCE_S - self._monotonic()))
            if not running.done() or running.exception() is not None:
                return self._found
        return await asyncio.shield(running)

    def doubt(self) -> bool:
        """Nobody could be reached there: the next call looks again. False where it has only just been looked up."""
        if self._literal or self._monotonic() - self._found_at < _DOUBTED_AFTER_S:
            return False
        self._found_at = -inf
        return True

    def _begin(self) -> asyncio.Future[tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        running: asyncio.Future[tuple[str, ...]] = loop.create_future()
        # a daemon: one that hangs keeps no process from its end, as those of an executor would
        threading.Thread(target=self._look, args=(loop, running), name=f"look up {self._host}", daemon=True).start()
        self._running, self._began_at = running, self._monotonic()
        running.add_done_callback(self._ended)
        return running

    def _look(self, loop: asyncio.AbstractEventLoop, running: asyncio.Future[tuple[str, ...]]) -> None:
        """In the thread."""
        found: tuple[str, ...] = ()
        error: Exception | None = None
        try:
            infos = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
        except (OSError, ValueError) as exc:  # UnicodeError is a ValueError
            error = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, running, found, error)

    def _ended(self, running: asyncio.Future[tuple[str, ...]]) -> None:
        self._running = None
        if not running.cancelled() and running.exception() is None:
            self._found, self._found_at = running.result(), self._monotonic()


def _settle(running: asyncio.Future[tuple[str, ...]], found: tuple[str, ...], error: Exception | None) -> None:
    if running.done():
        return
    if error is not None:
        running.set_exception(error)
    else:
        running.set_result(found)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
