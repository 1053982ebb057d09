"""What a spool holds: frames, one per exchange, per batch of votes, and per answer to a copy of a request.

On disk a frame is its length and seal (`proxy.spool.seals`), which only its writer can make, and a payload: a kind
byte, three u32 LE lengths, a JSON object (facts, short keys) or its packed form (`proxy.spool.packed`), and up to two
blobs (captured request body, captured response body, both exactly as they were on the wire). One frame is one
`write()`, so a killed process leaves at most one torn frame, at the end, which the seal tells apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from zlib_ng.zlib_ng import crc32

from proxy.private import open_private
from proxy.spool.packed import is_packed, unpack_facts
from proxy.spool.seals import HEAD_BYTES, UNSEALED, Keyed, Seal, new_secret, seal_in, segment_head

__all__ = [
    "KIND_EXCHANGE",
    "KIND_FEEDBACK",
    "KIND_SHADOW",
    "LEAD_BYTES",
    "MAX_FRAME",
    "Frame",
    "TornFrameError",
    "add_frame",
    "decode_at",
    "decode_payload",
    "encode_frame",
    "file_of",
    "frame_end",
    "iter_frames",
]

_LENGTH: Final = struct.Struct("<I")
_PARTS: Final = struct.Struct("<BIII")
LEAD_BYTES: Final = _PARTS.size
"""What a payload has before its facts."""
MAX_FRAME: Final = 1 << 30
KIND_EXCHANGE: Final = 1
KIND_FEEDBACK: Final = 2
KIND_SHADOW: Final = 3


class TornFrameError(ValueError):
    """Bytes that are no whole frame: the end of a segment whose writer was killed, or damage."""


@dataclass(slots=True)
class Frame:
    """One decoded frame. `meta` is the JSON object (any JSON, in one that is not ours); the blobs are empty where
    nothing was captured. Nobody changes one; not frozen, for it is made for every record."""

    kind: int
    meta: Any
    request: bytes
    response: bytes


def encode_frame(kind: int, meta: Any, request: bytes | bytearray = b"", response: bytes | bytearray = b"") -> bytes:
    """The payload of one frame, for `SpoolWriter.append`, which seals it. `meta` is a JSON object (any JSON, in a frame
    that is not ours), or its text already."""
    facts = meta if isinstance(meta, bytes) else orjson.dumps(meta)
    return b"".join((_PARTS.pack(kind, len(facts), len(request), len(response)), facts, request, response))


def decode_payload(payload: bytes) -> Frame:
    """The frame in `payload`; raises TornFrameError where the parts do not add up."""
    return decode_at(payload, 0, len(payload))


def decode_at(data: bytes, start: int, end: int) -> Frame:
    """The frame whose payload stands there in `data`; raises as `decode_payload`. Its parts alone are copied: of a
    stream they are 20 KB."""
    if end - start < _PARTS.size:
        raise TornFrameError("a frame is shorter than its lengths")
    kind, n_facts, n_request, n_response = _PARTS.unpack_from(data, start)
    facts_at = start + _PARTS.size
    request_at = facts_at + n_facts
    response_at = request_at + n_request
    if response_at + n_response != end:
        raise TornFrameError("the parts of a frame do not add up to its length")
    facts = data[facts_at:request_at]
    try:
        meta = unpack_facts(facts) if is_packed(facts) else orjson.loads(facts)
    except ValueError as exc:  # orjson.JSONDecodeError is one
        raise TornFrameError(f"unreadable frame: {exc}") from exc
    return Frame(kind, meta, data[request_at:response_at], data[response_at:end])


def frame_end(data: bytes, offset: int, seal: Seal = UNSEALED, at: int = 0) -> int | None:
    """Where the frame at `offset` ends; None while it is not all there. `data` begins at offset `at` of its file.

    Raises TornFrameError where the bytes are no frame: a length that cannot be, or a wrong seal.
    """
    start = offset + seal.size
    if start > len(data):
        return None
    (length,) = _LENGTH.unpack_from(data, offset)
    checksum = seal.checksum(data, offset, at + offset) if _PARTS.size <= length <= MAX_FRAME else -1
    if checksum < 0:
        raise TornFrameError(f"no frame at offset {at + offset}")
    end: int = start + length
    if end > len(data):
        return None
    if crc32(memoryview(data)[start:end]) != checksum:
        raise TornFrameError(f"the seal of the frame at offset {at + offset} is wrong")
    return end


def iter_frames(data: bytes) -> list[tuple[Frame, int]]:
    """The whole, valid frames of a file, each with the offset behind it.

    Stops silently at an incomplete last frame (more may come); raises TornFrameError at a frame whose seal is wrong.
    """
    frames = []
    seal = seal_in(data[:HEAD_BYTES]) or UNSEALED
    offset = seal.begins
    while (end := frame_end(data, offset, seal)) is not None:
        frames.append((decode_at(data, offset + seal.size, end), end))
        offset = end
    return frames


def file_of(frames: Iterable[bytes]) -> bytes:
    """A whole file of these frames (as `encode_frame` makes them), under a seal of its own."""
    secret = new_secret()
    seal, content = Keyed(secret), bytearray(segment_head(secret))
    for frame in frames:
        content += seal.of(frame, len(content)) + frame
    return bytes(content)


def add_frame(path: Path, frame: bytes) -> None:
    """Append a frame (as `encode_frame` makes it) to a file of its own, which is made for this user alone. Not for two
    at once. Raises OSError."""
    head = path.read_bytes()[:HEAD_BYTES] if path.exists() else b""
    with open_private(path, "ab") as file:
        if not head:
            file.write(file_of([frame]))
        else:
            seal = seal_in(head) or UNSEALED
            file.write(seal.of(frame, file.seek(0, os.SEEK_END)) + frame)
