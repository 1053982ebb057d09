"""The clients' connections of a worker: counted, admitted up to a limit, and ended with the worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from proxy.gateway.context import Shutdown
from proxy.gateway.deadlines import Deadlines, Watched

__all__ = ["ClientRegistry", "Registered"]

_CUT_S: Final = 1.0
"""Longest wait for clients' connections that were cut to say so."""
_log = logging.getLogger(__name__)


class Registered(Watched, Protocol):
    """A client's connection: proxy.gateway.client.ClientConnection."""

    transport: asyncio.Transport

    @property
    def is_busy(self) -> bool:
        """Whether an answer is not complete; true for a tunnel until it ends."""
        ...

    def admit(self) -> None:
        """There is room for this connection."""
        ...

    def linger_close(self) -> None:
        """Close it, in such a way that what was written arrives."""
        ...


class ClientRegistry:
    """Every connection registers when it is made, and unregisters when it has ended."""

    def __init__(
        self, most: int, deadlines: Deadlines, count: Callable[[str, float], None], shutdown: Shutdown
    ) -> None:
        """`most` connections are served at the same time; further ones wait, unread, for one of them to end."""
        self._most = most
        self._deadlines = deadlines
        self._count = count
        self._shutdown = shutdown
        self._clients: set[Registered] = set()
        self._waiting: dict[Registered, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __iter__(self) -> Iterator[Registered]:
        return iter(self._clients)

    @property
    def busy(self) -> int:
        """Connections with an answer that is not complete."""
        return sum(client.is_busy for client in self._clients)

    def register(self, client: Registered) -> bool:
        """Count a new connection in; False where it has to wait for another one to end."""
        if self._shutdown.cutting:  # accepted in the last moment
            client.transport.abort()
        self._clients.add(client)
        self._empty.clear()
        self._deadlines.watch(client)
        self._count("client_connections", 1.0)
        if len(self._clients) <= self._most:
            return True
        self._waiting[client] = None
        return False

    def unregister(self, client: Registered) -> None:
        """Count a connection out, and admit one that waits."""
        self._deadlines.forget(client)
        self._clients.discard(client)
        self._count("client_connections", -1.0)
        if client in self._waiting:
            del self._waiting[client]
        elif self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.admit()
        if not self._clients:
            self._empty.set()

    async def drain(self, timeout_s: float) -> bool:
        """Let open requests finish for at most `timeout_s` seconds, then cut them; True if none was cut."""
        self._shutdown.draining = True
        for client in [client for client in self._clients if not client.is_busy]:
            client.linger_close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            await self.cut()
            return False
        return True

    async def cut(self) -> None:
        """Break off what is open, once, and have it written down."""
        self._shutdown.draining = True
        if self._shutdown.cutting:
            return
        self._shutdown.cutting = True
        for client in list(self._clients):
            client.transport.abort()
        try:
            async with asyncio.timeout(_CUT_S):
                await self._empty.wait()
        except TimeoutError:
            if self._clients:
                _log.error("%d client connections were still open at the end", len(self._clients))
