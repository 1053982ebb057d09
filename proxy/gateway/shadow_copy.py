"""The copy of one request on its way to a challenger whose answers go to nobody.

It hears what becomes of it as an exchange does (`ports.Receiver`), but nobody waits: there is no second model to ask,
and nothing is passed on. It ends once, with the whole answer or with what went wrong, and says so to whoever owns it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, NamedTuple

from policies.records import Outcome
from proxy.gateway.backend import Backend
from proxy.gateway.capture import Capture
from proxy.gateway.faults import CopyFault, Fault, fault_of_connecting, fault_of_ending, fault_of_status
from proxy.gateway.head import RequestHead, ResponseHead
from proxy.gateway.head_cache import KnownResponse
from proxy.gateway.outbound import Peer
from proxy.gateway.ports import Dialling, Receiver, UpstreamSide

__all__ = ["Original", "ShadowCopy", "facts_of"]

_MOST_MARKS: Final = 32


class Original(NamedTuple):
    """The request of which a copy is made."""

    record_id: str
    """Hex."""
    head: RequestHead
    body: bytes
    peer: Peer
    user_hash: int | None


class ShadowCopy(Receiver):
    """One copy. Times are monotonic seconds."""

    __slots__ = ("_connection", "_dialling", "_ended", "_monotonic", "_request", "backend", "body", "check_id",
                 "deadline", "ended_at", "fault", "first_byte", "marks", "original", "outcome", "over", "response",
                 "sent_at")  # fmt: skip

    def __init__(
        self,
        original: Original,
        backend: Backend,
        check_id: int,
        *,
        limit: int,
        monotonic: Callable[[], float],
        ended: Callable[[ShadowCopy], None],
    ) -> None:
        """`limit` bytes of the answer are read; `ended` hears of the end, but not of `cancel`."""
        self.original = original
        self.backend = backend
        self.check_id = check_id
        self.body = Capture(limit)
        self.response: KnownResponse | None = None
        self.fault: str | None = None
        """One of COPY_FAULTS; None: it was answered."""
        self.outcome = Outcome.OK
        self.sent_at = self.ended_at = 0.0
        self.first_byte: float | None = None
        self.marks: list[tuple[int, float]] = []
        """When pieces of the answer came: bytes before them, and when. The first ones only."""
        self.over = False
        self.deadline = inf
        self._monotonic = monotonic
        self._ended = ended
        self._request = b""
        self._connection: UpstreamSide | None = None
        self._dialling: Dialling | None = None

    @property
    def status(self) -> int:
        """Of its answer; 0: there is none."""
        return 0 if self.response is None else self.response.head.status

    def send(self, request: bytes, timeout_s: float) -> None:
        """Send it: the whole `request` as it goes over the wire. It ends within `timeout_s` seconds."""
        self._request = request
        self.original = self.original._replace(body=b"")  # that one is not kept twice
        self.sent_at = self._monotonic()
        self.deadline = self.sent_at + timeout_s
        connection = self.backend.pool.take()
        if connection is not None:
            self._ask(connection)
        else:
            self._dialling = self.backend.pool.dial(self)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        self.over = True
        self._let_go(reusable=False)

    def expire(self) -> None:
        """See Watched."""
        self._fail(CopyFault.LATE.value, Outcome.TIMEOUT)

    # -- see Receiver

    def connected(self, connection: UpstreamSide) -> None:
        """See Receiver."""
        self._dialling = None
        if self.over:
            connection.release(reusable=False)
        else:
            self._ask(connection)

    def connect_failed(self, error: Exception) -> None:
        """See Receiver."""
        self._dialling = None
        self._fail(fault_of_connecting(error).value)

    def informational(self, head: ResponseHead) -> None:
        """See Receiver."""

    def switched(self, head: ResponseHead, data: bytes) -> None:
        """See Receiver: nobody asked for that."""
        self._fail(Fault.NO_HTTP.value)

    def responded(self, response: KnownResponse, length: int | None) -> None:
        """See Receiver."""
        self.response = response
        self._request = b""
        if self._connection is not None:
            self.first_byte = self._connection.heard_at

    def relay(self, wire: bytes, payload: bytes, done: bool) -> None:
        """See Receiver."""
        if payload:
            if self._connection is not None and len(self.marks) < _MOST_MARKS:
                self.marks.append((self.body.size, self._connection.heard_at))
            self.body.add(payload)
        if self.body.cut:
            self._fail(CopyFault.TOO_LONG.value)
        elif done:
            status = self.status
            if status >= 400:
                self.fault = (CopyFault.REFUSED if status < 500 else fault_of_status(status)).value
            self._finish(reusable=True)

    def upstream_lost(self, error: Exception | None) -> None:
        """See Receiver. A kept connection that the server had closed has asked nothing: once more, on a fresh one."""
        connection = self._connection
        if connection is not None and connection.used and not connection.answered and not self.over:
            self._let_go(reusable=False)
            self._dialling = self.backend.pool.dial(self)
        else:
            self._fail(fault_of_ending(error, begun=self.response is not None).value)

    def upstream_timed_out(self) -> None:
        """See Receiver."""
        self._fail(Fault.SILENT.value, Outcome.TIMEOUT)

    def upstream_blocked(self, blocked: bool) -> None:
        """See Receiver: all that there is to send is in the connection's hands."""

    # -- inside

    def _ask(self, connection: UpstreamSide) -> None:
        self._connection = connection
        connection.begin(self, b"POST")
        connection.send(self._request, last=True)

    def _fail(self, fault: str, outcome: Outcome = Outcome.UPSTREAM_ERROR) -> None:
        self.fault, self.outcome = fault, outcome
        self._finish(reusable=False)

    def _finish(self, *, reusable: bool) -> None:
        if self.over:
            return
        self.over = True
        self.ended_at = self._monotonic()
        self._let_go(reusable=reusable)
        self._ended(self)

    def _let_go(self, *, reusable: bool) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._connection is not None:
            self._connection.release(reusable=reusable)
            self._connection = None


def facts_of(copy: ShadowCopy, now: float) -> dict[str, Any]:
    """What the frame of a copy that has ended (at `now`, Unix seconds) says: names as in a record's (`record.py`). Its
    target and the request's headers are the record's, and not written down again."""
    began, target = copy.sent_at, copy.backend.target
    facts: dict[str, Any] = {
        "id": copy.original.record_id,
        "ck": copy.check_id,
        "t": int((now - (copy.ended_at - began)) * 1e6),
        "mid": target.model_id,
        "mn": target.name,
        "m": "POST",
        "p": "",
        "rh": {},
        "key": copy.original.user_hash,
        "st": copy.status,
        "out": int(copy.outcome),
        "dur": int((copy.ended_at - began) * 1e6),
        "ttfb": None if copy.first_byte is None else int((copy.first_byte - began) * 1e6),
        "sb": copy.body.size,
        "sh": {} if copy.response is None else copy.response.head.recorded,
        "mk": [(offset, int((at - began) * 1e6)) for offset, at in copy.marks],
    }
    if copy.fault is not None:
        facts["why"] = copy.fault
    if copy.body.cut:
        facts["ssha"] = None
    return facts
