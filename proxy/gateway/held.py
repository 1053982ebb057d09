"""The request in our hands: what came of it, what is still to be sent on, and whether it can be sent once more."""

from __future__ import annotations

from proxy.gateway.capture import Capture
from proxy.gateway.errors import RejectedError
from proxy.gateway.head import safe_trailer

__all__ = ["HeldRequest"]


class HeldRequest(Capture):
    """The copy of a request's body, and of that what is still to be sent: it comes in pieces and goes in pieces."""

    __slots__ = ("_chunked", "_unsent", "done", "ended", "trailer")

    def __init__(self, limit: int, chunked: bool, started: float) -> None:
        Capture.__init__(self, limit)
        self._chunked = chunked
        self._unsent: bytes | bytearray = b""
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
                self.add(payload)
                if self._unsent:
                    self._unsent = self._unsent if isinstance(self._unsent, bytearray) else bytearray(self._unsent)
                    self._unsent += payload
                else:
                    self._unsent = payload
            if 0 < max_bytes < self.size:
                raise RejectedError(413, "the body is longer than gateway.max_body_bytes")
        if self.trailer and not safe_trailer(self.trailer):
            raise RejectedError(400, "a trailer names a field that belongs into the head")
        self.done = done

    def take(self) -> bytes:
        """The payload that is not sent yet; it counts as sent from now on."""
        unsent, self._unsent = self._unsent, b""
        return unsent if isinstance(unsent, bytes) else bytes(unsent)

    def framed(self, payload: bytes) -> bytes:
        """`payload` as it goes on the wire: in a chunk of its own where the request is chunked, with the end of
        the body where that has come."""
        if not self._chunked:
            return payload
        chunk = b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
        return chunk + b"0\r\n" + self.trailer + b"\r\n" if self.done else chunk

    def rewind(self) -> bool:
        """Make the whole body unsent again; False where its beginning is no longer kept whole."""
        if self.cut:
            return False
        self._unsent = bytes(self.data)
        return True
