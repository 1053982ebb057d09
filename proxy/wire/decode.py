"""Content encodings, undone for the copy in the log: gzip, deflate, br, zstd and chains of them.

The copy may be cut, damaged or hostile, so every stage gives what could be decoded, and all stages together have one
budget of bytes: a few kilobytes must not become gigabytes of memory, and no header may ask for more than three stages.
A header may also be wrong: what does not begin as the coding that it names is not decoded.
"""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple

import brotli
import zstandard

__all__ = ["MAX_CODINGS", "MAX_WINDOW", "Decoded", "NotEncodedError", "UnknownEncodingError", "codings_of", "decode",
           "unpacked"]  # fmt: skip

MAX_CODINGS: Final = 3
"""Nobody needs more than one; each takes its time."""
MAX_WINDOW: Final = 8 << 20
"""What a zstd decoder keeps of its output at most: RFC 9659 allows no more in HTTP. (brotli's has 16 MiB at most.)"""

_SLICE: Final = 512
_BLOCK: Final = 1 << 16
_HEAD: Final = 512
_BUDGET: Final = 4 << 20
_MAX_MEMBERS: Final = 256
"""Of a gzip file, empty ones included: each takes time."""
_GZIP: Final = 31
_ZLIB: Final = 15
_RAW: Final = -15


class UnknownEncodingError(ValueError):
    """A content encoding that is not ours to decode; the body stays as it was."""


class NotEncodedError(UnknownEncodingError):
    """A body that is not what its content encoding says: it stays as it was, and may well be readable so."""


class Decoded(NamedTuple):
    """A body without its content encodings."""

    body: bytes
    cut: bool
    """Whether there is more of it than may be decoded."""


def codings_of(content_encoding: str) -> list[str]:
    """The codings that a Content-Encoding names, in lower case and without those that do nothing.

    Raises UnknownEncodingError for any coding but gzip, x-gzip, deflate, br, zstd and identity, and for too many.
    """
    codings = [coding for name in content_encoding.split(",") if (coding := name.strip().lower()) not in _NONE]
    if len(codings) > MAX_CODINGS:
        raise UnknownEncodingError(f"content-encoding names {len(codings)} codings; at most {MAX_CODINGS} are decoded")
    for coding in codings:
        if coding not in _STAGES:
            raise UnknownEncodingError(f"content-encoding {coding[:40]!r}: only gzip, deflate, br and zstd are decoded")
    return codings


def decode(body: bytes, content_encoding: str, limit: int) -> bytes:
    """`body` without its content encodings, at most `limit` (> 0) bytes of it; as `unpacked`, whose budget is `limit`,
    or 4 MiB where that is more."""
    return _undone(body, codings_of(content_encoding), limit, max(limit, _BUDGET)).body[:limit]


def unpacked(body: bytes, content_encoding: str, budget: int) -> Decoded:
    """`body` without its content encodings, for which at most `budget` (> 0) bytes are decoded, all stages together.

    Cut or damaged data gives the part before the fault. Raises UnknownEncodingError for codings that are not decoded,
    and where the budget does not suffice for the first byte; NotEncodedError where the body is something else. A body
    without codings is as it was.
    """
    codings = codings_of(content_encoding)
    if not codings:
        return Decoded(body, cut=False)
    plain, full = _undone(body, codings, budget + 1, budget + 1)
    return (
        Decoded(plain[:-1], cut=True) if full else Decoded(plain, cut=False)
    )  # one byte more shows that there is more


def _undone(body: bytes, codings: list[str], limit: int, budget: int) -> Decoded:
    """`body` without `codings`, at most `limit` bytes of it, and whether it is as long as it may be."""
    room = limit
    for number, coding in enumerate(reversed(codings), 1):
        if budget <= 0:
            raise UnknownEncodingError(f"content-encoding {coding}: more would be decoded than is allowed")
        room = budget if number < len(codings) else min(limit, budget)
        plain, state = _STAGES[coding](body, room)
        plain = plain[:room]  # brotli takes its limit for a hint
        if (state is _State.DAMAGED and not plain) or (state is not _State.WHOLE and _is_text(body)):
            raise NotEncodedError(f"content-encoding {coding}: the body is something else")
        budget -= len(plain)
        body = plain
    return Decoded(body, cut=len(body) >= room)


def _is_text(body: bytes) -> bool:
    """Whether `body` begins as something that a person can read, which no coding's output does."""
    try:
        head = body[:_HEAD].decode()
    except UnicodeDecodeError as exc:
        if exc.start < len(body[:_HEAD]) - 3:
            return False
        head = body[: exc.start].decode()
    return all(char.isprintable() or char in "\t\r\n" or (char.isspace() and char >= "\xa0") for char in head)


class _State(Enum):
    """How well the data was what it should be."""

    WHOLE = auto()
    """It ended where its coding says."""
    OPEN = auto()
    """It was cut, or longer than the limit."""
    DAMAGED = auto()
    """It is not, or at some place no longer, of its coding."""


_Part = tuple[bytes, _State]


def _gunzip(data: bytes, limit: int) -> _Part:
    """All members of a gzip file, as RFC 1952 has them concatenated; trailing garbage is ignored."""
    out = bytearray()
    at, state = 0, _State.WHOLE
    for _ in range(_MAX_MEMBERS):
        part, end, found = _inflate(data, at, _GZIP, limit - len(out))
        out += part
        if at == 0 or part:
            state = found
        if found is not _State.WHOLE or end == len(data) or len(out) >= limit:
            break
        at = end
    return bytes(out), state


def _undeflate(data: bytes, limit: int) -> _Part:
    """HTTP's deflate is zlib's format; some servers send it without the wrapper."""
    wrapped = len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    part, end, state = _inflate(data, 0, _ZLIB if wrapped else _RAW, limit)
    return part, _State.DAMAGED if state is _State.WHOLE and end < len(data) else state


def _inflate(data: bytes, at: int, window_bits: int, limit: int) -> tuple[bytes, int, _State]:
    """One zlib stream from `at` on, and where it ends."""
    stream = zlib.decompressobj(window_bits)
    out = bytearray()
    for start in range(at, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        try:
            out += stream.decompress(block, limit - len(out))
        except zlib.error:
            return _inflate_damaged(data[at:], window_bits, limit), len(data), _State.DAMAGED
        if stream.eof:
            return bytes(out), start + len(block) - len(stream.unused_data), _State.WHOLE
        if len(out) >= limit:
            break
    return bytes(out), len(data), _State.OPEN


def _inflate_damaged(data: bytes, window_bits: int, limit: int) -> bytes:
    """What comes before the fault: zlib drops the output of the call that fails, so the calls are small."""
    stream = zlib.decompressobj(window_bits)
    out = bytearray()
    with contextlib.suppress(zlib.error):
        for start in range(0, len(data), _SLICE):  # pragma: no branch - the fault comes before the end
            out += stream.decompress(data[start : start + _SLICE], max(1, limit - len(out)))
    return bytes(out)


def _unbrotli(data: bytes, limit: int) -> _Part:
    stream = brotli.Decompressor()
    out = bytearray()
    state = _State.OPEN
    try:
        for start in range(0, len(data), _BLOCK):
            out += stream.process(data[start : start + _BLOCK], output_buffer_limit=limit - len(out))
            if len(out) >= limit:
                break
        if stream.is_finished():
            state = _State.WHOLE
    except brotli.error:
        state = _State.DAMAGED
    return bytes(out), state


def _unzstd(data: bytes, limit: int) -> _Part:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    reader = decompressor.stream_reader(io.BytesIO(data), read_across_frames=True)
    out = bytearray()
    state = _State.OPEN  # the reader does not say whether it came to an end
    try:
        while len(out) < limit and (part := reader.read(min(_BLOCK, limit - len(out)))):
            out += part
    except zstandard.ZstdError:
        state = _State.DAMAGED
    return bytes(out), state


_NONE: Final = frozenset({"", "identity"})
_STAGES: Final[dict[str, Callable[[bytes, int], _Part]]] = {
    "gzip": _gunzip, "x-gzip": _gunzip, "deflate": _undeflate, "br": _unbrotli, "zstd": _unzstd,
}  # fmt: skip
