"""Content encodings undone piece by piece, for a body that passes: gzip, deflate, br, zstd and chains of them.

`proxy.wire.decode` does it for a body that is there. Here, too, a few kilobytes must not become gigabytes: what comes
out is limited by what went in, and whoever asks for more is not read any further.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import brotli
import zstandard

from proxy.wire.decode import MAX_WINDOW, codings_of

__all__ = ["Unpacker"]

_FREE: Final = 512 << 10
_RATIO: Final = 8
"""Bytes that may come out: so many, and so many times what went in. JSON rarely packs better than
that, and what is more takes milliseconds in an event loop."""
_MAX_MEMBERS: Final = 256
"""Of a gzip file, empty ones included: each takes time, and of empty ones a few bytes become a million."""
_DAMAGED: Final = (zlib.error, brotli.error, zstandard.ZstdError)


class _Full(Exception):
    """More would come out than is wanted."""


class _Stage(Protocol):
    def feed(self, data: bytes, room: int) -> bytes:
        """What comes out for `data`. Raises _Full where it is more than `room` bytes, or what `_DAMAGED` lists."""
        ...


class Unpacker:
    """Undoes the content encodings of a body that is fed in pieces."""

    def __init__(self, content_encoding: str) -> None:
        """Raises UnknownEncodingError for any coding but gzip, x-gzip, deflate, br, zstd and identity, or too many."""
        self._stages = [_STAGES[coding]() for coding in reversed(codings_of(content_encoding))]
        self._room = _FREE
        self.ended = False
        """Whether nothing more comes out: the data is damaged, or more than is wanted."""

    def feed(self, data: bytes) -> bytes:
        """What comes out for the next bytes; what was good before a fault is lost with the piece that has it."""
        if self.ended:
            return b""
        self._room += _RATIO * len(data)
        try:
            for stage in self._stages:
                data = stage.feed(data, self._room)
        except (_Full, *_DAMAGED):
            self.ended = True
            return b""
        self._room -= len(data)
        return data


class _Zlib:
    """gzip with all its members, or deflate with or without zlib's wrapper."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._first = b""
        self._members = 1
        self._stream = zlib.decompressobj(31) if gzip else None

    def feed(self, data: bytes, room: int) -> bytes:
        if self._stream is None:
            self._first = data = self._first + data
            if len(data) < 2:
                return b""
            wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(15 if wrapped else -15)
        out = bytearray()
        while data and not (self._stream.eof and not self._gzip):
            if self._stream.eof:
                self._members += 1
                if self._members > _MAX_MEMBERS:
                    raise _Full
                self._stream = zlib.decompressobj(31)
            out += self._stream.decompress(data, room + 1 - len(out))
            if len(out) > room:
                raise _Full
            data = self._stream.unused_data
        return bytes(out)


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes, room: int) -> bytes:
        out: bytes = self._stream.process(data, output_buffer_limit=room + 1)
        if len(out) > room:
            raise _Full
        return out


class _Sink(io.BytesIO):
    """Takes what comes out, block by block."""

    room = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]  # the only thing that it is given
        if self.tell() + len(data) > self.room:
            raise _Full
        return super().write(data)


class _Zstd:
    def __init__(self) -> None:
        self._sink = _Sink()
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._stream = decompressor.stream_writer(self._sink, closefd=False)

    def feed(self, data: bytes, room: int) -> bytes:
        self._sink.room = room
        self._stream.write(data)
        out = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return out


_STAGES: Final[dict[str, Callable[[], _Stage]]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "x-gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}
