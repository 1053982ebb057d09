"""The client leg: requests in, one after the other, answers out in their order.

A connection reads a head, makes an exchange of it and feeds it the body; what is pipelined behind waits in a
buffer until the answer has left. It refuses what is malformed, too large or too slow, each with its own status.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, cast

from proxy.gateway.context import WorkerContext
from proxy.gateway.deadlines import NEVER, probe_when_silent
from proxy.gateway.errors import RejectedError, answer
from proxy.gateway.exchange import Exchange
from proxy.gateway.framing import Body, ChunkedBody, FramingError, LengthBody
from proxy.gateway.head import has_bare_line_feed
from proxy.gateway.head_cache import CachedHead
from proxy.gateway.outbound import Peer, trailer_lines
from proxy.gateway.ports import ClientSide, TunnelEnd, UpstreamSide
from proxy.gateway.registry import ClientRegistry
from proxy.gateway.trust import Network
from proxy.gateway.tunnel import Tunnel

__all__ = ["ClientConnection"]

_MAX_PIPELINED: Final = 65536
_LINGER_S: Final = 5.0
_RESET: Final = struct.pack("ii", 1, 0)
_MESSAGES: Final = {
    408: "the request did not arrive within the time limit",
    414: "the request target is longer than gateway.max_head_bytes",
    431: "the request head is longer than gateway.max_head_bytes",
}


class ClientConnection(asyncio.Protocol, ClientSide):
    """One client's connection."""

    def __init__(self, context: WorkerContext, registry: ClientRegistry) -> None:
        self._context = context
        self._registry = registry
        self._buffer = bytearray()
        self._scanned = 0
        self._known: CachedHead | None = None
        self._body: Body | None = None
        self._paused = False
        self._blocked = False
        self._closing = False
        self._waiting = False
        self.exchange: Exchange | None = None
        self._network: Network | None = None
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.deadline = NEVER

    @property
    def peer(self) -> Peer:
        """Who is on the other end."""
        address = self.transport.get_extra_info("peername")
        host = address[0] if isinstance(address, tuple) else "unix"
        return Peer(str(host).encode("latin-1"), tls=self.transport.get_extra_info("sslcontext") is not None)

    @property
    def network(self) -> Network:
        """Where the connection comes from."""
        network = self._network
        if network is None:
            network = self._network = self._context.trust.network(self.peer.host)
        return network

    # -- called by the exchange

    def write(self, data: bytes) -> None:
        """Send bytes of the answer; a connection that is closing takes none, and soon says so."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def backpressure(self, paused: bool) -> None:
        """Stop or go on reading the body, as the model's server is slow or ready."""
        if paused is self._paused or self.transport.is_closing():
            return
        self._paused = paused
        if paused:
            self.transport.pause_reading()
            self.deadline = NEVER
        else:
            self.transport.resume_reading()
            self._expect_body()

    def exchange_done(self, keep_alive: bool) -> None:
        """The answer is written. Go on with the next request, or part."""
        self.exchange = None
        if not keep_alive or self._context.shutdown.draining:
            self.linger_close()
            return
        if self._paused:
            self.backpressure(False)
        if self._body is not None:  # answered early: the rest of the body is still to be swallowed
            self.deadline = self._now() + _LINGER_S
        else:
            self._ready()

    def abort(self, unsent: bytes, error: Exception | None) -> None:
        """The answer broke off: send what there is of it and end the connection without an end of the message.

        Where the model's connection was reset, so is the client's, unless bytes still wait to be sent.
        """
        self.exchange = None
        if unsent:
            self.write(unsent)
        if isinstance(error, ConnectionError) and not self.transport.get_write_buffer_size():
            sock = self.transport.get_extra_info("socket")
            if sock is not None and not self.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def tunnel_to(self, upstream: UpstreamSide, data: bytes, on_end: TunnelEnd) -> None:
        """See ClientSide. What had been read ahead goes through the tunnel, too."""
        self.deadline = NEVER
        tunnel = Tunnel(
            self.transport,
            upstream.detach(),
            lambda error, by_client: on_end(tunnel.sent, tunnel.received, error, by_client),
        )
        ahead = bytes(self._buffer)
        self._buffer.clear()
        tunnel.feed(ahead, data)

    # -- called by the registry

    @property
    def is_busy(self) -> bool:
        """See Registered."""
        return self.exchange is not None

    def linger_close(self) -> None:
        """Close, in such a way that what was written arrives: an unread byte would make the close a reset."""
        self._closing = True
        if self._body is None and not self._buffer:
            self._close()
            return
        self._buffer.clear()
        self.deadline = self._now() + _LINGER_S
        self.backpressure(False)
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def _close(self) -> None:
        """Close once everything is sent, or once the client has not read on for too long."""
        self.deadline = self._now() + self._context.gateway.idle_timeout_seconds
        self.transport.close()

    def admit(self) -> None:
        """There is room for this connection."""
        self._waiting = False
        self.backpressure(False)
        self._ready()

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        probe_when_silent(transport)
        self.deadline = self._now() + self._context.gateway.client_idle_seconds
        if not self._registry.register(self):
            self.deadline = NEVER
            self._waiting = True

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.client_lost()
        self._registry.unregister(self)

    def eof_received(self) -> None:
        """See asyncio.Protocol: a client that stops sending has gone, as for nginx and Go."""

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._blocked = True
        self.deadline = self._now() + self._context.gateway.idle_timeout_seconds
        if self.exchange is not None:
            self.exchange.client_blocked(True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._blocked = False
        if self.exchange is not None:
            self.exchange.client_blocked(False)
            self._expect_body()
        elif not self._closing and self._body is None:
            self._ready()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._closing:
            return
        try:
            if self._body is not None:
                self._take_body(self._body, data)
            elif self.exchange is None and not (self._blocked or self._waiting):
                self._take_head(data)
            else:
                self._buffer += data
                if self._waiting or len(self._buffer) > _MAX_PIPELINED:
                    self.backpressure(True)
        except RejectedError as exc:
            self._reject(exc)
        except FramingError as exc:
            self._reject(RejectedError(400, str(exc)))

    def expire(self) -> None:
        """See Watched."""
        if self._closing or self._blocked or self.transport.is_closing():
            self.transport.abort()
        elif self.exchange is not None or self._buffer:
            self._reject(RejectedError(408, _MESSAGES[408]))
        else:
            self._close()

    # -- reading requests

    def _now(self) -> float:
        return self._context.monotonic()

    def _expect_body(self) -> None:
        if self._body is None:
            self.deadline = NEVER
        else:
            self.deadline = self._now() + self._context.gateway.body_idle_seconds

    def _ready(self) -> None:
        """Wait for the next request, or take it from the buffer; where the answer is still leaving, later."""
        if self._blocked:
            return
        self.deadline = self._context.monotonic() + self._context.gateway.client_idle_seconds
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._take_pipelined)

    def _take_pipelined(self) -> None:
        """Unless bytes that came first in the same turn of the event loop have taken it along."""
        if self._buffer and self.exchange is None and not self._blocked and not self.transport.is_closing():
            data = bytes(self._buffer)
            self._buffer.clear()
            self.data_received(data)

    def _take_head(self, data: bytes) -> None:
        """Read a request head, and begin the exchange as soon as it is whole."""
        buffer = self._buffer
        last = self._known
        if last is not None and not buffer and (again := last.again(data)) is not None:  # the usual case: as before
            self.deadline = NEVER
            self._begin(last, again[1] if last.varies else last.head.length, data[again[0] :])
            return
        if buffer or data[0] == 13:
            began = not buffer
            buffer += data
            while buffer[:2] == b"\r\n":  # an empty line or two before a request are allowed
                del buffer[:2]
                self._scanned = 0
            end = buffer.find(b"\r\n\r\n", max(0, self._scanned - 3))
            if end < 0:
                self._wait_for_head(began)
                return
            data = bytes(buffer)
            buffer.clear()
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                buffer += data
                self._wait_for_head(True)
                return
        self._scanned = 0
        self.deadline = NEVER
        if end > self._context.gateway.max_head_bytes:
            raise _too_long(data, self._context.gateway.max_head_bytes)
        known, length = self._context.heads.read(data, end)
        self._known = known
        self._begin(known, length, data[end + 4 :])

    def _wait_for_head(self, began: bool) -> None:
        buffer, limit = self._buffer, self._context.gateway.max_head_bytes
        if has_bare_line_feed(buffer, max(0, self._scanned - 1)):
            raise RejectedError(400, "the request head has a line that does not end in CRLF")
        if len(buffer) > limit:
            raise _too_long(buffer, limit)
        self._scanned = len(buffer)
        if began and buffer:
            self.deadline = self._now() + self._context.gateway.head_timeout_seconds

    def _begin(self, known: CachedHead, length: int | None, rest: bytes) -> None:
        context = self._context
        if length is not None and length > context.max_body_bytes > 0:
            raise RejectedError(413, "the body is longer than gateway.max_body_bytes")
        chunked = known.head.chunked
        self.exchange = exchange = Exchange(context, self, known, length)
        if not chunked and len(rest) == (length or 0):  # the usual case: it is all here
            exchange.begin(rest, True)
            return
        body: Body = ChunkedBody() if chunked else LengthBody(length or 0)
        payload, rest = body.feed(rest)
        self._buffer += rest
        if body.done:
            exchange.request.trailer = self._trailer(body)
        else:
            self._body = body
            self._expect_body()
        exchange.begin(payload, body.done)

    def _take_body(self, body: Body, data: bytes) -> None:
        payload, rest = body.feed(data)
        exchange = self.exchange
        if body.done:
            self._body = None
            self._buffer += rest
        if exchange is None:  # swallowing the rest of a body that was answered early
            if body.done:
                self._ready()
            return
        if body.done:
            exchange.request.trailer = self._trailer(body)
        if not self._blocked:
            self._expect_body()
        exchange.receive(payload, body.done)

    def _trailer(self, body: Body) -> bytes:
        """The trailer section that may travel on."""
        if not isinstance(body, ChunkedBody) or not body.trailer:
            return b""
        return trailer_lines(body.trailer, self._context.kept_from_trailers)

    def _reject(self, error: RejectedError) -> None:
        """Refuse the request at hand and close: what follows on this connection cannot be trusted."""
        exchange, self.exchange = self.exchange, None
        self._context.count(f'protocol_errors_total{{status="{error.status}"}}')
        if exchange is not None:
            answered = exchange.answered
            exchange.client_lost(error.status)
            if answered:
                self._close()
                return
        self.write(answer(error.status, error.code, str(error), headers=error.headers, close=True))
        self._body = self._body or LengthBody(1)  # whatever still comes is swallowed
        self.linger_close()


def _too_long(data: bytes | bytearray, limit: int) -> RejectedError:
    status = 414 if data.find(b"\r\n", 0, limit) < 0 else 431
    return RejectedError(status, _MESSAGES[status])
