"""Frames in the bytes of a segment: what of them is whole, and where reading goes on behind what is not.

A file is read in pieces that stay in the processor's cache until their frames are taken out of them: in one piece of
8 MiB, reading streams took half as long again.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.spool.frames import (
    LEAD_BYTES,
    MAX_FRAME,
    Frame,
    TornFrameError,
    decode_at,
    frame_end,
)
from proxy.spool.layout import seal_of
from proxy.spool.packed import MAGIC
from proxy.spool.seals import HEAD_BYTES, UNSEALED, Seal, seal_in

__all__ = ["Scan", "scan", "scan_file"]

_PIECE: Final = 256 << 10
"""What is read of a file at a time."""
_FACTS_BEGIN: Final = re.compile(rb'\{"|' + re.escape(MAGIC))


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
    frames, ends, head = found.frames, found.ends, seal.size
    while len(frames) < max_frames and found.offset < len(data):
        try:
            end = frame_end(data, found.offset, seal, at)
            if end is not None:
                frames.append(decode_at(data, found.offset + head, end))
                ends.append(end)
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


def scan_file(
    path: Path, number: int, start: int, *, finished: bool, max_frames: int, most_bytes: int, piece: int = _PIECE
) -> tuple[Scan, int, bool]:
    """As `scan`, of segment `number` from its offset `start` on, in pieces, until `max_frames` are read or almost
    `most_bytes` (or one frame that is larger); offsets are those in the file. Returns where that begins, too: behind
    the head of the segment; and whether it reaches to the end of the file. `finished` says that no byte will ever
    follow there.

    Raises OSError where not even the first piece can be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        head = os.pread(descriptor, HEAD_BYTES, 0)
        seal = seal_of(path.parent, number, head)
        begin = max(start, min(seal.begins, len(head)) if finished else seal.begins)
        found, size, to_end = Scan(offset=begin), piece, False
        while (
            not to_end
            and len(found.frames) < max_frames
            and (found.offset == begin or found.offset - begin + size <= most_bytes)
        ):
            try:
                data = os.pread(descriptor, size, found.offset)
            except OSError:
                if found.offset == begin:
                    raise
                break  # what is before the fault is read all the same
            to_end = len(data) < size
            left = max_frames - len(found.frames)
            part = scan(data, max_frames=left, final=finished and to_end, seal=seal, at=found.offset)
            _add(found, part)
            size = piece if part.offset else _wanted(data, size, seal)  # wider where it holds not one whole frame
    finally:
        os.close(descriptor)
    if start < begin and seal_in(head) is None:  # written only in part, or damaged
        found.skipped += begin
        found.damaged |= begin == seal.begins
    return found, begin, to_end


def _add(found: Scan, part: Scan) -> None:
    """A piece that begins where `found` ends."""
    at = found.offset
    found.frames += part.frames
    found.ends += [at + end for end in part.ends]
    found.offset = at + part.offset
    found.skipped += part.skipped
    found.damaged |= part.damaged


def _wanted(data: bytes, size: int, seal: Seal) -> int:
    """How much to read to get the frame at the beginning of `data`, which is longer than `size`."""
    end: int = seal.size + int.from_bytes(data[:4], "little")
    return end if size < end <= seal.size + MAX_FRAME else 4 * size


def next_frame(data: bytes, offset: int, seal: Seal = UNSEALED, at: int = 0) -> int | None:
    """Where the first whole frame behind the unreadable bytes at `offset` starts, or None.

    Looks where facts begin (packed, or an object with at least one key, so many bytes into a frame) instead of at every
    byte.
    """
    lead = seal.size + LEAD_BYTES
    for found in _FACTS_BEGIN.finditer(data, offset + 1 + lead):
        begin = found.start() - lead
        try:
            if frame_end(data, begin, seal, at) is not None:
                return begin
        except TornFrameError:
            pass
    return None
