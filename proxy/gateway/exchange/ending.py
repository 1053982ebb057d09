"""The end of an exchange: the model's connection goes back, the record is appended, and then the last byte leaves."""

from __future__ import annotations

import logging
from typing import Final

from policies.records import Outcome
from proxy.gateway.errors import answer
from proxy.gateway.exchange.base import ExchangeBase
from proxy.gateway.exchange.states import ExchangeEvent, State
from proxy.gateway.facts import ExchangeFacts
from proxy.gateway.faults import Fault, failed_slot, fault_of_status, left_slot, refused_slot
from proxy.gateway.outbound import response_lines
from proxy.gateway.record import frame_of
from proxy.gateway.routing import encoding_of
from proxy.wire.rewritable import rewritable

__all__ = ["Ending"]

_DONE: Final = State.DONE
_TUNNEL: Final = State.TUNNEL
_OK: Final = Outcome.OK
_WAITED_S: Final = 1.0
"""A client that leaves sooner has changed its mind."""
_log = logging.getLogger(__name__)


class Ending(ExchangeBase):
    """The last part of an exchange."""

    __slots__ = ()

    def client_lost(self, status: int = 0) -> None:
        """The client is gone, or is being sent away with `status`: whatever was going on upstream stops now, for a GPU
        must not go on generating."""
        if self.state is _DONE or self.state is _TUNNEL:
            self._stray(ExchangeEvent.CLIENT_LOST)
            return
        self.status = self.status or status
        if self.handed_over is None:
            if self.recorded:
                self.recorded = False
                self.context.count('not_recorded_total{reason="incomplete_request"}')
        elif self.response is None and (breaker := self._doubted or self.backend.breaker) is not None:
            breaker.release()
        self._end(Outcome.CLIENT_DISCONNECT)
        self._release_upstream(reusable=False)

    def _answer(self, status: int, code: str, message: str, outcome: Outcome = _OK) -> None:
        """Answer in the model's stead."""
        self.status = status
        self._end(outcome)
        keep = self.keep_alive and self.request.done and not self.context.shutdown.draining
        head_only = self.head.method == b"HEAD"
        self.client.write(
            answer(status, code, message, headers=self._added_lines(), close=not keep, head_only=head_only)
        )
        self._release_upstream(reusable=False)
        self.client.exchange_done(keep)

    def _added_lines(self) -> bytes:
        """What we add to a response: whole lines."""
        added = b"x-ratchet-record-id: %b\r\n" % self.record_id.token if self.recorded else b""
        if self.context.loops.adds_lines and not self.known.internal:
            added += response_lines(self.backend.arm, self.context.gateway)
        return added

    def _release_upstream(self, *, reusable: bool) -> None:
        """Give the model's connection back, or break off what is going on there."""
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._connection is not None:
            self._connection.release(reusable=reusable)
            self._connection = None

    def _end(self, outcome: Outcome) -> None:
        """Write the record. Called before the last byte of the answer leaves: whoever got a whole one has a record."""
        if self.state is _DONE:
            return
        self.state = _DONE
        if self.request.charged:
            self.request.release()
        if self.known.internal:
            return
        context = self.context
        count, monotonic = context.count, context.monotonic
        count("in_flight", -1.0)
        if context.shutdown.cutting and outcome is not _OK:
            outcome = Outcome.TRUNCATED
        if outcome is _OK and self.status < 400:  # as nearly all are
            count(self.backend.answered)
        elif self.handed_over is not None:
            self._count_trouble(outcome)
        if not self.recorded:
            return
        try:
            facts = self._facts(outcome, monotonic())
            frame = frame_of(facts, context)
            if (frame is None or context.spool.append(frame)) and self.routes.copies and context.shadow is not None:
                context.shadow.offer(facts, self.client)
        except Exception:  # noqa: BLE001 - fail open: a defect in bookkeeping must not cost the user the answer
            count('not_recorded_total{reason="defect"}')
            _log.exception("a request was not recorded")

    def _facts(self, outcome: Outcome, ended: float) -> ExchangeFacts:
        """All that the record is made of; nothing of it changes any more. In the order of its fields: names would cost
        as much again."""
        connection, request = self._connection, self.request
        context, whole = self.context, request.done and not request.cut
        left = whole and context.leaves_users and self._key is None and not self.routes.needs_users
        key = None if left else self.user()  # may show that it is no evidence
        if self.routes.asks_otherwise and (
            self.known.unreadable or not rewritable(request.size, encoding_of(self.known), request.data, request.beyond)
        ):
            self.is_exposure = False  # whichever arm it is for: who answers must not decide what counts
        unread = request.cut or not context.leaves_conversations
        return ExchangeFacts(
            self.record_id,
            self.arrived_at,
            self.started,
            self.handed_over,
            self.first_byte,
            connection.heard_at if connection is not None and connection.answered else None,
            ended,
            self.held_s,
            self.known,
            self.client.network,
            key,
            self.conversation() if unread else None,
            self.routes,
            self.backend,
            self.assigned,
            self.is_exposure,
            request,
            self.response,
            self.response_body,
            self.status,
            outcome,
            self.fallback,
            self.refusal,
            self.resent,
            self.marks,
        )

    # -- counting

    def _count_trouble(self, outcome: Outcome) -> None:
        """Count what was no good answer, for the model at hand."""
        count, arm, status = self.context.count, self.backend.arm.label, self.status
        if outcome.failed or (self.response is not None and status >= 500):  # also where the client left because of it
            if self._fault is None:
                self._fault = fault_of_status(status) if status >= 500 else Fault.BROKEN_OFF
            self._count_failure()
        elif outcome is _OK and self.response is not None:
            count(self.backend.answered)
            count(refused_slot(arm, status))
        elif outcome is Outcome.CLIENT_DISCONNECT and self.response is None and self._has_waited():
            count(left_slot(arm))

    def _count_failure(self) -> None:
        self.context.count(self.backend.answered)
        self.context.count(failed_slot(self.backend.arm.label, self._fault or Fault.CLOSED))

    def _has_waited(self) -> bool:
        return self.context.monotonic() - self._sent_at >= _WAITED_S
