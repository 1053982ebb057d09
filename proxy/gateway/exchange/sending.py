"""The request on its way to a model's server: what goes there, once more where a connection was stale, and to the
champion where the challenger, or the old champion, fails."""

from __future__ import annotations

import logging
from typing import Final

from policies.records import Arm, Outcome
from proxy.gateway.backend import Backend
from proxy.gateway.breaker import Breaker
from proxy.gateway.errors import RejectedError
from proxy.gateway.exchange.ending import Ending
from proxy.gateway.exchange.states import ASKED, ExchangeEvent, State
from proxy.gateway.facts import FallbackCause
from proxy.gateway.faults import Fault, fault_of_connecting, fault_of_ending, fault_of_status
from proxy.gateway.model_field import replace_model
from proxy.gateway.outbound import request_head, side_request_head
from proxy.gateway.ports import UpstreamSide

__all__ = ["Sending"]

_CONNECTING: Final = State.CONNECTING
_SENDING: Final = State.SENDING
_AWAITING_ANSWER: Final = State.AWAITING_ANSWER
_RELAYING: Final = State.RELAYING
_CONTROL: Final = Arm.CONTROL
_UNAVAILABLE: Final = frozenset((502, 503, 504))
_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_SHORTEST_STALE_S: Final = 0.02
_LONGEST_STALE_S: Final = 0.1
"""Bounds of a round trip: a busy event loop hears of a close late; and no close is on its way for longer."""
_log = logging.getLogger(__name__)


class Sending(Ending):
    """The second part of an exchange."""

    __slots__ = ()

    # -- forward

    def _forward(self, backend: Backend, *, fresh: bool = False) -> None:
        """Send the request to `backend`, on a new connection if `fresh`. Raises RejectedError at the first time."""
        if self.head.dotted and not self.known.internal:
            self._check_path(backend)
        self.backend = backend
        monotonic = self.context.monotonic
        self._sent_at = now = monotonic()
        if self.handed_over is None:
            self.handed_over = now
        connection = None if fresh else backend.pool.take()
        if connection is not None:
            self._begin_on(connection)
        else:
            self.state = _CONNECTING
            self._dialling = backend.pool.dial(self)

    def _check_path(self, backend: Backend) -> None:
        """Refuse a path that might climb out of the prefix of whoever is to answer, or may have to in the end."""
        if backend.prefix or self.routes.champion.prefix:
            if backend.breaker is not None:
                backend.breaker.release()
            raise RejectedError(400, "the path has dot segments ('.' or '..', perhaps encoded): they could leave the "
                                     "path of the model's URL")  # fmt: skip

    def connected(self, connection: UpstreamSide) -> None:
        """See Receiver."""
        if self.state is not _CONNECTING:
            self._stray(ExchangeEvent.CONNECTED)
            connection.release(reusable=False)
            return
        self._dialling = None
        self._begin_on(connection)

    def _begin_on(self, connection: UpstreamSide) -> None:
        """Send what has come of the request."""
        self._connection = connection
        connection.begin(self, self.head.method)
        request = self.request
        if request.done:
            self.state = _AWAITING_ANSWER
        else:
            self.state = _SENDING
            self.client.backpressure(False)
        changes = self.backend.rewriter is not None and self.known.maybe_json and self._can_change()
        head, payload = self._opening(request.take(), changes=changes)
        connection.send(head + request.framed(payload), last=request.done)

    def _opening(self, body: bytes, *, changes: bool) -> tuple[bytes, bytes]:
        """The head for the chosen model, and `body` (all or its beginning) with that model's name in it; `changes`: it
        is all, and asked otherwise."""
        head, backend, length, context = self.head, self.backend, self.length, self.context
        if backend.verbatim and not head.expects_continue:
            return self.known.opening(backend, length), body
        if self.known.internal:
            address = context.trust.address(head, self.client.network, self.client.peer.host)
            return side_request_head(head, address, length), body
        sent, model = body, backend.target.model
        if changes and backend.rewriter is not None:
            body = backend.rewriter.body(head.target.decode("latin-1"), body)
        if model is not None and body and "content-encoding" not in head.recorded:
            spans = self._watch.spans if self._watch is not None and body is sent else None
            body = replace_model(body, model, spans)
        if length is not None:
            length += len(body) - len(sent)
        expect = head.expects_continue and not (self._continued or self.request.size)
        adds_lines = context.loops.adds_lines
        if expect or adds_lines or (length != self.length and not self.known.varies):
            extra = context.loops.lines_for(head, self.client.peer) if adds_lines else ()
            return request_head(head, backend, length=length, extra=extra, expect=expect), body
        return self.known.opening(backend, length), body

    def _send_on(self, done: bool) -> None:
        """More of the body has come, `done`: all of it; where there is no connection yet, no more is read for now."""
        if self._connection is None:
            self.client.backpressure(True)
            return
        if done and self.state is _SENDING:
            self.state = _AWAITING_ANSWER
        self._connection.send(self.request.framed(self.request.take()), last=done)

    def upstream_blocked(self, blocked: bool) -> None:
        """See Receiver: the model's server is slow to read; so are we."""
        if self.state not in ASKED and self.state is not _RELAYING:
            self._stray(ExchangeEvent.UPSTREAM_BLOCKED)
        elif not self.request.done:
            self.client.backpressure(blocked)
        elif not blocked and self._connection is not None:
            self._connection.await_answer()

    # -- no answer: once more, or the champion, or an answer of our own

    def connect_failed(self, error: Exception) -> None:
        """See Receiver."""
        if self.state is not _CONNECTING:
            self._stray(ExchangeEvent.CONNECT_FAILED)
            return
        self._dialling = None
        self._fault = fault_of_connecting(error)
        self._not_taken(self.backend)
        if not self._fall_back("connect"):
            if self._withdrawn and self.backend is self.routes.champion:
                self.is_exposure = True  # their servers are away together: a failure of either, as its users see it
            self._give_up(502, "upstream_unreachable", error)

    def _lost_unanswered(self, error: Exception | None) -> None:
        """The connection ended before the head of an answer."""
        connection = self._connection
        if connection is not None and self._was_stale(connection) and self._retry():
            self.context.count("stale_retries_total")
            return
        self._fault = fault_of_ending(error, begun=False)
        if not self._fall_back("connect"):
            self._give_up(502, "upstream_failed", error)

    def _silent(self) -> None:
        """No answer has begun in time."""
        self._fault = Fault.SILENT
        if not self._fall_back("timeout"):
            self._give_up(504, "upstream_timeout", None)

    def _was_stale(self, connection: UpstreamSide) -> bool:
        """Whether the server closed a kept connection before it can have read the request.

        Either it was closed already, or that shows within a round trip. What goes later may have died of the request,
        or on its way to an answer: it is asked for again only where asking twice changes nothing.
        """
        if not connection.used or connection.answered:
            return False
        if not connection.written or self.head.method in _IDEMPOTENT or b"idempotency-key" in self.head.fields:
            return True
        round_trip_s = min(_LONGEST_STALE_S, max(_SHORTEST_STALE_S, 2 * connection.dialled_s))
        return self.context.monotonic() - self._sent_at < round_trip_s

    def _retry(self) -> bool:
        """Once more on a fresh connection, which is never stale: so there is no third time."""
        if not self.request.rewind():
            return False
        self.resent = True
        self._release_upstream(reusable=False)
        self._forward(self.backend, fresh=True)
        return True

    def _fall_back(self, cause: FallbackCause) -> bool:
        """Let the champion answer for a failed challenger, if the request is still whole in our hands."""
        breaker = self.backend.breaker
        if breaker is None:
            return False
        breaker.failure(self.context.monotonic())
        self.context.router.breaker_changed()
        if not self.request.rewind():
            self.context.count(f'fallbacks_impossible_total{{cause="{cause}"}}')
            return False
        self.fallback = cause
        self.context.count(f'fallbacks_total{{cause="{cause}"}}')
        self._count_failure()
        self._ask_champion()
        return True

    def _not_taken(self, backend: Backend) -> None:
        """The model did not get the request. Of an old champion that is gone nothing follows about the new one: counted
        as its failures, they would make any new one look good. What it took and failed is evidence, as in a test."""
        if backend.arm is _CONTROL and self.is_exposure:
            self.is_exposure, self._withdrawn = False, True

    def _ask_champion(self) -> None:
        self._fault = None
        self._release_upstream(reusable=False)
        self._forward(self.routes.champion)

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
        before = self.context.log_throttle.of((target.name, code), self.context.monotonic())
        if before is not None:
            why = error or ("no answer in time" if status == 504 else "connection closed")
            more = f"; {before:,} more since the last line like this" if before else ""
            _log.warning("%s at %s: %s, %s; the client got %d%s",
                         target.name, self.backend.pool.address, code, why, status, more)  # fmt: skip

    # -- an answer: what it says of the challenger

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
            self.context.router.breaker_changed()
        elif status in self.context.fallback_statuses and self.request.rewind():
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
            self.context.count('fallbacks_total{cause="both_refused"}')
            return
        self.fallback = "status"
        self.context.count('fallbacks_total{cause="status"}')
        if status < 400:
            breaker.failure(self.context.monotonic())
            self.context.router.breaker_changed()
        else:
            breaker.release()
