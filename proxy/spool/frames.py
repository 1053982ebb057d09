"""What a spool holds: frames, one per exchange, per batch of votes, and per answer to a copy of a request.

On disk a frame is its length and seal (`proxy.spool.seals`), which only its writer can make, and a payload: a kind
byte, three u32 LE lengths, a JSON object (facts, short keys) or its packed form (`proxy.spool.packed`), and up to two
blobs (captured request body, captured response body, both exactly as they were on the wire). One frame is one
`write()`, so a killed process leaves at most one torn frame, at the end, which the seal tells apart.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.private import open_private
from proxy.spool.packed import MAGIC, is_packed, unpack_facts
from proxy.spool.seals import HEAD_BYTES, UNSEALED, Keyed, Seal, new_secret, seal_in, segment_head

__all__ = [
    "KIND_EXCHANGE",
    "KIND_FEEDBACK",
    "KIND_SHADOW",
    "MAX_FRAME",
    "Frame",
    "Scan",
    "TornFrameError",
    "add_frame",
    "decode_payload",
    "encode_frame",
    "file_of",
    "frame_end",
    "iter_frames",
    "next_frame",
    "scan",
]

_LENGTH: Final = struct.Struct("<I")
_PARTS: Final = struct.Struct("<BIII")
MAX_FRAME: Final = 1 << 30
_FACTS_BEGIN: Final = re.compile(rb'\{"|' + re.escape(MAGIC))
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
    return _decode(payload, 0, len(payload))


def _decode(data: bytes, start: int, end: int) -> Frame:
    """The frame whose payload stands there in `data`. Its parts alone are copied: of a stream they are 20 KB."""
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
    if not _PARTS.size <= length <= MAX_FRAME or not seal.fits(data, offset, at + offset):
        raise TornFrameError(f"no frame at offset {at + offset}")
    end: int = start + length
    if end > len(data):
        return None
    if data[offset:start] != seal.of(memoryview(data)[start:end], at + offset):
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
        frames.append((_decode(data, offset + seal.size, end), end))
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


def next_frame(data: bytes, offset: int, seal: Seal = UNSEALED, at: int = 0) -> int | None:
    """Where the first whole frame behind the unreadable bytes at `offset` starts, or None.

    Looks where facts begin (packed, or an object with at least one key, so many bytes into a frame) instead of at every
    byte.
    """
    lead = seal.size + _PARTS.size
    for found in _FACTS_BEGIN.finditer(data, offset + 1 + lead):
        begin = found.start() - lead
        try:
            if frame_end(data, begin, seal, at) is not None:
                return begin
        except TornFrameError:
            pass
    return None


@dataclass(slots=True)
class Scan:
    """What `scan` made of some bytes."""

    frames: list[Frame] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Offset behind each frame."""
    offset: int = 0
    """How far the bytes are dealt with: behind the last frame, or behind unreadable bytes that follow it."""
    skipped: int = 0
    """Unreadable bytes before `offset`."""
    damaged: bool = False
    """True where the unreadable bytes are more than a last frame cut short, and than zeros: those are what a deletion
    has overwritten, or a power cut has left, and tell nobody anything."""


def scan(data: bytes, *, max_frames: int, final: bool, seal: Seal = UNSEALED, at: int = 0) -> Scan:
    """Take frames from `data`, skipping what is unreadable up to the next frame that is. `data` begins at offset `at`
    of its file (behind its head), whose frames have this seal; offsets that are given are those in `data`.

    `final` says that no byte will ever follow: a last frame that is not all there is then skipped, else awaited.
    """
    found = Scan()
    while len(found.frames) < max_frames and found.offset < len(data):
        try:
            end = frame_end(data, found.offset, seal, at)
            if end is not None:
                found.frames.append(_decode(data, found.offset + seal.size, end))
                found.ends.append(end)
                found.offset = end
                continue
            torn = False
        except TornFrameError:
            torn = True
        follows = next_frame(data, found.offset, seal, at) if torn or final else None
        if follows is None and not final:
            break
        resume = len(data) if follows is None else follows
        found.damaged |= (torn or follows is not None) and bool(data[found.offset : resume].strip(b"\0"))
        found.skipped += resume - found.offset
        found.offset = resume
    return found
