"""The request arrives: its head, then its body as it comes, until it is clear which model serves it."""

from __future__ import annotations

from typing import Final

from policies.records import Arm
from proxy.gateway.backend import Backend
from proxy.gateway.exchange.relaying import Relaying
from proxy.gateway.exchange.states import TAKES_BODY, ExchangeEvent, State
from proxy.gateway.routing import awaited_of, encoding_of, forced_backend
from proxy.wire.rewritable import rewritable

__all__ = ["Exchange"]

_NEW: Final = State.NEW
_AWAITING_BODY: Final = State.AWAITING_BODY
_CONTROL: Final = Arm.CONTROL
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange(Relaying):
    """A request and its answer: the first part, called by the client's connection. See the package."""

    __slots__ = ()

    # -- begin

    def begin(self, payload: bytes, done: bool) -> None:
        """Start, with what has come of the body (`done`: that is all of it). Raises RejectedError."""
        if self.state is not _NEW:
            self._stray(ExchangeEvent.BEGIN)
            return
        context, known = self.context, self.known
        if known.internal:
            self.request.store(payload, done, context.max_body_bytes)
            self._begin_internal()
            return
        count = context.count
        count("requests_total")
        count("in_flight")
        if b"x-ratchet-admin-token" in self.head.fields:
            context.admin.hold_back_guesses(self.head, self.client.peer)
        self.request.store(payload, done, context.max_body_bytes)
        current = context.routes
        self.routes = routes = context.router.resolve(current())
        self.backend = routes.champion
        if known.recorded:
            self.recorded = True
            if context.refuses_when_full and context.spool.full:
                self._refuse()
                return
        else:
            count('not_recorded_total{reason="skip_path"}')
        self.record_id = context.ids.mint(self.arrived_at)
        if not done:
            self._awaited = awaited_of(known, routes, context.sticky, self._forced())
        if payload and (self._awaited is not None or self.request.cut):
            self._read(payload)
        if self._awaited is not None and self._may_wait(len(payload)):
            self.state = _AWAITING_BODY
            if self.head.expects_continue:
                self._continued = True
                self.client.write(_CONTINUE)
            return
        self._awaited = None
        self._route()

    def receive(self, payload: bytes, done: bool) -> None:
        """Take more of the body. Raises RejectedError for a body that is not forwarded."""
        state = self.state
        if state not in TAKES_BODY:
            self._stray(ExchangeEvent.RECEIVE)
            return
        if done:
            self.request.ended = self.context.monotonic()
        self.request.store(payload, done, self.context.max_body_bytes)
        waits = state is _AWAITING_BODY
        if payload and (self._watch is not None or self.request.cut or (waits and not done)):
            self._read(payload)
        if not waits:
            self._send_on(done)
        elif done or not self._may_wait(len(payload)):
            gave_up, self._awaited = self._awaited == "whole" and not done, None
            self._route(waits=not gave_up)

    def _may_wait(self, size: int) -> bool:
        """Whether more of the body is waited for, of which `size` bytes have come now: while it can still say what it
        is held for, which the SDKs put behind the messages, and of a long one as far as there is room."""
        if self._awaited == "whole":
            request = self.request
            return rewritable(request.size, None) and (not request.cut or request.reserve(size))
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
            watch = self._watch = known.watch(self.context.sticky)
            if before := self.request.size - len(payload):
                watch.feed(bytes(self.request.data[:before]))
        watch.feed(payload)

    def _begin_internal(self) -> None:
        """Our own URLs: one more upstream, neither recorded nor counted."""
        if self.context.internal is None:
            self._answer(503, "side_unavailable", "this process does not serve feedback and health")
            return
        if self.head.expects_continue and not self.request.done:
            self.client.write(_CONTINUE)
        self._forward(self.context.internal)

    def _refuse(self) -> None:
        self.recorded = False
        self.context.count('not_recorded_total{reason="refused"}')
        self._answer(
            503, "spool_full", "the request cannot be recorded now (spool.when_full = refuse); try again later"
        )

    # -- route

    def _route(self, *, waits: bool = True) -> None:
        """Choose the model. `waits`: more of the body may be waited for, where that is to be rewritten."""
        routes = self.routes
        backend = routes.champion
        if b"x-ratchet-arm" in self.head.fields and (forced := self._forced()) is not None:  # QA
            self.is_exposure = False
            backend = forced
        elif routes.splits:
            backend = routes.backend_for(self.user())
        if routes.asks_otherwise and self._changes(backend):
            if waits and self._waits_for_all():
                return
            if not self._can_change():
                self.context.count("not_rewritten_total")
                self.is_exposure = False  # also where only the memory for it was lacking
                if backend.arm is not _CONTROL:  # who is held back keeps the old champion, with every request
                    backend = routes.champion
        self.assigned = backend.arm
        if backend.breaker is not None and not backend.breaker.allow(self.context.monotonic()):
            self.fallback = "breaker"
            self.context.count('fallbacks_total{cause="breaker"}')
            self._not_taken(backend)
            backend = routes.champion
        if backend.breaker is not None and (self.request.cut or not self.request.done):
            self.request.keep()  # the champion may have to answer
        self._forward(backend)

    def _changes(self, backend: Backend) -> bool:
        """Whether the request is asked otherwise of `backend`, or of the champion in its stead."""
        known, request = self.known, self.request
        changes = backend.rewriter is not None or (backend.breaker is not None and self.routes.champion.rewriter)
        return bool(changes) and (known.unreadable or (known.maybe_json and not (request.done and not request.size)))

    def _waits_for_all(self) -> bool:
        """Whether the rest of the body is waited for."""
        request = self.request
        if (
            request.done
            or self.known.unreadable
            or not rewritable(max(request.size, self.length or 0), encoding_of(self.known))
        ):
            return False
        self._awaited = "whole"
        self.state = _AWAITING_BODY
        if self.head.expects_continue and not (self._continued or request.size):
            self._continued = True
            self.client.write(_CONTINUE)
        return True

    def _forced(self) -> Backend | None:
        """The arm that QA asks for, if any."""
        return forced_backend(self.head, self.routes, self.context.admin)
