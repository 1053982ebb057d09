"""One request, from its head to its record. Read it from top to bottom: that is the order in which things happen.

    begin          the head is here, with whatever came of the body
    route          whose request is it, which model serves it (waits for the body only if the body must say)
    forward        to that model, on a kept connection if there is one
    relay          the answer, byte for byte, as it comes
    end            append the record, then let the last byte go

and beside it what can go wrong: a stale connection (once more on a fresh one), a challenger that fails (the
champion answers), a champion that fails (502, 504), a client that leaves (the model's connection is closed at
once, a GPU must not go on generating). Everything runs in the event loop's callbacks: nothing here waits.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from policies.records import Arm, Outcome, StickySource
from proxy.gateway.backend import Backend, ResolvedRoutes
from proxy.gateway.body_watch import Watch
from proxy.gateway.breaker import Breaker
from proxy.gateway.capture import Capture
from proxy.gateway.errors import BadResponseError, RejectedError, answer
from proxy.gateway.faults import (
    Fault,
    failed_slot,
    fault_of_connecting,
    fault_of_ending,
    fault_of_status,
    left_slot,
    refused_slot,
)
from proxy.gateway.head import ResponseHead
from proxy.gateway.head_cache import CachedHead, KnownResponse
from proxy.gateway.location import at_home
from proxy.gateway.model_field import replace_model
from proxy.gateway.outbound import (
    request_head,
    response_head,
    response_lines,
    side_request_head,
    upgrade_response_head,
)
from proxy.gateway.ports import Minted
from proxy.gateway.record import frame_of
from proxy.gateway.request_buffer import RequestBuffer
from proxy.gateway.routing import Awaited, awaited_of, conversation_of, forced_backend, key_of
from proxy.gateway.sticky import StickyKey
from proxy.gateway.tunnel import Tunnel
from proxy.gateway.upstream import UpstreamConnection

if TYPE_CHECKING:
    from proxy.gateway.client import ClientConnection
    from proxy.gateway.gateway import Gateway

__all__ = ["Exchange"]

Cause = Literal["breaker", "connect", "status", "timeout"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_UNAVAILABLE = frozenset((502, 503, 504))
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_STALE_S: Final = 0.02, 0.1
"""Bounds of a round trip: a busy event loop hears of a close late; and no close is on its way for longer."""
_EVERY_PIECE: Final = 32
_MOST_MARKS: Final = 256
_SPACING: Final = 1.05
_WAITED_S: Final = 1.0
"""A client that leaves sooner has changed its mind."""
_CHAMPION: Final[Arm] = Arm.CHAMPION
_OK: Final = Outcome.OK
_log = logging.getLogger(__name__)


class Exchange:
    """A request and its answer. The client's connection and the upstream's call it; see the module."""

    __slots__ = (
        "_awaited",
        "_connection",
        "_continued",
        "_dechunk",
        "_dialling",
        "_doubted",
        "_fault",
        "_finished",
        "_held_at",
        "_key",
        "_mark_after",
        "_out",
        "_retried",
        "_sent_at",
        "_watch",
        "arrived_at",
        "assigned",
        "backend",
        "client",
        "fallback",
        "first_byte",
        "handed_over",
        "head",
        "held_s",
        "is_exposure",
        "keep_alive",
        "known",
        "length",
        "marks",
        "record_id",
        "recorded",
        "refusal",
        "request",
        "resent",
        "response",
        "response_capture",
        "routes",
        "services",
        "started",
        "status",
    )  # fmt: skip

    routes: ResolvedRoutes
    backend: Backend
    record_id: Minted
    _sent_at: float
    """When it went to the model at hand."""

    def __init__(self, services: Gateway, client: ClientConnection, known: CachedHead, length: int | None) -> None:
        """`length` is the Content-Length in bytes, if there was one."""
        self.services = services
        self.client = client
        self.known = known
        self.head = head = known.head
        self.length = length
        self.keep_alive = head.keep_alive
        """Whether the client's connection stays open."""
        self.started = started = services.monotonic()
        self.arrived_at = services.now()
        self.request = RequestBuffer(services.captured_request_bytes, head.chunked, started, services.budget)
        self.response_capture = Capture(services.captured_response_bytes)
        # Facts for the record, with what they are until something happens.
        self.recorded = False
        self.assigned = _CHAMPION
        self.is_exposure = True
        """Whether it is evidence in the experiment: not where QA forced the arm, nor on a side not its user's."""
        self.status = 0
        self.response: KnownResponse | None = None
        self.fallback: Cause | None = None
        self.refusal = 0
        """The challenger's own status where the champion was asked because of it."""
        self.resent = False
        """Whether it was sent once more because a kept connection had been closed."""
        self.handed_over: float | None = None
        """When the first model got it, monotonic seconds; another one may have answered in the end."""
        self.first_byte: float | None = None
        """When the response's head was there, monotonic seconds."""
        self.marks: list[tuple[int, float]] | None = None
        """When the pieces of the response's body came that did not come with its head: bytes before it, monotonic
        seconds."""
        self._mark_after = inf
        """A piece that comes later than that is marked."""
        self.held_s = 0.0
        """Seconds for which the client was too slow to read."""
        self._finished = self._retried = self._continued = self._dechunk = False
        self._held_at: float | None = None
        self._key = known.key
        self._out = b""
        self._awaited: Awaited = None
        self._watch: Watch | None = None
        self._connection: UpstreamConnection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._fault: Fault | None = None
        """What went wrong at the model at hand, where anything did."""
        self._doubted: Breaker | None = None
        """Of the challenger that refused, while the champion is asked whether that was right."""

    # -- begin: called by the client's connection

    def begin(self, payload: bytes, done: bool) -> None:
        """Start, with what has come of the body (`done`: that is all of it). Raises RejectedError."""
        services, known = self.services, self.known
        if known.internal:
            self.request.store(payload, done, services.max_body_bytes)
            self._begin_side()
            return
        count = services.count
        count("requests_total")
        count("in_flight")
        if b"x-ratchet-admin-token" in self.head.fields:
            services.hold_back_guesses(self.head, self.client.peer)
        self.request.store(payload, done, services.max_body_bytes)
        self.routes = routes = services.router.resolve(services.routes())
        self.backend = routes.champion
        if known.recorded:
            self.recorded = True
            if services.refuses_when_full and services.spool.full:
                self._refuse()
                return
        else:
            services.count('not_recorded_total{reason="skip_path"}')
        self.record_id = services.ids.mint(self.arrived_at)
        if not done:
            self._awaited = awaited_of(known, routes, services.sticky, self._forced())
        if payload and (self._awaited is not None or self.request.cut):
            self._read(payload)
        if self._awaited is not None and self._may_wait(len(payload)):
            if self.head.expects_continue:
                self._continued = True
                self.client.write(_CONTINUE)
            return
        self._awaited = None
        self._route()

    def receive(self, payload: bytes, done: bool) -> None:
        """Take more of the body. Raises RejectedError for a body that is not forwarded."""
        if done:
            self.request.ended = self.services.monotonic()
        self.request.store(payload, done, self.services.max_body_bytes)
        if payload and (self._watch is not None or self.request.cut or (self._awaited is not None and not done)):
            self._read(payload)
        if self._awaited is not None:
            if done or not self._may_wait(len(payload)):
                self._awaited = None
                self._route()
        elif self._connection is not None:
            payload = self.request.framed(self.request.take())
            self._connection.send(payload, last=done)
        else:
            self.client.backpressure(True)

    def _may_wait(self, size: int) -> bool:
        """Whether more of the body is waited for, of which `size` bytes have come now: while it can still say what it
        is held for, which the SDKs put behind the messages, and of a long one as far as there is room."""
        watch = self._watch
        if watch is None:  # nothing has come
            return True
        if watch.ended:
            return False
        if not self.request.cut:
            return True
        return not (self._awaited == "model" and watch.spans) and self.request.reserve(size)

    def _read(self, payload: bytes) -> None:
        """Look for the user, the conversation and the model's name in `payload`, the newest of the body."""
        watch = self._watch
        if watch is None:
            known = self.known
            if self._awaited is None and (known.internal or (known.key and known.conversation)):
                return
            watch = self._watch = self.services.sticky.watch(known.head, user_known=known.key is not None)
            if before := self.request.size - len(payload):
                watch.feed(bytes(self.request.data[:before]))
        watch.feed(payload)

    def _begin_side(self) -> None:
        """Our own URLs: one more upstream, neither recorded nor counted."""
        if self.services.internal is None:
            self._answer(503, "side_unavailable", "this process does not serve feedback and health")
            return
        if self.head.expects_continue and not self.request.done:
            self.client.write(_CONTINUE)
        self._forward(self.services.internal)

    def _refuse(self) -> None:
        self.recorded = False
        self.services.count('not_recorded_total{reason="refused"}')
        self._answer(
            503, "spool_full", "the request cannot be recorded now (spool.when_full = refuse); try again later"
        )

    # -- route

    def _route(self) -> None:
        """Choose the model."""
        routes = self.routes
        backend = routes.champion
        if b"x-ratchet-arm" in self.head.fields and (forced := self._forced()) is not None:  # QA
            self.is_exposure = False
            backend = forced
        elif routes.splits:
            backend = routes.backend_for(self.user()[0])
        self.assigned = backend.arm
        if backend.breaker is not None and not backend.breaker.allow(self.services.monotonic()):
            self.fallback = "breaker"
            self.services.count('fallbacks_total{cause="breaker"}')
            backend = routes.champion
        if backend.breaker is not None and (self.request.cut or not self.request.done):
            self.request.keep()  # the champion may have to answer
        self._forward(backend)

    def _forced(self) -> Backend | None:
        """The arm that QA asks for, if any."""
        return forced_backend(self.head, self.routes, self.services.admin_token)

    def user(self) -> StickyKey:
        """The sticky key and its source; read from the body only now if it was not needed before.

        Where the request had to go before its user was known, the user who is found later is the record's. If that one
        belongs to the other side, the request is no evidence: nobody is on both.
        """
        if self._key is not None:
            return self._key
        services = self.services
        found = key_of(self.known, self.request, self._watch, services.sticky, services.captured_request_bytes)
        key = found or (self.record_id.hex.encode(), StickySource.RANDOM)
        if self.request.done or self._finished or (self._watch is not None and self._watch.ended):
            self._key = key
            if self.handed_over is not None and self.routes.splits:
                self.is_exposure = self.is_exposure and self.routes.backend_for(key[0]).arm is self.assigned
        return key

    def conversation(self) -> bytes | None:
        """The conversation that the body names, where the head names none."""
        if self.known.conversation is not None:
            return None
        limit = self.services.captured_request_bytes
        return conversation_of(self.known, self.request, self._watch, self.services.sticky, limit)

    # -- forward

    def _forward(self, backend: Backend, *, fresh: bool = False) -> None:
        """Send the request to `backend`, on a new connection if `fresh`. Raises RejectedError at the first time."""
        if self.head.dotted and not self.known.internal:
            self._check_path(backend)
        self.backend = backend
        self._sent_at = now = self.services.monotonic()
        if self.handed_over is None:
            self.handed_over = now
        connection = None if fresh else backend.pool.take()
        if connection is not None:
            self.connected(connection)
        else:
            self._dialling = backend.pool.dial(self)

    def _check_path(self, backend: Backend) -> None:
        """Refuse a path that might climb out of the prefix of whoever is to answer, or may have to in the end."""
        if backend.prefix or self.routes.champion.prefix:
            if backend.breaker is not None:
                backend.breaker.release()
            raise RejectedError(400, "the path has dot segments ('.' or '..', perhaps encoded): they could leave the "
                                     "path of the model's URL")  # fmt: skip

    def connected(self, connection: UpstreamConnection) -> None:
        """See Receiver."""
        self._dialling = None
        self._connection = connection
        connection.begin(self, self.head.method)
        request = self.request
        if not request.done:
            self.client.backpressure(False)
        head, payload = self._opening(request.take())
        connection.send(head + request.framed(payload), last=request.done)

    def _opening(self, body: bytes) -> tuple[bytes, bytes]:
        """The head for the chosen model, and `body` (all or its beginning) with that model's name in it."""
        head, backend, length = self.head, self.backend, self.length
        if backend.verbatim and not head.expects_continue:
            return self.known.opening(backend, length), body
        if self.known.internal:
            address = self.services.trust.address(head, self.client.network, self.client.peer.host)
            return side_request_head(head, address, length), body
        model = backend.target.model
        if model is not None and body and "content-encoding" not in head.recorded:
            renamed = replace_model(body, model, None if self._watch is None else self._watch.spans)
            if length is not None:
                length += len(renamed) - len(body)
            body = renamed
        expect = head.expects_continue and not (self._continued or self.request.size)
        if expect or self.services.adds_lines or (length != self.length and not self.known.varies):
            extra = self.services.lines_for(head, self.client.peer) if self.services.adds_lines else ()
            return request_head(head, backend, length=length, extra=extra, expect=expect), body
        return self.known.opening(backend, length), body

    def upstream_blocked(self, blocked: bool) -> None:
        """See Receiver: the model's server is slow to read; so are we."""
        if not self.request.done:
            self.client.backpressure(blocked)
        elif not blocked and self._connection is not None:
            self._connection.await_answer()

    # -- relay: called by the upstream's connection

    def informational(self, head: ResponseHead) -> None:
        """See Receiver."""
        if head.status == 100:
            if self._continued:
                return
            self._continued = True
        if self.head.minor:
            self.client.write(response_head(head))

    def responded(self, response: KnownResponse, length: int | None) -> None:
        """See Receiver: the final head. It leaves together with the first bytes of the body."""
        status = response.head.status
        if self.backend.breaker is not None:
            if self._declined(status, self.backend.breaker):
                return
        elif self._doubted is not None:
            self._judge(status, self._doubted)
        if response.head.places and self.services.rewrites_locations and not self.known.internal:
            response = at_home(response, self.backend)
        head = response.head
        self._keep_head(response)
        minor = self.head.minor
        self._dechunk = head.chunked and not minor
        if self._dechunk or (length is None and not head.chunked) or self.services.draining:
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
            if self.recorded and self.services.captures:
                self._mark_after = self.first_byte

    def _added_lines(self) -> bytes:
        """What we add to a response: whole lines."""
        added = b"x-ratchet-record-id: %b\r\n" % self.record_id.text.encode() if self.recorded else b""
        if self.services.adds_lines and not self.known.internal:
            added += response_lines(self.backend.arm, self.services.config.gateway)
        return added

    def relay(self, wire: bytes, payload: bytes, done: bool) -> None:
        """See Receiver."""
        if payload:
            if self.services.captures:
                connection = self._connection
                if connection is not None and connection.heard_at > self._mark_after:
                    self._mark(connection.heard_at)
                self.response_capture.add(payload)
            else:
                self.response_capture.size += len(payload)
        data = payload if self._dechunk else wire
        if self._out:
            data = self._out + data
            self._out = b""
        if not done:
            self.client.write(data)
            return
        self._end(_OK)
        self.client.write(data)
        self._let_go(reusable=self.request.done)
        self.client.exchange_done(self.keep_alive)

    def _mark(self, heard_at: float) -> None:
        """Note when the next piece of the body came. The first pieces each, later ones as far apart as matters."""
        marks = self.marks
        if marks is None:
            marks = self.marks = []
        marks.append((self.response_capture.size, heard_at))
        if len(marks) < _EVERY_PIECE:
            self._mark_after = heard_at
        elif len(marks) < _MOST_MARKS:
            self._mark_after = self.started + (heard_at - self.started) * _SPACING
        else:
            self._mark_after = inf

    def client_blocked(self, blocked: bool) -> None:
        """The client is slow to read, or reads again: so do we."""
        if self._connection is None or self._finished:
            return
        self._connection.backpressure(blocked)
        now = self.services.monotonic()
        if blocked:
            self._held_at = now
        elif self._held_at is not None:
            self.held_s += now - self._held_at
            self._held_at = None

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """See Receiver: 101, so the bytes that follow are none of our business."""
        connection = self._connection
        if connection is None or not self.head.upgrade or not self.request.done:
            raise BadResponseError("unrequested 101 Switching Protocols")
        if self.backend.breaker is not None:
            self.backend.breaker.success()
            self.services.breaker_changed()
        elif self._doubted is not None:
            self._judge(head.status, self._doubted)
        self._keep_head(KnownResponse(head))
        self.services.count("tunnels")
        self.client.write(upgrade_response_head(head, added=self._added_lines()))
        connection.detach()
        tunnel = Tunnel(
            self.client.transport,
            connection.transport,
            lambda error, by_client: self._tunnel_ended(tunnel, error, by_client),
        )
        tunnel.feed(self.client.take_over(), data)

    def _tunnel_ended(self, tunnel: Tunnel, error: Exception | None, by_client: bool) -> None:
        self.services.count("tunnels", -1.0)
        if self._connection is not None:
            self._connection.heard_at = self.services.monotonic()  # until now the model had the floor
        self.request.size = tunnel.sent
        self.response_capture.size = tunnel.received
        broken = Outcome.CLIENT_DISCONNECT if by_client else Outcome.UPSTREAM_ERROR
        self._end(_OK if error is None and not self.services.cutting else broken)

    # -- what can go wrong

    def connect_failed(self, error: Exception) -> None:
        """See Receiver."""
        self._dialling = None
        self._fault = fault_of_connecting(error)
        if not self._fall_back("connect"):
            self._give_up(502, "upstream_unreachable", error)

    def upstream_lost(self, error: Exception | None) -> None:
        """See Receiver."""
        connection = self._connection
        if self.response is not None:
            self._fault = fault_of_ending(error, begun=True)
            self._end(Outcome.UPSTREAM_ERROR)
            self.client.abort(self._out, error)
            return
        if connection is not None and self._was_stale(connection) and self._retry():
            self.services.count("stale_retries_total")
            return
        self._fault = fault_of_ending(error, begun=False)
        if not self._fall_back("connect"):
            self._give_up(502, "upstream_failed", error)

    def upstream_timed_out(self) -> None:
        """See Receiver."""
        self._fault = Fault.SILENT
        if self.response is not None:
            self._end(Outcome.TIMEOUT)
            self.client.abort(self._out, None)
        elif not self._fall_back("timeout"):
            self._give_up(504, "upstream_timeout", None)

    def _was_stale(self, connection: UpstreamConnection) -> bool:
        """Whether the server closed a kept connection before it can have read the request.

        Either it was closed already, or that shows within a round trip. What goes later may have died of the request,
        or on its way to an answer: it is asked for again only where asking twice changes nothing.
        """
        if not connection.used or connection.answered:
            return False
        if not connection.written or self.head.method in _IDEMPOTENT or b"idempotency-key" in self.head.fields:
            return True
        shortest, longest = _STALE_S
        return self.services.monotonic() - self._sent_at < min(longest, max(shortest, 2 * connection.dialled_s))

    def _retry(self) -> bool:
        """Once more on a fresh connection."""
        if self._retried or not self.request.rewind():
            return False
        self._retried = self.resent = True
        self._let_go(reusable=False)
        self._forward(self.backend, fresh=True)
        return True

    def _fall_back(self, cause: Cause) -> bool:
        """Let the champion answer for a failed challenger, if the request is still whole in our hands."""
        breaker = self.backend.breaker
        if breaker is None:
            return False
        breaker.failure(self.services.monotonic())
        self.services.breaker_changed()
        if not self.request.rewind():
            self.services.count(f'fallbacks_impossible_total{{cause="{cause}"}}')
            return False
        self.fallback = cause
        self.services.count(f'fallbacks_total{{cause="{cause}"}}')
        self._count_failure()
        self._ask_champion()
        return True

    def _ask_champion(self) -> None:
        self._retried = False
        self._fault = None
        self._let_go(reusable=False)
        self._forward(self.routes.champion)

    def _declined(self, status: int, breaker: Breaker) -> bool:
        """Take note of the challenger's status; whether the champion is asked because of it.

        A refusal may be right (the file is not there, the client's key is bad). So its breaker waits for what the
        champion says, and the client gets that.
        """
        if status in _UNAVAILABLE:
            self._fault = fault_of_status(status)
            if not self._fall_back("status"):
                return False
            self.refusal = status
            return True
        if not 400 <= status < 500:
            breaker.success()
            self.services.breaker_changed()
        elif status in self.services.fallback_statuses and self.request.rewind():
            self.refusal = status
            self._doubted = breaker
            self._ask_champion()
            return True
        else:
            breaker.release()  # nothing is shown: the champion might have refused it, too
        return False

    def _judge(self, status: int, breaker: Breaker) -> None:
        """The champion's status shows whether the challenger was right to refuse."""
        self._doubted = None
        if 400 <= status < 500:
            breaker.release()
            self.services.count('fallbacks_total{cause="both_refused"}')
            return
        self.fallback = "status"
        self.services.count('fallbacks_total{cause="status"}')
        if status < 400:
            breaker.failure(self.services.monotonic())
            self.services.breaker_changed()
        else:
            breaker.release()

    def _give_up(self, status: int, code: str, error: Exception | None) -> None:
        if self.known.internal:
            self._answer(503, "side_unavailable", "feedback and health are temporarily unavailable; try again later")
            return
        self._complain(status, code, error)
        if self._doubted is not None:
            self._judge(status, self._doubted)
        outcome = Outcome.TIMEOUT if status == 504 else Outcome.UPSTREAM_ERROR
        self._answer(status, code, "the model's server did not answer this request", outcome)

    def _complain(self, status: int, code: str, error: Exception | None) -> None:
        target = self.backend.target
        before = self.services.complaints.of((target.name, code), self.services.monotonic())
        if before is not None:
            why = error or ("no answer in time" if status == 504 else "connection closed")
            more = f"; {before:,} more since the last line like this" if before else ""
            _log.warning("%s at %s: %s, %s; the client got %d%s",
                         target.name, self.backend.pool.address, code, why, status, more)  # fmt: skip

    def _answer(self, status: int, code: str, message: str, outcome: Outcome = _OK) -> None:
        """Answer in the model's stead."""
        self.status = status
        self._end(outcome)
        keep = self.keep_alive and self.request.done and not self.services.draining
        head_only = self.head.method == b"HEAD"
        self.client.write(
            answer(status, code, message, headers=self._added_lines(), close=not keep, head_only=head_only)
        )
        self._let_go(reusable=False)
        self.client.exchange_done(keep)

    def client_lost(self, status: int = 0) -> None:
        """The client is gone, or is being sent away with `status`: whatever was going on upstream stops now."""
        if self._finished:
            return
        self.status = self.status or status
        if self.handed_over is None:
            if self.recorded:
                self.recorded = False
                self.services.count('not_recorded_total{reason="incomplete_request"}')
        elif self.response is None and (breaker := self._doubted or self.backend.breaker) is not None:
            breaker.release()
        self._end(Outcome.CLIENT_DISCONNECT)
        self._let_go(reusable=False)

    @property
    def answered(self) -> bool:
        """Whether anything of a final response was sent."""
        return self.status != 0

    # -- end

    def _let_go(self, *, reusable: bool) -> None:
        """Part with the upstream: give its connection back, or break off."""
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._connection is not None:
            self._connection.release(reusable=reusable)
            self._connection = None

    def _end(self, outcome: Outcome) -> None:
        """Write the record. Called before the last byte of the answer leaves."""
        if self._finished:
            return
        self._finished = True
        if self.request.charged:
            self.request.release()
        if self.known.internal:
            return
        self.services.count("in_flight", -1.0)
        if self.services.cutting and outcome is not _OK:
            outcome = Outcome.TRUNCATED
        if outcome is _OK and self.status < 400:  # as nearly all are
            self.services.count(self.backend.answered)
        elif self.handed_over is not None:
            self._count_trouble(outcome)
        if not self.recorded:
            return
        try:
            frame = frame_of(self, outcome, self.services.monotonic())
            if frame is not None:
                self.services.spool.append(frame)
        except Exception:  # noqa: BLE001 - fail open: a defect in bookkeeping must not cost the user the answer
            self.services.count('not_recorded_total{reason="defect"}')
            _log.exception("a request was not recorded")

    def _count_trouble(self, outcome: Outcome) -> None:
        """Count what was no good answer, for the model at hand."""
        services, arm, status = self.services, self.backend.arm.label, self.status
        if outcome.failed or (self.response is not None and status >= 500):  # also where the client left because of it
            if self._fault is None:
                self._fault = fault_of_status(status) if status >= 500 else Fault.BROKEN_OFF
            self._count_failure()
        elif outcome is _OK and self.response is not None:
            services.count(self.backend.answered)
            services.count(refused_slot(arm, status))
        elif outcome is Outcome.CLIENT_DISCONNECT and self.response is None and self._waited():
            services.count(left_slot(arm))

    def _waited(self) -> bool:
        return self.services.monotonic() - self._sent_at >= _WAITED_S

    def _count_failure(self) -> None:
        self.services.count(self.backend.answered)
        self.services.count(failed_slot(self.backend.arm.label, self._fault or Fault.CLOSED))

    @property
    def heard(self) -> float | None:
        """When bytes of the response came last, monotonic seconds."""
        return self._connection.heard_at if self._connection is not None and self._connection.answered else None
