"""Content encodings, undone for the copy in the log: gzip, deflate, br, zstd and chains of them.

The copy may be cut, damaged or hostile, so every stage gives what could be decoded and stops at a limit; a few
kilobytes must not become gigabytes of memory.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

__all__ = ["UnknownEncodingError", "decode"]

_SLICE: Final = 512
_BLOCK: Final = 1 << 16
_MAX_WINDOW: Final = 1 << 27
_MAX_MEMBERS: Final = 256
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15


class UnknownEncodingError(ValueError):
    """A content encoding that is not ours to decode; the body stays as it was."""


def decode(body: bytes, content_encoding: str, limit: int) -> bytes:
    """`body` without its content encodings, at most `limit` (> 0) bytes of it.

    Cut or damaged data gives the part before the fault. Raises UnknownEncodingError for any coding but gzip,
    x-gzip, deflate (with or without zlib's wrapper), br, zstd and identity.
    """
    codings = [coding.strip().lower() for coding in content_encoding.split(",")]
    for coding in reversed(codings):
        if coding in ("", "identity"):
            continue
        if (stage := _STAGES.get(coding)) is None:
            raise UnknownEncodingError(f"content-encoding {coding[:40]!r}: only gzip, deflate, br and zstd are decoded")
        body = stage(body, limit)
    return body[:limit]


def _gunzip(data: bytes, limit: int) -> bytes:
    """All members of a gzip file, as RFC 1952 has them concatenated; trailing garbage is ignored."""
    out = bytearray()
    for _ in range(_MAX_MEMBERS):
        part, data = _inflate(data, _GZIP, limit - len(out))
        out += part
        if not data or len(out) >= limit:
            break
    return bytes(out)


def _undeflate(data: bytes, limit: int) -> bytes:
    """HTTP's deflate is zlib's format; some servers send it without the wrapper."""
    wrapped = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return _inflate(data, _ZLIB if wrapped else _RAW, limit)[0]


def _inflate(data: bytes, window_bits: int, limit: int) -> tuple[bytes, bytes]:
    """One zlib stream and what follows it (nothing, where the stream is damaged or the limit reached)."""
    stream = zlib.decompressobj(window_bits)
    try:
        out = stream.decompress(data, limit)
    except zlib.error:
        return _inflate_damaged(data, window_bits, limit), b""
    return out, stream.unused_data


def _inflate_damaged(data: bytes, window_bits: int, limit: int) -> bytes:
    """What comes before the fault: zlib drops the output of the call that fails, so the calls are small."""
    stream = zlib.decompressobj(window_bits)
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for start in range(0, len(data), _SLICE):  # pragma: no branch - the fault comes before the end
            out += stream.decompress(data[start : start + _SLICE], limit)
    return bytes(out)


def _unbrotli(data: bytes, limit: int) -> bytes:
    stream = brotli.Decompressor()
    out = bytearray()
    with contextlib.suppress(brotli.error):
        for start in range(0, len(data), _BLOCK):
            out += stream.process(data[start : start + _BLOCK], output_buffer_limit=limit)
            if len(out) >= limit:
                break
    return bytes(out)


def _unzstd(data: bytes, limit: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
        io.BytesIO(data), read_across_frames=True
    )
    out = bytearray()
    with contextlib.suppress(zstandard.ZstdError):
        while len(out) < limit and (part := reader.read(min(_BLOCK, limit - len(out)))):
            out += part
    return bytes(out)


_STAGES: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "br": _unbrotli, "zstd": _unzstd,
}  # fmt: skip
