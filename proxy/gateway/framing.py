"""Where a message body ends: by length, by chunks, or by the end of the connection. Sans-io.

`feed(data)` returns the payload in `data` and what lies behind the end of the body; `done` says whether that
end was seen. Cutting the input differently changes neither the payload nor the end.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Protocol

from proxy.gateway.head import TRAILERS

__all__ = ["Body", "ChunkedBody", "CloseBody", "FramingError", "LengthBody"]

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_MAX_SIZE_LINE: Final = 1024
_MOST_DIGITS: Final = 8
"""Of a size that is guessed: no piece that is read at once is longer."""
_MAX_TRAILERS: Final = 16384


class FramingError(ValueError):
    """The chunks of a body do not add up."""


class Body(Protocol):
    """A body being read."""

    __slots__ = ()

    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Payload in `data`, and the rest of `data` behind the body's end. Raises FramingError."""
        ...


class LengthBody(Body):
    """A body of known length in bytes."""

    __slots__ = ("done", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See Body.feed."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data, b""
        end = self.remaining
        self.remaining = 0
        self.done = True
        return (data, b"") if size == end else (data[:end], data[end:])


class CloseBody(Body):
    """A body that the end of the connection ends."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See Body.feed."""
        return data, b""


_READS_SIZE: Final = 0
_READS_DATA: Final = 1
_READS_CRLF: Final = 2
_READS_TRAILER: Final = 3
"""What comes next of a chunked body."""


class ChunkedBody(Body):
    """A chunked body. `trailer` holds the trailer section's lines with their CRLFs once `done`."""

    __slots__ = ("_left", "_partial", "_state", "done", "trailer")

    def __init__(self) -> None:
        self.done = False
        self.trailer = b""
        self._state = _READS_SIZE
        self._left = 0
        self._partial = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """See Body.feed."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        if self._state == _READS_SIZE and (payload := _one_chunk(data)):
            return payload, b""
        pieces: list[bytes] = []
        position = 0
        size = len(data)
        while position < size:
            if self._state == _READS_DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _READS_CRLF
                continue
            end = self._line(data, position)
            if end < 0:
                self._partial = data[position:]
                break
            position = end
            if self.done:
                return b"".join(pieces), data[position:]
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), b""

    def _line(self, data: bytes, position: int) -> int:
        """Read what is no payload at `position`; the position behind it, or -1 where it is not yet whole."""
        if self._state == _READS_CRLF:
            if not b"\r\n".startswith(data[position : position + 2]):
                raise FramingError("a chunk is longer than its size says")
            if len(data) - position < 2:
                return -1
            self._state = _READS_SIZE
            return position + 2
        if self._state == _READS_TRAILER:
            return self._trailers(data, position)
        match = _SIZE.match(data, position)
        if match is None:
            if data.find(b"\n", position) >= 0 or len(data) - position > _MAX_SIZE_LINE:
                raise FramingError("a chunk has no valid size line")
            return -1
        self._left = int(match[1], 16)
        self._state = _READS_DATA if self._left else _READS_TRAILER
        return match.end()

    def _trailers(self, data: bytes, position: int) -> int:
        match = TRAILERS.match(data, position)
        if match is not None:
            self.done = True
            self.trailer = data[position : match.end() - 2]
            return match.end()
        whole = data.startswith(b"\r\n", position) or data.find(b"\r\n\r\n", position) >= 0
        if whole or len(data) - position > _MAX_TRAILERS:
            raise FramingError("the trailer section is not valid")
        return -1


def _one_chunk(data: bytes) -> bytes:
    """The payload where `data` is one whole chunk, as it usually is in a stream of events; b"" where it is not, or
    where its size is written as hardly anybody does."""
    line = _size_line(len(data))
    if line and data.endswith(b"\r\n"):
        begins = data.startswith(line)  # a tuple of both would cost more than the second, which is rare
        if begins or data.startswith(line.upper()):
            return data[len(line) : -2]
    return b""


@lru_cache(4096)
def _size_line(whole: int) -> bytes:
    """The size line of the chunk that is `whole` bytes long with its frame; b"" where there is none. Remembered:
    streams have the same few."""
    for digits in range(1, _MOST_DIGITS + 1):
        payload = whole - digits - len(b"\r\n\r\n")
        if payload > 0 and len(line := b"%x\r\n" % payload) == digits + 2:
            return line
    return b""
