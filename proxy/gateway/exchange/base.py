"""What is known of a request while it is on its way."""

from __future__ import annotations

from math import inf
from typing import Final

from policies.records import Arm, StickySource
from proxy.gateway.backend import Backend, ResolvedRoutes
from proxy.gateway.breaker import Breaker
from proxy.gateway.capture import Capture
from proxy.gateway.context import WorkerContext
from proxy.gateway.exchange.states import ExchangeEvent, ImpossibleEventError, State
from proxy.gateway.facts import FallbackCause
from proxy.gateway.faults import Fault
from proxy.gateway.head_cache import CachedHead, KnownResponse
from proxy.gateway.ports import ClientSide, Dialling, Minted, Receiver, UpstreamSide
from proxy.gateway.request_buffer import RequestBuffer
from proxy.gateway.routing import Awaited, conversation_of, encoding_of, key_of
from proxy.users.body_watch import Watch
from proxy.users.sticky import StickyKey
from proxy.wire.rewritable import rewritable

__all__ = ["ExchangeBase"]

_NEW: Final = State.NEW
_DONE: Final = State.DONE
_CHAMPION: Final[Arm] = Arm.CHAMPION


class ExchangeBase(Receiver):
    """The state of an exchange, and facts for its record. Times are monotonic seconds, but for `arrived_at`."""

    __slots__ = (
        "_awaited",
        "_connection",
        "_continued",
        "_dechunk",
        "_dialling",
        "_doubted",
        "_fault",
        "_held_at",
        "_key",
        "_mark_after",
        "_out",
        "_sent_at",
        "_watch",
        "_withdrawn",
        "arrived_at",
        "assigned",
        "backend",
        "client",
        "context",
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
        "response_body",
        "routes",
        "started",
        "state",
        "status",
    )

    state: State
    routes: ResolvedRoutes
    backend: Backend
    """The model at hand: who was asked last."""
    record_id: Minted
    _sent_at: float
    """When it went to the model at hand."""

    def __init__(self, context: WorkerContext, client: ClientSide, known: CachedHead, length: int | None) -> None:
        """`length` is the Content-Length in bytes, if there was one."""
        self.state = _NEW
        self.context = context
        self.client = client
        self.known = known
        self.head = head = known.head
        self.length = length
        self.keep_alive = head.keep_alive
        """Whether the client's connection stays open."""
        monotonic, now = context.monotonic, context.now
        self.started = started = monotonic()
        self.arrived_at = now()
        """Seconds since 1970."""
        self.request = RequestBuffer(context.captured_request_bytes, head.chunked, started, context.budget)
        self.response_body = Capture(context.captured_response_bytes)
        # Facts for the record, with what they are until something happens.
        self.recorded = False
        self.assigned = _CHAMPION
        self.is_exposure = True
        """Whether it is evidence in the experiment: not where QA forced the arm, nor on a side not its user's, nor
        where the control did not get it and the champion did."""
        self._withdrawn = False
        """Whether it is no evidence only because the control did not get it."""
        self.status = 0
        self.response: KnownResponse | None = None
        self.fallback: FallbackCause | None = None
        self.refusal = 0
        """The challenger's own status where the champion was asked because of it."""
        self.resent = False
        """Whether it was sent once more because a kept connection had been closed."""
        self.handed_over: float | None = None
        """When the first model got it; another one may have answered in the end."""
        self.first_byte: float | None = None
        """When the response's head was there."""
        self.marks: list[tuple[int, float]] | None = None
        """When the pieces of the response's body came that did not come with its head: bytes before it, and when."""
        self._mark_after = inf
        """A piece that comes later than that is marked."""
        self.held_s = 0.0
        """Seconds for which the client was too slow to read."""
        self._held_at: float | None = None
        """Since when it is."""
        self._continued = False
        """Whether the client was told 100 Continue."""
        self._dechunk = False
        """Whether the client knows no chunks (HTTP/1.0)."""
        self._out = b""
        """The head of the answer, until there is something to send behind it."""
        self._key = known.key
        self._awaited: Awaited = None
        self._watch: Watch | None = None
        self._connection: UpstreamSide | None = None
        self._dialling: Dialling | None = None
        self._fault: Fault | None = None
        """What went wrong at the model at hand, where anything did."""
        self._doubted: Breaker | None = None
        """Of the challenger that refused, while the champion is asked whether that was right."""

    @property
    def answered(self) -> bool:
        """Whether anything of a final response was sent."""
        return self.status != 0

    def user(self) -> StickyKey:
        """The sticky key and its source; read from the body only now if it was not needed before.

        Where the request had to go before its user was known, the user who is found later is the record's. If that one
        belongs to the other side, the request is no evidence: nobody is on both.
        """
        if self._key is not None:
            return self._key
        context = self.context
        found = key_of(self.known, self.request, self._watch, context.sticky, context.captured_request_bytes)
        key = found or (self.record_id.uuid.hex().encode(), StickySource.RANDOM)
        if self.request.done or self.state is _DONE or (self._watch is not None and self._watch.ended):
            self._key = key
            if self.handed_over is not None and self.routes.splits:
                self.is_exposure = self.is_exposure and self.routes.backend_for(key).arm is self.assigned
        return key

    def conversation(self) -> bytes | None:
        """The conversation that the body names, where the head names none."""
        if self.known.conversation is not None:
            return None
        limit = self.context.captured_request_bytes
        return conversation_of(self.known, self.request, self._watch, self.context.sticky, limit)

    def _can_change(self) -> bool:
        """Whether the body, of which nothing is sent yet, is here and can be rewritten."""
        request = self.request
        return (
            request.done
            and not self.known.unreadable
            and rewritable(request.size, encoding_of(self.known), request.unsent)
        )

    def _stray(self, event: ExchangeEvent) -> None:
        """An event that TRANSITIONS does not have for this state: ignored behind the end, else ImpossibleEventError."""
        if self.state is not _DONE:
            raise ImpossibleEventError(self.state, event)
