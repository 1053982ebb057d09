"""Names and measures of the spool on disk, shared by the writer and the reader.

    <root>/<writer>/lock              held with flock by the writer while it lives; in it the secret of its seals
    <root>/<writer>/NNNNNNNNNN.seg    frames; the number grows, only the last one still grows
    <root>/<writer>/NNNNNNNNNN.kept   a segment that is stored, kept for a while for a database that goes back
    <root>/<writer>/NNNNNNNNNN.damaged    a segment with unreadable bytes, kept for a person, read by nobody

A writer is one process: `w<worker>-<pid>-<start in Unix ms>-<8 random hex digits>`; the last part tells hosts apart
that share a database, where the rest may be the same (containers). A directory appears under that name only after
its lock is held, so whoever finds the lock free knows that the writer is dead. A writer that finds files of its own
gone puts them back under the same names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from proxy.spool.seals import SECRET_BYTES, UNSEALED, Keyed, Seal, seal_in, secret_of

__all__ = [
    "DAMAGED",
    "KEPT",
    "LOCK_FILE",
    "SCRATCH",
    "SEGMENT",
    "ends_of",
    "is_alive",
    "kept_name",
    "kept_of",
    "seal_of",
    "segment_name",
    "segments_of",
    "spool_bytes",
    "writers_of",
]

LOCK_FILE: Final = "lock"
SEGMENT: Final = ".seg"
KEPT: Final = ".kept"
SCRATCH: Final = ".tmp"
"""Of files that are being made."""
DAMAGED: Final = ".damaged"


def segment_name(number: int) -> str:
    """File name of segment `number`."""
    return f"{number:010d}{SEGMENT}"


def kept_name(number: int) -> str:
    """File name of segment `number` once it is stored and kept."""
    return f"{number:010d}{KEPT}"


def writers_of(root: Path) -> list[str]:
    """Writers that have a directory, in name order; empty where the spool does not exist yet."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith("w") and entry.is_dir())
    except FileNotFoundError:
        return []


def segments_of(directory: Path) -> list[int]:
    """Numbers of a writer's segments, ascending, but for those that are only kept; empty where it is gone."""
    return _numbers(directory, SEGMENT)


def kept_of(directory: Path) -> list[int]:
    """Numbers of a writer's segments that are stored and kept, ascending."""
    return _numbers(directory, KEPT)


def _numbers(directory: Path, suffix: str) -> list[int]:
    try:
        with os.scandir(directory) as entries:
            stems = [entry.name[: -len(suffix)] for entry in entries if entry.name.endswith(suffix)]
            return sorted(int(stem) for stem in stems if stem.isdecimal())  # others are somebody's copies
    except FileNotFoundError:
        return []


def spool_bytes(root: Path) -> int:
    """Bytes of all segments below `root`, damaged ones included, without what is stored and only kept: that makes room
    whenever it is wanted. A file that vanishes meanwhile counts nothing, nor does a folder that cannot be read."""
    total = 0
    for writer in writers_of(root):
        try:
            with os.scandir(root / writer) as entries:
                for entry in entries:
                    if entry.name.endswith((SEGMENT, DAMAGED)):
                        total += entry.stat().st_size
        except OSError:
            continue
    return total


def ends_of(root: Path) -> dict[str, tuple[int, int]]:
    """How far each writer has come: its last segment, and how long that is. What is let go of changes nothing there
    while the writer lives."""
    ends = {}
    for writer in writers_of(root):
        with contextlib.suppress(OSError):
            if numbers := segments_of(root / writer):
                ends[writer] = numbers[-1], (root / writer / segment_name(numbers[-1])).stat().st_size
    return ends


def is_alive(directory: Path) -> bool:
    """True while the writer of this directory holds its lock."""
    try:
        descriptor = os.open(directory / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def seal_of(directory: Path, number: int, head: bytes) -> Seal:
    """The seal of the segment of this writer that begins with `head`, even where that is damaged. Raises OSError."""
    found = seal_in(head)
    if found is None:
        try:
            secret = (directory / LOCK_FILE).read_bytes()
        except FileNotFoundError:
            secret = b""
        found = Keyed(secret_of(secret, number)) if len(secret) == SECRET_BYTES else UNSEALED
    return found
