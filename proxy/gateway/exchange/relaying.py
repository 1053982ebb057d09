"""The answer on its way to the client: its head with the first bytes behind it, then every piece as it comes."""

from __future__ import annotations

from math import inf
from typing import Final

from policies.records import Outcome
from proxy.gateway.errors import BadResponseError
from proxy.gateway.exchange.sending import Sending
from proxy.gateway.exchange.states import ASKED, Event, State
from proxy.gateway.faults import Fault, fault_of_ending
from proxy.gateway.head import ResponseHead
from proxy.gateway.head_cache import KnownResponse
from proxy.gateway.location import at_home
from proxy.gateway.outbound import response_head, upgrade_response_head

__all__ = ["Relaying"]

_RELAYING: Final = State.RELAYING
_TUNNEL: Final = State.TUNNEL
_DONE: Final = State.DONE
_OK: Final = Outcome.OK
_EVERY_PIECE: Final = 32
_MOST_MARKS: Final = 256
_SPACING: Final = 1.05


class Relaying(Sending):
    """The third part of an exchange: most of it is called by the model's connection."""

    __slots__ = ()

    # -- the head

    def informational(self, head: ResponseHead) -> None:
        """See Receiver."""
        if self.state not in ASKED:
            self._stray(Event.INFORMATIONAL)
            return
        if head.status == 100:
            if self._continued:
                return
            self._continued = True
        if self.head.minor:
            self.client.write(response_head(head))

    def responded(self, response: KnownResponse, length: int | None) -> None:
        """See Receiver: the final head. It leaves together with the first bytes of the body."""
        if self.state not in ASKED:
            self._stray(Event.RESPONDED)
            return
        status = response.head.status
        if self.backend.breaker is not None:
            if self._declined(status, self.backend.breaker):
                return
        elif self._doubted is not None:
            self._judge(status, self._doubted)
        if response.head.places and self.context.gateway.rewrite_locations and not self.known.internal:
            response = at_home(response, self.backend)
        self.state = _RELAYING
        self._keep_head(response)
        head, minor = response.head, self.head.minor
        self._dechunk = head.chunked and not minor
        if self._dechunk or (length is None and not head.chunked) or self.context.shutdown.draining:
            self.keep_alive = False
        added = self._added_lines()
        if not self.keep_alive:
            added += b"Connection: close\r\n"
        elif not minor:
            added += b"Connection: keep-alive\r\n"
        if self._dechunk:
            self._out = response_head(head, added=added, dechunked=True)
        else:
            self._out = response.opening(added, length)

    def _keep_head(self, response: KnownResponse) -> None:
        self.response = response
        self.status = response.head.status
        if self.request.charged or not self.request.done:
            self.request.release()
        if self._connection is not None:
            self.first_byte = self._connection.heard_at
            if self.recorded and self.context.captures:
                self._mark_after = self.first_byte

    # -- the body

    def relay(self, wire: bytes, payload: bytes, done: bool) -> None:
        """See Receiver."""
        if self.state is not _RELAYING:
            self._stray(Event.RELAY)
            return
        if payload:
            if self.context.captures:
                connection = self._connection
                if connection is not None and connection.heard_at > self._mark_after:
                    self._mark(connection.heard_at)
                self.response_body.add(payload)
            else:
                self.response_body.size += len(payload)
        data = payload if self._dechunk else wire
        if self._out:
            data = self._out + data
            self._out = b""
        if not done:
            self.client.write(data)
            return
        self._end(_OK)
        self.client.write(data)
        self._release_upstream(reusable=self.request.done)
        self.client.exchange_done(self.keep_alive)

    def _mark(self, heard_at: float) -> None:
        """Note when the next piece of the body came. The first pieces each, later ones as far apart as matters."""
        marks = self.marks
        if marks is None:
            marks = self.marks = []
        marks.append((self.response_body.size, heard_at))
        if len(marks) < _EVERY_PIECE:
            self._mark_after = heard_at
        elif len(marks) < _MOST_MARKS:
            self._mark_after = self.started + (heard_at - self.started) * _SPACING
        else:
            self._mark_after = inf

    def client_blocked(self, blocked: bool) -> None:
        """The client is slow to read, or reads again: so do we."""
        if self.state is _TUNNEL:
            self._stray(Event.CLIENT_BLOCKED)
        if self._connection is None or self.state is _DONE:
            return
        self._connection.backpressure(blocked)
        now = self.context.monotonic()
        if blocked:
            self._held_at = now
        elif self._held_at is not None:
            self.held_s += now - self._held_at
            self._held_at = None

    # -- 101: a tunnel

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """See Receiver: 101, so the bytes that follow are none of our business."""
        if self.state not in ASKED:
            self._stray(Event.SWITCHED)
            return
        connection = self._connection
        if connection is None or not self.head.upgrade or not self.request.done:
            raise BadResponseError("unrequested 101 Switching Protocols")
        if self.backend.breaker is not None:
            self.backend.breaker.success()
            self.context.router.breaker_changed()
        elif self._doubted is not None:
            self._judge(head.status, self._doubted)
        self._keep_head(KnownResponse(head))
        self.context.count("tunnels")
        self.client.write(upgrade_response_head(head, added=self._added_lines()))
        self.state = _TUNNEL
        self.client.tunnel_to(connection, data, self.tunnel_ended)

    def tunnel_ended(self, sent: int, received: int, error: Exception | None, by_client: bool) -> None:
        """See TunnelEnd."""
        if self.state is not _TUNNEL:
            self._stray(Event.TUNNEL_ENDED)
            return
        self.context.count("tunnels", -1.0)
        if self._connection is not None:
            self._connection.heard_at = self.context.monotonic()  # until now the model had the floor
        self.request.size = sent
        self.response_body.size = received
        broken = Outcome.CLIENT_DISCONNECT if by_client else Outcome.UPSTREAM_ERROR
        self._end(_OK if error is None and not self.context.shutdown.cutting else broken)

    # -- an answer that is not whole, or none

    def upstream_lost(self, error: Exception | None) -> None:
        """See Receiver."""
        if self.state is _RELAYING:
            self._fault = fault_of_ending(error, begun=True)
            self._break_off(Outcome.UPSTREAM_ERROR, error)
        elif self.state in ASKED:
            self._lost_unanswered(error)
        else:
            self._stray(Event.UPSTREAM_LOST)

    def upstream_timed_out(self) -> None:
        """See Receiver."""
        if self.state is _RELAYING:
            self._fault = Fault.SILENT
            self._break_off(Outcome.TIMEOUT, None)
        elif self.state in ASKED:
            self._silent()
        else:
            self._stray(Event.UPSTREAM_TIMED_OUT)

    def _break_off(self, outcome: Outcome, error: Exception | None) -> None:
        self._end(outcome)
        self.client.abort(self._out, error)
