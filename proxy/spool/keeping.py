"""Segments that are stored and kept for a while, for a database that goes back: a copy is restored, a standby that
lagged is promoted, a file is gone. The reader turns `.seg` into `.kept` once all of it is stored, with the time of that
as the file's own, and back where the database has less than that.

They are the first to go: the spool with them never takes more than half of its cap, and they leave whenever the disk is
short of room, so that keeping them costs nobody a record. Whoever looks after the disk may call `make_room`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from proxy.spool.layout import KEPT, spool_bytes, writers_of

__all__ = ["kept_bytes", "make_room"]

_SHARE: Final = 0.5
"""Of `spool.max_bytes`: what the spool may hold in all while something in it is only kept. Well below the alerts."""
_FREE_BYTES: Final = 128 << 20
_FREE_SHARE: Final = 0.1
"""What is to be free on the disk, the smaller of both, while something is only kept."""


def kept_bytes(root: Path) -> int:
    """Bytes of all segments that are only kept."""
    return sum(size for _, _, size in _kept(root))


def make_room(root: Path, max_bytes: int) -> int:
    """Delete kept segments, the first stored first, until spool and disk have room again; returns how many went.

    `max_bytes` is the spool's cap. Safe from several processes at once. Raises OSError where nothing can be read.
    """
    kept = _kept(root)
    if not kept:
        return 0
    over = spool_bytes(root) + sum(size for _, _, size in kept) - int(_SHARE * max_bytes)
    disk = os.statvfs(root)
    wanted = min(_FREE_BYTES, int(_FREE_SHARE * disk.f_blocks * disk.f_frsize))
    over = max(over, wanted - disk.f_bavail * disk.f_frsize)
    gone = 0
    for _, path, size in kept:
        if over <= 0:
            break
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        over -= size
        gone += 1
    return gone


def _kept(root: Path) -> list[tuple[int, Path, int]]:
    """When it was stored (ns), where it is, and how large, of each; first stored first."""
    found = []
    for writer in writers_of(root):
        with contextlib.suppress(OSError), os.scandir(root / writer) as entries:
            for entry in entries:
                if entry.name.endswith(KEPT):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat()
                        found.append((status.st_mtime_ns, Path(entry.path), status.st_size))
    return sorted(found)
