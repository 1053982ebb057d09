"""What a spool holds: frames, one per exchange or batch of votes.

On disk a frame is

    length  u32 LE   bytes of the payload
    crc32   u32 LE   of the payload
    payload

and a payload is a kind byte, three u32 LE lengths, a JSON object (facts, short keys), and up to two blobs
(captured request body, captured response body, both exactly as they were on the wire). One frame is one
`write()`, so a killed process leaves at most one torn frame, at the end, which the checksum tells apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

import orjson

__all__ = [
    "HEADER",
    "KIND_EXCHANGE",
    "KIND_FEEDBACK",
    "MAX_FRAME",
    "Frame",
    "Scan",
    "TornFrameError",
    "decode_payload",
    "encode_frame",
    "frame_end",
    "iter_frames",
    "next_frame",
    "scan",
]

HEADER: Final = struct.Struct("<II")
_PARTS: Final = struct.Struct("<BIII")
MAX_FRAME: Final = 1 << 30
KIND_EXCHANGE: Final = 1
KIND_FEEDBACK: Final = 2


class TornFrameError(ValueError):
    """Bytes that are no whole frame: the end of a segment whose writer was killed, or damage."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. `meta` is the JSON object; the blobs are empty where nothing was captured."""

    kind: int
    meta: dict[str, Any]
    request: bytes
    response: bytes


def encode_frame(
    kind: int, meta: dict[str, Any] | bytes, request: bytes | bytearray = b"", response: bytes | bytearray = b""
) -> bytes:
    """One frame, ready for a single `write()`. `meta` may be JSON text already."""
    facts = meta if isinstance(meta, bytes) else orjson.dumps(meta)
    lead = _PARTS.pack(kind, len(facts), len(request), len(response)) + facts
    length = len(lead) + len(request) + len(response)
    checksum = crc32(response, crc32(request, crc32(lead)))
    return b"".join((HEADER.pack(length, checksum), lead, request, response))


def decode_payload(payload: bytes) -> Frame:
    """The frame in `payload`; raises TornFrameError where the parts do not add up."""
    try:
        kind, n_facts, n_request, n_response = _PARTS.unpack_from(payload)
        start = _PARTS.size
        if start + n_facts + n_request + n_response != len(payload):
            raise TornFrameError("the parts of a frame do not add up to its length")
        facts_end = start + n_facts
        request_end = facts_end + n_request
        meta = orjson.loads(payload[start:facts_end])
    except (struct.error, orjson.JSONDecodeError) as exc:
        raise TornFrameError(f"unreadable frame: {exc}") from exc
    return Frame(kind, meta, payload[facts_end:request_end], payload[request_end:])


def frame_end(data: bytes, offset: int) -> int | None:
    """Where the frame at `offset` ends; None while it is not all there.

    Raises TornFrameError where the bytes are no frame: an absurd length or a wrong checksum.
    """
    if offset + HEADER.size > len(data):
        return None
    length, checksum = HEADER.unpack_from(data, offset)
    if not _PARTS.size <= length <= MAX_FRAME:
        raise TornFrameError(f"frame at offset {offset} claims {length} bytes")
    end: int = offset + HEADER.size + length
    if end > len(data):
        return None
    if crc32(memoryview(data)[offset + HEADER.size : end]) != checksum:
        raise TornFrameError(f"checksum of the frame at offset {offset} is wrong")
    return end


def iter_frames(data: bytes, offset: int = 0) -> list[tuple[Frame, int]]:
    """The whole, valid frames in `data` from `offset` on, each with the offset behind it.

    Stops silently at an incomplete last frame (more may come); raises TornFrameError at a frame whose
    checksum is wrong.
    """
    frames = []
    while (end := frame_end(data, offset)) is not None:
        frames.append((decode_payload(data[offset + HEADER.size : end]), end))
        offset = end
    return frames


def next_frame(data: bytes, offset: int) -> int | None:
    """Where the first whole frame behind the unreadable bytes at `offset` starts, or None.

    Looks where facts begin (an object with at least one key, 21 bytes into a frame) instead of at every byte.
    """
    lead = HEADER.size + _PARTS.size
    found = data.find(b'{"', offset + 1 + lead)
    while found >= 0:
        try:
            if frame_end(data, found - lead) is not None:
                return found - lead
        except TornFrameError:
            pass
        found = data.find(b'{"', found + 1)
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
    """True where the unreadable bytes are more than a last frame cut short."""


def scan(data: bytes, *, max_frames: int, final: bool) -> Scan:
    """Take frames from `data`, skipping what is unreadable up to the next frame that is.

    `final` says that no byte will ever follow: a last frame that is not all there is then skipped, else awaited.
    """
    found = Scan()
    while len(found.frames) < max_frames and found.offset < len(data):
        try:
            end = frame_end(data, found.offset)
            if end is not None:
                found.frames.append(decode_payload(data[found.offset + HEADER.size : end]))
                found.ends.append(end)
                found.offset = end
                continue
            torn = False
        except TornFrameError:
            torn = True
        follows = next_frame(data, found.offset) if torn or final else None
        if follows is None and not final:
            break
        found.damaged |= torn or follows is not None
        resume = len(data) if follows is None else follows
        found.skipped += resume - found.offset
        found.offset = resume
    return found
