"""The upstream leg: a connection to a model's server, which serves one exchange at a time.

It reads the response and hands it to its exchange piece by piece. It knows framing and nothing else:
what a failure means (retry, fallback, 502) is the exchange's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.config.serving import GatewayConfig
from proxy.gateway.deadlines import NEVER, probe_when_silent
from proxy.gateway.errors import BadResponseError
from proxy.gateway.framing import Body, ChunkedBody, CloseBody, FramingError, LengthBody
from proxy.gateway.head import ResponseHead, has_bare_line_feed, parse_response
from proxy.gateway.head_cache import KnownResponse, known_responses
from proxy.gateway.ports import Receiver, UpstreamSide

__all__ = ["UpstreamConnection"]

_MAX_HEAD: Final = 262144


class Keeper(Protocol):
    """Whose connection it is: proxy.gateway.pool.UpstreamPool."""

    config: GatewayConfig
    monotonic: Callable[[], float]

    def put_back(self, connection: UpstreamConnection) -> None:
        """Keep it for the next request, or close it."""
        ...

    def unregister(self, connection: UpstreamConnection) -> None:
        """It has ended."""
        ...


class UpstreamConnection(asyncio.Protocol, UpstreamSide):
    """One connection to a model's server. `begin` an exchange, `send` the request, hear the response."""

    def __init__(self, pool: Keeper) -> None:
        self._pool = pool
        self._receiver: Receiver | None = None
        self._method = b""
        self._buffer = b""
        self._body: Body | None = None
        self._head: ResponseHead | None = None
        self._last: KnownResponse | None = None
        """The head of the answer before, which may well come again."""
        self._clean = False
        self._first_byte_s = pool.config.first_byte_timeout_seconds
        self._idle_s = pool.config.idle_timeout_seconds
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._lost = False
        """Whether the connection has ended."""
        self.dialled_s = 0.0
        """Seconds that it took to be made: a round trip, or a few."""
        self.deadline = NEVER
        self.heard_at = 0.0
        """When bytes of the response came last, monotonic seconds."""
        self.used = False
        """Whether an earlier exchange was served: the server may have closed it just now (a stale connection)."""
        self.answered = False
        """Whether any byte of the response has come."""
        self.written = False
        """Whether any byte of the request was sent."""
        self._asked = False
        """Whether the whole request was sent."""

    # -- called by the exchange

    def begin(self, receiver: Receiver, method: bytes) -> None:
        """Serve `receiver` from here on; `method` is its request's."""
        self._receiver = receiver
        self._method = method
        self._body = self._head = None
        if method == b"HEAD":
            self._last = None
        self.answered = self.written = self._asked = self._clean = False
        self.deadline = NEVER

    def send(self, data: bytes, *, last: bool) -> None:
        """Send bytes of the request, after the `last` of which the answer is due; a connection that is closing
        takes none, and soon says so."""
        if not self.transport.is_closing():
            self.transport.write(data)
            self.written = True
        if last:
            self._asked = True
            self.await_answer()

    def await_answer(self) -> None:
        """The request is sent: the first byte of the answer is due, if it has not begun."""
        if self._body is None:
            self.deadline = self._pool.monotonic() + self._first_byte_s

    def backpressure(self, paused: bool) -> None:
        """Stop or go on reading the response, as its reader is slow or ready."""
        if self.transport.is_closing():
            return
        if paused:
            self.transport.pause_reading()
            self.deadline = NEVER
        else:
            self.transport.resume_reading()
            self.deadline = self._pool.monotonic() + self._idle_s

    def release(self, *, reusable: bool) -> None:
        """The exchange is over."""
        self._receiver = None
        if reusable and self._clean and not self.transport.is_closing():
            self.used = True
            self._pool.put_back(self)
        else:
            self.close()

    def close(self) -> None:
        """Close at once: nobody wants the rest, or it was not even made."""
        self._receiver = None
        if self.transport is not None:
            self.transport.abort()

    def check(self) -> None:
        """Raise ConnectionResetError where it ended before anybody had it: nobody will be told of that again."""
        if self._lost:
            raise ConnectionResetError("the connection was closed right after it was opened")

    def detach(self) -> asyncio.Transport:
        """Leave the pool's care: the bytes go through a tunnel now, which takes over the transport."""
        self._receiver = None
        self.deadline = NEVER
        return self.transport

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)
        probe_when_silent(transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        receiver = self._receiver
        if receiver is None:  # a server that speaks unasked
            self.close()
            return
        self.answered = True
        self.heard_at = now = self._pool.monotonic()
        self.deadline = now + self._idle_s
        try:
            last = self._last
            if self._body is not None:
                self._read_body(receiver, self._body, data)
            elif last is None or self._buffer or (again := last.again(data)) is None:
                self._read_heads(receiver, data)
            else:  # the usual case: a head as before
                self._begin_body(receiver, last, again[1] if last.varies else last.head.length, data[again[0] :])
        except (BadResponseError, FramingError) as exc:
            self._fail(exc)

    def eof_received(self) -> None:
        """See asyncio.Protocol: a server that stops sending has nothing to hear, either."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lost = True
        self._pool.unregister(self)
        receiver = self._receiver
        if receiver is None:
            return
        self._receiver = None
        if exc is None and isinstance(self._body, CloseBody):
            receiver.relay(b"", b"", True)
        else:
            receiver.upstream_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._receiver is not None:
            self.deadline = self._pool.monotonic() + self._idle_s
            self._receiver.upstream_blocked(True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._receiver is not None:
            self.deadline = NEVER if self._body is None else self._pool.monotonic() + self._idle_s
            self._receiver.upstream_blocked(False)

    def expire(self) -> None:
        """See Watched."""
        receiver = self._receiver
        self.close()
        if receiver is not None:
            receiver.upstream_timed_out()

    # -- reading the response

    def _fail(self, error: Exception) -> None:
        receiver = self._receiver
        self.close()
        if receiver is not None:
            receiver.upstream_lost(error)

    def _read_heads(self, receiver: Receiver, data: bytes) -> None:
        """Read response heads (any number of 1xx, then the final one), then the body behind them."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        while self._receiver is receiver:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._wait_for_head(data)
                return
            if self._method == b"HEAD":
                response = KnownResponse(parse_response(data, end, b"HEAD"))
                length = response.head.length
            else:
                response, length = known_responses.read(data, end)
            head = response.head
            data = data[end + 4 :]
            if head.status >= 200:
                self._last = response
                self._begin_body(receiver, response, length, data)
                return
            if head.status == 101:
                self._head, self._body = head, CloseBody()
                receiver.switched(head, data)
                return
            receiver.informational(head)
            self.deadline = NEVER  # not the answer yet, for which the client may have to send its body first
            if self._asked:
                self.await_answer()

    def _wait_for_head(self, data: bytes) -> None:
        if len(data) > _MAX_HEAD:
            raise BadResponseError(f"the response head is longer than {_MAX_HEAD} bytes")
        if not (data.startswith(b"HTTP/1.") or b"HTTP/1.".startswith(data)):
            raise BadResponseError("the response does not begin with an HTTP/1.x status line")
        if has_bare_line_feed(data, 0):
            raise BadResponseError("the response head has a line that does not end in CRLF")
        self._buffer = data

    def _begin_body(self, receiver: Receiver, response: KnownResponse, length: int | None, data: bytes) -> None:
        head = response.head
        if length == len(data) and not head.chunked:  # the usual case: it is all here
            receiver.responded(response, length)
            if self._receiver is receiver:
                self._clean = head.keep_alive
                receiver.relay(data, data, True)
            return
        body: Body
        if head.chunked:
            body = ChunkedBody()
        elif length is not None:
            body = LengthBody(length)
        else:
            body = CloseBody()
        self._head, self._body = head, body
        receiver.responded(response, length)
        if self._receiver is receiver:  # it may have gone elsewhere for its answer
            self._read_body(receiver, body, data)

    def _read_body(self, receiver: Receiver, body: Body, data: bytes) -> None:
        if body.done:
            payload, rest = b"", data
        else:
            payload, rest = body.feed(data)
        if not body.done:
            receiver.relay(data, payload, False)
            return
        head = self._head
        self._clean = not rest and head is not None and head.keep_alive
        receiver.relay(data[: len(data) - len(rest)] if rest else data, payload, True)
