"""The request in our hands: what came of it, what is still to be sent on, and whether it can be sent once more."""

from __future__ import annotations

from typing import Final

from proxy.gateway.capture import Capture
from proxy.gateway.errors import RejectedError
from proxy.gateway.head import safe_trailer
from proxy.wire.brackets import brackets_in
from proxy.wire.rewritable import LONGEST_BODY

__all__ = ["Budget", "RequestBuffer"]

_LONGEST: Final = 16 << 20
"""Bytes of one body in memory. Copies on the way to a socket make it three times as much for a moment."""
_TOGETHER: Final = 256 << 20


class Budget:
    """Bytes that all requests of a worker together may hold of long bodies, beyond what their records keep."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = _TOGETHER


class RequestBuffer(Capture):
    """A request's body on its way through, in pieces: the copy for the record, and what is still to be sent on."""

    __slots__ = ("_budget", "_chunked", "_tail", "_unsent", "beyond", "charged", "done", "ended", "trailer")

    def __init__(self, limit: int, chunked: bool, started: float, budget: Budget) -> None:
        Capture.__init__(self, limit)
        self._chunked = chunked
        self._budget = budget
        self.beyond = 0
        """Lists and objects behind `data`, of a body that is short enough to be rewritten."""
        self.charged = 0
        """Bytes taken from the budget, until `release`."""
        self._unsent: bytes | bytearray = b""
        self._tail: bytearray | None = None
        """What is behind `data`, while it is kept."""
        self.done = False
        """Whether all of it has come."""
        self.ended = started
        """When the last of it came, monotonic seconds; when it began, where it came in one piece."""
        self.trailer = b""

    def store(self, payload: bytes, done: bool, max_bytes: int) -> None:
        """Take more of the body. Raises RejectedError where it grows over `max_bytes` (0: no limit), or where its
        trailer says what only a head may say."""
        if payload:
            size = len(payload)
            if not self.size and size <= self._limit:  # the usual case: the first piece is all of it
                self.size = size
                self.data = self._unsent = payload
            else:
                kept = len(self.data)
                self.add(payload)
                if self.cut and self.size <= LONGEST_BODY:
                    self.beyond += brackets_in(payload, len(self.data) - kept)
                if self._tail is not None and self.cut:
                    self._keep(payload)
                if self._unsent:
                    self._unsent = self._unsent if isinstance(self._unsent, bytearray) else bytearray(self._unsent)
                    self._unsent += payload
                else:
                    self._unsent = payload
            if 0 < max_bytes < self.size:
                raise RejectedError(413, "the body is longer than gateway.max_body_bytes")
        if self.trailer and not safe_trailer(self.trailer):
            raise RejectedError(400, "a trailer names a field that belongs in the head")
        self.done = done

    def take(self) -> bytes:
        """The payload that is not sent yet; it counts as sent from now on."""
        unsent, self._unsent = self._unsent, b""
        return unsent if isinstance(unsent, bytes) else bytes(unsent)

    @property
    def unsent(self) -> bytes | bytearray:
        """What is not sent yet: all of it before anything was."""
        return self._unsent

    def framed(self, payload: bytes) -> bytes:
        """`payload` as it goes on the wire: in a chunk of its own where the request is chunked, with the end of
        the body where that has come."""
        if not self._chunked:
            return payload
        chunk = b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
        return chunk + b"0\r\n" + self.trailer + b"\r\n" if self.done else chunk

    def keep(self) -> None:
        """Keep what the record leaves out, too, so that the whole body can be sent once more. Nothing is sent yet."""
        self._tail = bytearray()
        if self.cut:
            self._keep(self._unsent)

    def reserve(self, size: int) -> bool:
        """Take memory for `size` more bytes; False where there is none left for them."""
        if self.size > _LONGEST or size > self._budget.left:
            return False
        self._budget.left -= size
        self.charged += size
        return True

    def release(self) -> None:
        """It will not be sent once more, and does not wait any longer."""
        self._tail = None
        self._budget.left += self.charged
        self.charged = 0

    def _keep(self, newest: bytes | bytearray) -> None:
        """Keep what is `newest` in the body, as far as it is neither in `data` nor kept, while there is room."""
        assert self._tail is not None  # who calls has looked
        size = self.size - len(self.data) - len(self._tail)
        if self.reserve(size):
            self._tail += newest[-size:]
        else:
            self._tail = None

    def rewind(self) -> bool:
        """Make the whole body unsent again; False where it is no longer there."""
        if self.cut and self._tail is None:
            return False
        self._unsent = bytes(self.data) if self._tail is None else bytes(self.data) + self._tail
        return True
