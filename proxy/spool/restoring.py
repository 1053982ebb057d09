"""A writer's own files on disk: made so that nobody sees them half done, and made again where somebody removed them.

Whoever looks at a writer's directory must find its lock held, and its open segment either not there or whole: so both
get their names last. A removed file whose descriptor is open has lost only its name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from proxy.private import make_folder
from proxy.spool.layout import LOCK_FILE, SCRATCH

__all__ = ["copy_bytes", "is_at", "make_directory", "put_lock", "sync_directory"]

_PIECE: Final = 1 << 20


def make_directory(root: Path, name: str, secret: bytes) -> int:
    """Make the writer's directory, visible only once its lock is held; returns the lock's descriptor.

    Raises OSError."""
    hidden = root / f".{name}"
    make_folder(hidden)
    descriptor = put_lock(hidden, secret)
    try:
        hidden.rename(root / name)
        sync_directory(root)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def put_lock(directory: Path, secret: bytes) -> int:
    """Have a lock file there that is held, with the secret of the writer's seals in it, in place of one that may be
    there; returns its descriptor. Raises OSError."""
    aside = directory / f"{LOCK_FILE}{SCRATCH}"
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secret)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        aside.rename(directory / LOCK_FILE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that `path` names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def copy_bytes(source: int, target: int, start: int, end: int) -> None:
    """Append the bytes from `start` to `end` of one open file to another. Raises OSError."""
    while start < end:
        piece = os.pread(source, min(_PIECE, end - start), start)
        if not piece:
            raise OSError(f"the removed segment ends at {start} of {end} bytes")
        start += len(piece)
        while piece:
            piece = piece[os.write(target, piece) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
