"""The gateway of one worker: what its connections share, and its beginning and end.

`Gateway(...).protocol_factory` goes to `loop.create_server`; `drain` waits for what is open, `close` ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.clock import Clock, SystemClock
from proxy.config.authorities import trusting
from proxy.config.model import Config
from proxy.gateway.address import Address
from proxy.gateway.backend import Router
from proxy.gateway.client import ClientConnection
from proxy.gateway.context import worker_context
from proxy.gateway.deadlines import Deadlines
from proxy.gateway.pool import UpstreamPool
from proxy.gateway.ports import CredentialOf, GatewayCounters, MintsIds, RecordSpool, Redacts
from proxy.gateway.registry import ClientRegistry
from proxy.gateway.shadow import Shadow
from proxy.routes import RouteTable

__all__ = ["Gateway"]

_SWEEPS: Final = 8
_SHORTEST_SWEEP_S: Final = 0.01
_LONGEST_SWEEP_S: Final = 0.5


class Gateway:
    """Forwards requests, and hands a frame per exchange to the spool."""

    def __init__(
        self,
        config: Config,
        *,
        routes: Callable[[], RouteTable],
        spool: RecordSpool,
        ids: MintsIds,
        user_hash: Callable[[bytes], int],
        counters: GatewayCounters,
        side_socket: Path | None = None,
        redact: Redacts | None = None,
        admin_token: str | None = None,
        credentials: CredentialOf | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`credentials` has the headers that let us in at models' servers; None: only the configured champion's.
        `routes` returns the current table, the same object until it changes. `side_socket` is where `/-/` is served.

        Raises ValueError where the first table cannot be followed, or `champion.ca_file` not be used.
        """
        clock = clock or SystemClock()
        deadlines = self._deadlines = Deadlines(clock, _sweep_s(config))
        tls = trusting(config.champion.ca_file)

        def make_pool(address: Address) -> UpstreamPool:
            return UpstreamPool(address, config.gateway, clock=clock, deadlines=deadlines, counters=counters, tls=tls)

        def make_shadow(router: Router) -> Shadow:
            return Shadow(
                config,
                make_pool=lambda address: UpstreamPool(
                    address, config.gateway, clock=clock, deadlines=deadlines, counters=_Uncounted(), tls=tls
                ),
                backend=router.for_copies,
                user_hash=user_hash,
                spool=spool,
                redact=redact,
                deadlines=deadlines,
                now=clock.now,
                monotonic=clock.monotonic,
                count=counters.add,
            )

        self._context = context = worker_context(
            config,
            routes=routes,
            spool=spool,
            ids=ids,
            user_hash=user_hash,
            counters=counters,
            make_pool=make_pool,
            clock=clock,
            side_socket=side_socket,
            redact=redact,
            admin_token=admin_token,
            credentials=credentials,
            make_shadow=make_shadow,
        )
        self.budget = context.budget
        self.router = context.router
        self.user_hash = user_hash
        self.shadow = context.shadow
        self._clients = ClientRegistry(config.gateway.max_connections, deadlines, counters.add, context.shutdown)

    def protocol_factory(self) -> ClientConnection:
        """For `loop.create_server`."""
        return ClientConnection(self._context, self._clients)

    @property
    def open_requests(self) -> int:
        """Requests whose answer is not complete, tunnels included."""
        return self._clients.busy

    async def drain(self, timeout_s: float) -> bool:
        """Let open requests finish for at most `timeout_s` seconds, then cut them; True if none was cut. Copies of
        requests, which nobody waits for, end at once."""
        await self._close_shadow()
        return await self._clients.drain(timeout_s)

    async def close(self) -> None:
        """End everything at once, within about two seconds: what does not end by then is left to the process's end."""
        await self._clients.cut()
        await self._close_shadow()
        internal = self._context.internal
        pools = [*self.router.pools, *([internal.pool] if internal is not None else [])]
        await asyncio.gather(*(pool.close() for pool in pools))
        self._deadlines.close()

    async def _close_shadow(self) -> None:
        if self._context.shadow is not None:
            await self._context.shadow.close()


class _Uncounted:
    """Counters for connections that are no part of the traffic."""

    def add(self, name: str, amount: float = 1.0) -> None:
        """Count nothing: copies have counters of their own."""


def _sweep_s(config: Config) -> float:
    """Time-outs are checked several times within the shortest of them."""
    gateway = config.gateway
    shortest = min(
        gateway.first_byte_timeout_seconds,
        gateway.idle_timeout_seconds,
        gateway.head_timeout_seconds,
        gateway.body_idle_seconds,
        gateway.client_idle_seconds,
        gateway.upstream_idle_seconds,
        gateway.shadow_timeout_seconds,
    )
    return min(_LONGEST_SWEEP_S, max(_SHORTEST_SWEEP_S, shortest / _SWEEPS))
