"""After `101 Switching Protocols`: bytes both ways until either side ends (WebSocket and whatever else upgrades)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

__all__ = ["Tunnel"]


class Tunnel:
    """Two transports joined, with back-pressure. A half-close passes through; losing one side ends both.

    The tunnel takes the transports over from the protocols that spoke HTTP on them; those hear `connection_lost`
    in the end, after `on_end(error, by_client)` was called, once.
    """

    __slots__ = ("_ends", "_on_end", "received", "sent")

    def __init__(
        self,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        on_end: Callable[[Exception | None, bool], None],
    ) -> None:
        self.sent = 0
        """Bytes from the client."""
        self.received = 0
        """Bytes from the upstream."""
        self._on_end: Callable[[Exception | None, bool], None] | None = on_end
        self._ends = (_End(self, client, upstream, by_client=True), _End(self, upstream, client, by_client=False))
        for end in self._ends:
            end.transport.set_protocol(end)
            end.transport.resume_reading()

    def feed(self, from_client: bytes, from_upstream: bytes) -> None:
        """Bytes that arrived behind the handshake, before there was a tunnel."""
        for end, data in zip(self._ends, (from_client, from_upstream), strict=True):
            if data:
                end.data_received(data)

    @property
    def ended(self) -> bool:
        """Whether neither side sends any more."""
        return all(end.ended for end in self._ends)

    def lost(self, error: Exception | None, by_client: bool) -> None:
        """One side is gone: report it once."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error, by_client)


class _End(asyncio.Protocol):
    """What is heard on one transport goes to the other."""

    def __init__(self, tunnel: Tunnel, own: asyncio.Transport, other: asyncio.Transport, *, by_client: bool) -> None:
        self._tunnel = tunnel
        self._other = other
        self._by_client = by_client
        self._before = cast(asyncio.Protocol, own.get_protocol())
        self.ended = False
        self.transport = own

    def data_received(self, data: bytes) -> None:
        if self._by_client:
            self._tunnel.sent += len(data)
        else:
            self._tunnel.received += len(data)
        if not self._other.is_closing():
            self._other.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self._tunnel.ended or self._other.is_closing() or not self._other.can_write_eof():
            return False
        self._other.write_eof()
        return True

    def pause_writing(self) -> None:
        if not self._other.is_closing():
            self._other.pause_reading()

    def resume_writing(self) -> None:
        if not self._other.is_closing():
            self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._other.close()
        self._tunnel.lost(exc, self._by_client)
        self._before.connection_lost(exc)
