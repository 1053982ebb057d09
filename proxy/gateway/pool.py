"""Connections to one model's server, kept alive between exchanges: opened here, kept here, closed here.

Who needs one takes an idle one, or asks for a new one and is told; nobody waits. A connection counts from the moment
at which it is handed over. Until then its dialling owns it, and whatever ends that (a client that leaves, a time-out)
closes it: the event loop does not always tell a protocol of the end of a connection whose dialling was cancelled just
when it was made, and one that had been counted by then would be counted for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Sequence, Set
from typing import Final

from proxy.clock import Clock
from proxy.config.serving import GatewayConfig
from proxy.gateway.address import Address
from proxy.gateway.deadlines import Deadlines
from proxy.gateway.lookup import Lookup
from proxy.gateway.ports import GatewayCounters, Pool, Receiver
from proxy.gateway.upstream import Keeper, UpstreamConnection
from proxy.tasks import cancel_and_wait, spawn

__all__ = ["UpstreamPool"]

_CLOSE_S: Final = 1.0
"""Longest wait for connections to say that they are closed."""
_log = logging.getLogger(__name__)


class UpstreamPool(Pool, Keeper):
    """Connections to one address. The one used last is used next, so that spare ones can age and close."""

    def __init__(
        self,
        address: Address,
        config: GatewayConfig,
        *,
        clock: Clock,
        deadlines: Deadlines,
        counters: GatewayCounters,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is for an https address; None: the system's authorities are trusted."""
        self.address = address
        self.config = config
        self.monotonic = clock.monotonic
        self._lookup = Lookup(address.host, address.port, clock.monotonic)
        self.deadlines = deadlines
        self.counters = counters
        self.idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = (tls or ssl.create_default_context()) if address.tls else None
        if self._tls is not None:
            self._tls.set_alpn_protocols(["http/1.1"])
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def open(self) -> Set[UpstreamConnection]:
        """See Pool."""
        return self._open

    def take(self) -> UpstreamConnection | None:
        """An idle connection, if there is one; the caller begins an exchange on it at once."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def dial(self, receiver: Receiver) -> asyncio.Task[None]:
        """Open a connection for `receiver`, which is told the result. Cancel the task to lose interest."""
        task = spawn(self._dial(receiver), name=f"connect {self.address}")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        return task

    def put_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request, or close it where there are enough."""
        if self._closed or len(self.idle) >= self.config.upstream_keepalive:
            connection.close()
            return
        connection.deadline = connection.heard_at + self.config.upstream_idle_seconds
        self.idle.append(connection)

    def retire(self) -> None:
        """No new requests come: close what is idle now and what is busy when it is done."""
        self._closed = True
        while self.idle:
            self.idle.pop().close()

    async def close(self) -> None:
        """Close everything; who does not confirm it within a second is not waited for."""
        self.retire()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await cancel_and_wait(list(self._dialling))
                for connection in list(self._open):
                    connection.close()
                await self._empty.wait()
        except TimeoutError:
            if not (self._open or self._dialling):
                return
            left = len(self._open) + len(self._dialling)
            _log.error("%d connections to %s were still open at the end", left, self.address)

    def _register(self, connection: UpstreamConnection) -> None:
        """Count a new connection in."""
        self._open.add(connection)
        self._empty.clear()
        self.counters.add("upstream_connections")
        self.deadlines.watch(connection)

    def unregister(self, connection: UpstreamConnection) -> None:
        """Count a connection out, if it was counted in."""
        if connection not in self._open:
            return
        self.deadlines.forget(connection)
        self._open.remove(connection)
        self.counters.add("upstream_connections", -1.0)
        if connection in self.idle:
            self.idle.remove(connection)
        if not self._open:
            self._empty.set()

    async def _dial(self, receiver: Receiver) -> None:
        connection, began = UpstreamConnection(self), self.monotonic()
        try:
            try:
                async with asyncio.timeout(self.config.connect_timeout_seconds):
                    await self._connect(connection)
            except TimeoutError as exc:
                raise self._too_late() from exc
            connection.check()
        except (OSError, ValueError, RuntimeError) as exc:  # ValueError: no name of a host; RuntimeError: uvloop's own
            connection.close()
            self.counters.add("upstream_connect_errors_total")
            receiver.connect_failed(exc)
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            connection.dialled_s = self.monotonic() - began
            self._register(connection)
            receiver.connected(connection)

    def _too_late(self) -> OSError:
        """What took too long, in words: the name server, or the host itself."""
        within = f"within {self.config.connect_timeout_seconds:g} s"
        if self._lookup.unknown:
            return socket.gaierror(socket.EAI_AGAIN, f"{self.address.host} could not be resolved {within}")
        return TimeoutError(f"no connection {within}")

    async def _connect(self, connection: UpstreamConnection) -> None:
        if self.address.path is not None:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, str(self.address.path))
            return
        known = await self._lookup.addresses()
        try:
            await self._connect_to(known, connection)
        except ssl.SSLError:
            raise
        except OSError:
            if not self._lookup.doubt() or (now := await self._lookup.addresses()) == known:
                raise
            await self._connect_to(now, connection)  # it has moved

    async def _connect_to(self, hosts: Sequence[str], connection: UpstreamConnection) -> None:
        """The first of `hosts` (IP addresses, at least one) that takes a connection. Raises what the last one did."""
        *others, last = hosts
        for host in others:
            try:
                await self._connect_one(host, connection)
            except ssl.SSLError:
                raise
            except OSError:
                continue
            return
        await self._connect_one(last, connection)

    async def _connect_one(self, host: str, connection: UpstreamConnection) -> None:
        name = self.address.host if self._tls else None
        await asyncio.get_running_loop().create_connection(
            lambda: connection, host, self.address.port, ssl=self._tls, server_hostname=name
        )
