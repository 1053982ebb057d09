"""The edges of an exchange: the client's side, the model's side, and what the rest of a worker does for the gateway.

An exchange calls `ClientSide`, `Pool` and `UpstreamSide`; what it is called by are its own methods, of which `Receiver`
is the model's part. The real ones are connections of the event loop, those of the conversation test only take notes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeAlias

from proxy.gateway.address import Address
from proxy.gateway.head import ResponseHead
from proxy.gateway.head_cache import KnownResponse
from proxy.gateway.outbound import Peer
from proxy.gateway.trust import Network

__all__ = ["ClientSide", "CredentialOf", "Dialling", "GatewayCounters", "MakesPools", "Minted", "MintsIds", "Pool",
           "Receiver", "RecordSpool", "Redacts", "TunnelEnd", "UpstreamSide"]  # fmt: skip


CredentialOf: TypeAlias = Callable[[str, str], tuple[str, str] | None]
"""(name, URL) → name and value of the header that lets us in there, None: none is needed. Raises
`proxy.credentials.UnknownCredentialError`."""


class GatewayCounters(Protocol):
    """Slots that only this process adds to."""

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of `proxy.gateway.counters.GATEWAY_COUNTERS`."""
        ...


class RecordSpool(Protocol):
    """Where frames go. Neither method waits for a disk."""

    @property
    def full(self) -> bool:
        """Whether a frame would be dropped."""
        ...

    def append(self, frame: bytes) -> bool:
        """Take one frame; False where it was dropped (and counted there)."""
        ...


class Minted(Protocol):
    """A new record's id."""

    @property
    def uuid(self) -> bytes:
        """The UUID, 16 bytes."""
        ...

    @property
    def token(self) -> bytes:
        """What the client sees: signed, 36 ASCII characters."""
        ...


class MintsIds(Protocol):
    """Makes record ids."""

    def mint(self, now_s: float) -> Minted:
        """A new id for a request that arrived at `now_s` (Unix seconds)."""
        ...


class Redacts(Protocol):
    """Cleans captured copies before they are written down: proxy.cleaning.Cleaner."""

    def exchange(
        self,
        meta: dict[str, Any],
        request: bytes,
        response: bytes,
        keep: Callable[[dict[str, Any], bytes, bytes], None],
    ) -> None:
        """Clean an exchange without waiting; `keep` gets the clean facts and bodies, now or later."""
        ...


TunnelEnd = Callable[[int, int, Exception | None, bool], None]
"""Hears of the end of a tunnel: bytes from the client and from the model, the error, whether the client went first."""


class ClientSide(Protocol):
    """The client's connection, as an exchange sees it: proxy.gateway.client.ClientConnection."""

    @property
    def peer(self) -> Peer:
        """Who is on the other end."""
        ...

    @property
    def network(self) -> Network:
        """Where the connection comes from."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes of the answer; a connection that is closing takes none, and soon says so."""
        ...

    def backpressure(self, paused: bool) -> None:
        """Stop or go on reading the request's body, as the model's server is slow or ready."""
        ...

    def exchange_done(self, keep_alive: bool) -> None:
        """The answer is written. Go on with the next request, or close."""
        ...

    def abort(self, unsent: bytes, error: Exception | None) -> None:
        """The answer broke off: send `unsent` and end the connection without an end of the message."""
        ...

    def tunnel_to(self, upstream: UpstreamSide, data: bytes, on_end: TunnelEnd) -> None:
        """No longer HTTP: bytes go both ways from now on, those from the model beginning with `data`."""
        ...


class UpstreamSide(Protocol):
    """A connection to a model's server, as an exchange sees it: proxy.gateway.upstream.UpstreamConnection."""

    heard_at: float
    """When bytes of the response came last, monotonic seconds."""
    answered: bool
    """Whether any byte of the response has come."""
    used: bool
    """Whether an earlier exchange was served: the server may have closed it just now (a stale connection)."""
    written: bool
    """Whether any byte of the request was sent."""
    dialled_s: float
    """Seconds that it took to be made: a round trip, or a few."""

    def begin(self, receiver: Receiver, method: bytes) -> None:
        """Serve `receiver` from here on; `method` is its request's."""
        ...

    def send(self, data: bytes, *, last: bool) -> None:
        """Send bytes of the request, after the `last` of which the answer is due."""
        ...

    def await_answer(self) -> None:
        """The request is sent: the first byte of the answer is due, if it has not begun."""
        ...

    def backpressure(self, paused: bool) -> None:
        """Stop or go on reading the response, as its reader is slow or ready."""
        ...

    def release(self, *, reusable: bool) -> None:
        """The exchange is over, and hears no more: keep the connection for another one if it can be, else close it."""
        ...

    def detach(self) -> asyncio.Transport:
        """The bytes go through a tunnel now, which takes over the transport."""
        ...


class Dialling(Protocol):
    """A connection that is being made."""

    def cancel(self) -> object:
        """Nobody wants it any more; the receiver is told nothing."""
        ...


class Pool(Protocol):
    """Connections to one model's server: proxy.gateway.pool.UpstreamPool."""

    address: Address

    @property
    def open(self) -> Collection[object]:
        """Connections that have not ended."""
        ...

    def take(self) -> UpstreamSide | None:
        """An idle connection, if there is one; the caller begins an exchange on it at once."""
        ...

    def dial(self, receiver: Receiver) -> Dialling:
        """Open a connection for `receiver`, which is told the result, never before this returns."""
        ...

    def retire(self) -> None:
        """No new requests come: close what is idle now and what is busy when it is done."""
        ...

    async def close(self) -> None:
        """Close everything, within about a second."""
        ...


MakesPools: TypeAlias = Callable[[Address], Pool]
"""Makes the connections to a server."""


class Receiver(Protocol):
    """Who sent a request upstream, and hears what becomes of it: an exchange."""

    __slots__ = ()

    def connected(self, connection: UpstreamSide) -> None:
        """A connection asked for with `Pool.dial` is there."""
        ...

    def connect_failed(self, error: Exception) -> None:
        """It is not: OSError (TLS and DNS included) or TimeoutError."""
        ...

    def informational(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""
        ...

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """101: what follows, beginning with `data`, is no longer HTTP."""
        ...

    def responded(self, response: KnownResponse, length: int | None) -> None:
        """The head of the final response, and the length of its body, if that is known."""
        ...

    def relay(self, wire: bytes, payload: bytes, done: bool) -> None:
        """Bytes of the response's body as they came, and without chunking; `done` with the last of them."""
        ...

    def upstream_lost(self, error: Exception | None) -> None:
        """The connection ended, or stopped making sense, before the response was whole."""
        ...

    def upstream_timed_out(self) -> None:
        """The connection's deadline passed."""
        ...

    def upstream_blocked(self, blocked: bool) -> None:
        """The connection takes no more bytes for now, or takes them again."""
        ...
