"""How much a spool holds, for metrics: sizes, and the age of what is not stored yet."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.spool.keeping import kept_bytes
from proxy.spool.layout import segment_name, segments_of, spool_bytes, writers_of
from proxy.spool.scanning import scan_file

__all__ = ["SpoolUsage", "usage_of"]

_LOOK: Final = 64 << 10
"""What is read for the first frame alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolUsage:
    """What the spool holds."""

    bytes: int
    """On the disk, all writers, with what is stored and kept."""
    pending_bytes: int
    """Of these, not stored yet."""
    oldest_at: float | None
    """Unix seconds of the oldest frame that is not stored yet; None where everything is stored."""
    writers: int
    """Writers that have a directory, dead or alive."""


def usage_of(root: Path, positions: Mapping[str, tuple[int, int]]) -> SpoolUsage:
    """Of the spool below `root`, stored up to `positions`. Reads one frame per writer that is behind."""
    writers = writers_of(root)
    pending, oldest = 0, None
    for writer in writers:
        try:
            behind, first_at = _behind(root / writer, positions.get(writer, (0, 0)))
        except OSError:
            continue  # reading says so
        pending += behind
        if first_at is not None:
            oldest = first_at if oldest is None else min(oldest, first_at)
    held = spool_bytes(root) + kept_bytes(root)
    return SpoolUsage(bytes=held, pending_bytes=pending, oldest_at=oldest, writers=len(writers))


def _behind(directory: Path, position: tuple[int, int]) -> tuple[int, float | None]:
    """Bytes of one writer behind `position`, and when the first frame among them was written."""
    pending, first_at = 0, None
    for number in segments_of(directory):
        path = directory / segment_name(number)
        start = position[1] if number == position[0] else 0
        if number < position[0]:
            continue
        with contextlib.suppress(FileNotFoundError):
            pending += max(0, path.stat().st_size - start)
            if first_at is None:
                first_at = _first_frame_at(path, number, start)
    return pending, first_at


def _first_frame_at(path: Path, number: int, start: int) -> float | None:
    found, _, _ = scan_file(path, number, start, finished=False, max_frames=1, most_bytes=1, piece=_LOOK)
    arrived_us = found.frames[0].meta.get("t") if found.frames else None
    return arrived_us / 1e6 if isinstance(arrived_us, int) else None
