"""One supervisor per data directory: two of them would fight over everything in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from proxy.app.first_start import until_room
from proxy.app.paths import DataDir
from proxy.clock import Clock

__all__ = ["DirectoryLock"]

_PATIENCE_S: Final = 3.0
"""For a supervisor that is just ending."""
_STEP_S: Final = 0.05


class DirectoryLock:
    """A lock on the supervisor's pid file, for the time of a `with`. Raises BlockingIOError where another has it."""

    def __init__(self, data: DataDir, clock: Clock) -> None:
        self._data = data
        self._clock = clock
        self._descriptor = -1

    def __enter__(self) -> DirectoryLock:
        path = self._data.pid("supervisor")
        self._descriptor = until_room(lambda: _opened(path), self._clock)
        deadline = self._clock.monotonic() + _PATIENCE_S
        while not self._taken():
            if self._clock.monotonic() >= deadline:
                holder = os.pread(self._descriptor, 32, 0).decode().strip()
                os.close(self._descriptor)
                raise BlockingIOError(
                    f"{self._data.root} is used by another `ratchet serve` (process {holder}): "
                    "stop that one, or set server.data_dir to another directory"
                )
            time.sleep(_STEP_S)
        with contextlib.suppress(OSError):  # a full disk: the lock is what counts
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())
        return self

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(OSError):  # the disk is read-only
            self._data.addresses.unlink(missing_ok=True)
        os.close(self._descriptor)


def _opened(path: Path) -> int:
    """The file, to be locked and written; on a read-only disk to be locked only. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        if exc.errno != errno.EROFS or not path.exists():
            raise
        return os.open(path, os.O_RDONLY)
