"""Removing for good what users said: of stored segments, and of what was set aside for a person."""

from __future__ import annotations

import os
import sys
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

from proxy.private import replace_private
from proxy.spool.frames import KIND_EXCHANGE, KIND_SHADOW, Frame, encode_frame, file_of
from proxy.spool.layout import DAMAGED, writers_of
from proxy.spool.scanning import scan
from proxy.spool.seals import HEAD_BYTES, UNSEALED, seal_in

__all__ = ["drop_aside", "overwrite", "zero"]

_AT_ONCE: Final = 8 << 20


def drop_aside(root: Path, rejected: str, users: Set[int]) -> int:
    """Remove what was set aside for a person in the spool below `root`: damaged segments, whose readable frames are
    stored, and of the file `rejected` the frames of these users (keyed hashes), votes, and what does not say whose it
    is. Returns how many files and frames that were. Raises OSError."""
    damaged = [path for writer in writers_of(root) for path in (root / writer).glob(f"*{DAMAGED}")]
    for path in damaged:
        path.unlink(missing_ok=True)
    path = root / rejected
    if not path.exists():
        return len(damaged)
    data = path.read_bytes()
    seal = seal_in(data[:HEAD_BYTES]) or UNSEALED
    found = scan(data[seal.begins :], max_frames=sys.maxsize, final=True, seal=seal, at=seal.begins)
    frames = found.frames
    kept = [frame for frame in frames if _others(frame, users)]
    if len(kept) < len(frames) or found.skipped:
        replace_private(path, file_of(encode_frame(f.kind, f.meta, f.request, f.response) for f in kept))
    return len(damaged) + len(frames) - len(kept)


def overwrite(path: Path) -> int:
    """Overwrite a file that nobody writes to any more, and delete it; returns its size."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return 0
    try:
        size = os.fstat(descriptor).st_size
        zero(descriptor, 0, size)
    finally:
        os.close(descriptor)
    path.unlink(missing_ok=True)
    return size


def zero(descriptor: int, start: int, end: int) -> None:
    """Overwrite these bytes of a file, on the disk, too."""
    for at in range(start, end, _AT_ONCE):
        os.pwrite(descriptor, bytes(min(_AT_ONCE, end - at)), at)
    os.fdatasync(descriptor)


def _others(frame: Frame, users: Set[int]) -> bool:
    """Whether a frame is an exchange of somebody else than `users`, or of nobody."""
    meta: Any = frame.meta  # any JSON, in a frame that the store refused
    key = meta.get("key", "") if isinstance(meta, dict) and frame.kind in (KIND_EXCHANGE, KIND_SHADOW) else ""
    return key is None or (isinstance(key, int) and key not in users)
