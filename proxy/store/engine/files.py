"""Whether the files of an open SQLite database are still the ones at their names.

SQLite notices nothing when they are removed or replaced under it: it goes on writing into files that nobody will ever
find again. So names and open descriptors are compared (a few system calls). The write-ahead log counts like the
database itself, for the newest transactions are in it alone.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["FileWatch"]

_DESCRIPTORS: Final = Path("/proc/self/fd")

Identity = tuple[int, int]


class FileWatch:
    """The database file `path` and what lies beside it. Look at it from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
        self._known: dict[Path, Identity] = {}

    def begin(self) -> None:
        """What is there now is what is open: call it once the database is."""
        self._known = {}
        self._note(self._path, _identity(self._path))

    def lost(self) -> Path | None:
        """The first file that is open here and not to be found at its name any more; None where all are."""
        if (known := self._known.get(self._path)) is None:
            return None
        if _identity(self._path) != known:
            return self._path
        found = {path: _identity(path) for path in self._beside}
        if any(self._known.get(path) != now for path, now in found.items()):
            opened = _opened()
            for path, now in found.items():
                known = self._known.get(path)
                if known != now and known is not None and known in opened:
                    return path
                self._note(path, now if now in opened else None)
        return None

    def leave_nothing(self) -> None:
        """Remove what is left beside a database that is gone: its log must not be taken for that of the next one. Only
        after every connection to it was closed."""
        for path in self._beside:
            if path in self._known and _identity(path) == self._known[path]:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()

    def _note(self, path: Path, identity: Identity | None) -> None:
        if identity is None:
            self._known.pop(path, None)
        else:
            self._known[path] = identity


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _opened() -> set[Identity]:
    """All regular files that this process has open."""
    found = set()
    for entry in os.listdir(_DESCRIPTORS):
        with contextlib.suppress(OSError, ValueError):
            status = os.fstat(int(entry))
            found.add((status.st_dev, status.st_ino))
    return found
