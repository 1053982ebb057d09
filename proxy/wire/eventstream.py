"""AWS's binary event stream (`application/vnd.amazon.eventstream`), decoded incrementally and strictly.

A frame is its length, the length of its headers, a CRC-32 of those two, headers, payload, and a CRC-32 of all before
it; numbers are big-endian. Where a length or a checksum is wrong nobody can say where the next frame begins, so the
decoder stops there and says why: what came before stands, what comes after is not guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

__all__ = ["EventMessage", "EventStreamDecoder", "HeaderValue", "begins_frames"]

_MAX_FRAME: Final = 24 << 20
"""Payloads have at most 16 MiB, says the specification; its own libraries take 24."""
_MAX_HEADERS: Final = 128 << 10
_MOST_FRAMES: Final = 50_000
_MOST_HEADERS: Final = 200_000
"""Of one stream: each takes its time, and needs a few bytes. A real one has three headers in each of some thousands."""
_PRELUDE: Final = Struct(">III")
_CRC: Final = Struct(">I")
_SHORTEST: Final = _PRELUDE.size + _CRC.size

HeaderValue = bool | int | bytes | str
"""A byte, short, int, long or timestamp (in milliseconds) is an int; a UUID is its 16 bytes."""

_NUMBERS: Final = {2: Struct(">b"), 3: Struct(">h"), 4: Struct(">i"), 5: Struct(">q"), 8: Struct(">q")}
_BYTES, _TEXT, _UUID = 6, 7, 9


class EventMessage(NamedTuple):
    """One message of the stream."""

    headers: dict[str, HeaderValue]
    payload: bytes
    end: int
    """How many bytes of the stream had come when the frame was whole."""


class EventStreamDecoder:
    """Turns bytes into frames: `feed` as they come, `finish` at the end. It never raises."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._read = 0
        self._frames = self._headers = 0
        self.trouble: str | None = None
        """Why the stream cannot be read to its end, where that is so."""
        self.cut = False
        """That it ends in the middle of a frame is all the trouble."""

    def feed(self, chunk: bytes) -> list[EventMessage]:
        """The frames that `chunk` completes; none after the first that is damaged."""
        frames: list[EventMessage] = []
        if self.trouble is not None:
            return frames
        self._buffer += chunk
        at = 0
        try:
            while (size := _size(self._buffer, at)) is not None and len(self._buffer) - at >= size:
                frames.append(_frame(bytes(self._buffer[at : at + size]), self._read + at + size, self._more))
                at += size
        except ValueError as exc:
            self.trouble = str(exc)
        del self._buffer[:at]
        self._read += at
        return frames

    def _more(self, headers: int) -> None:
        """Count a header, or (0) a frame. Raises ValueError where that is one too many."""
        self._headers += headers
        self._frames += not headers
        if self._headers > _MOST_HEADERS or self._frames > _MOST_FRAMES:
            raise ValueError("more frames or headers than are read")

    def finish(self) -> None:
        """The stream is over: a frame that has begun is cut."""
        if self._buffer and self.trouble is None:
            self.trouble = "the last frame is cut"
            self.cut = True


def begins_frames(body: bytes) -> bool:
    """Whether `body` begins with the lengths of a frame, and their checksum."""
    try:
        return _size(body, 0) is not None
    except ValueError:
        return False


def _size(buffer: bytes | bytearray, at: int) -> int | None:
    """The length of the frame at `at`; None where its prelude has not come. ValueError where it is none."""
    if len(buffer) - at < _PRELUDE.size:
        return None
    size, headers, checksum = _PRELUDE.unpack_from(buffer, at)
    if crc32(buffer[at : at + 8]) != checksum:
        raise ValueError("the checksum of a frame's lengths is wrong")
    if not _SHORTEST <= size <= _MAX_FRAME or headers > min(size - _SHORTEST, _MAX_HEADERS):
        raise ValueError(f"a frame of {size} bytes with {headers} bytes of headers is none")
    return int(size)


def _frame(data: bytes, end: int, more: Callable[[int], None]) -> EventMessage:
    more(0)
    if crc32(data[:-4]) != _CRC.unpack_from(data, len(data) - 4)[0]:
        raise ValueError("the checksum of a frame is wrong")
    payload_at = _PRELUDE.size + _PRELUDE.unpack_from(data)[1]
    return EventMessage(_headers(data[_PRELUDE.size : payload_at], more), data[payload_at:-4], end)


def _headers(data: bytes, more: Callable[[int], None]) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(data):
        more(1)
        name, at = _sized(data, at, 1)
        kind, at = _take(data, at, 1)
        value, at = _value(data, at, kind[0])
        headers[name.decode("utf-8", "replace")] = value
    return headers


def _value(data: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    if kind in (0, 1):
        return kind == 0, at
    if (number := _NUMBERS.get(kind)) is not None:
        raw, at = _take(data, at, number.size)
        return int(number.unpack(raw)[0]), at
    if kind == _UUID:
        return _take(data, at, 16)
    if kind not in (_BYTES, _TEXT):
        raise ValueError(f"a header's value is of the unknown type {kind}")
    raw, at = _sized(data, at, 2)
    return (raw if kind == _BYTES else raw.decode("utf-8", "replace")), at


def _sized(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Bytes behind their own length, a number of `width` bytes, and where they end."""
    size, at = _take(data, at, width)
    return _take(data, at, int.from_bytes(size, "big"))


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise ValueError("a header reaches beyond the headers")
    return data[at : at + size], at + size
