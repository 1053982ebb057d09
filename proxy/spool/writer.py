"""The writing end of the spool: one `write()` per frame, and nothing that a request would have to wait for.

`append` runs on the event loop before the last byte of an answer leaves; whatever the kernel has taken
survives a `kill -9` of this process. A thread of its own makes it survive a power cut, too (`fsync` by interval),
and looks at the disk: how full the spool of the whole host is, and whether a full disk has room again.

Whatever goes wrong here costs a record, never a request: `append` returns False and the drop is counted by reason.
A frame that the disk took only in part is cut off again, so that a segment is always a row of whole frames,
but for the last bytes of a writer that was killed within the `write()`.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.clock import Clock, SystemClock
from proxy.config.serving import SpoolConfig
from proxy.private import make_folder
from proxy.spool.frames import MAX_FRAME
from proxy.spool.keeping import make_room
from proxy.spool.layout import LOCK_FILE, segment_name, spool_bytes

__all__ = ["DROP_REASONS", "SpoolWriter"]

DROP_REASONS: Final = ("spool_full", "disk_full", "io_error", "too_large")
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_POLL_S: Final = 1.0
_ROOM_BYTES: Final = 1 << 20

_log = logging.getLogger(__name__)


class SpoolWriter:
    """One process's row of segments below `root`. Used from one thread; never raises from `append`.

    `on_drop(reason)` is called for every frame not taken, with one of DROP_REASONS.
    """

    def __init__(
        self,
        root: Path,
        config: SpoolConfig,
        *,
        index: int = 0,
        clock: Clock | None = None,
        on_drop: Callable[[str], None] | None = None,
        on_sync_error: Callable[[], None] | None = None,
    ) -> None:
        """Make this writer's directory and take its lock; where the disk is full or ill, before its first frame."""
        self._config = config
        self._max_bytes: Final = config.max_bytes
        self._segment_bytes: Final = config.segment_bytes
        self._syncs_always: Final = config.fsync == "always"
        self._root = root
        self._on_drop = on_drop
        self._on_sync_error = on_sync_error
        started = int((clock or SystemClock()).now() * 1000)
        self.name: Final = f"w{index}-{os.getpid()}-{started}-{secrets.token_hex(4)}"
        self._lock_fd = -1
        self._dir = root / self.name
        self._segment = 0
        self._fd = -1
        self._size = 0
        self._appended = 0
        self._unsynced = False
        self._new_entry = False
        self._closing: deque[int] = deque()
        self._disk_full = False
        self._broken = False
        self._over_cap = False
        self._used_before = 0
        try:
            self._lock_fd = _make_directory(root, self.name)
            self._used_before = spool_bytes(root)
        except OSError as exc:
            _log.error("spool %s cannot be made; serving goes on, records are dropped until it can: %s", self._dir, exc)
        self._stop = threading.Event()
        self._wakeups = threading.Thread(target=self._look_after, name=f"spool-{self.name}", daemon=True)
        self._wakeups.start()

    @property
    def used_bytes(self) -> int:
        """Bytes of all spools of this host: as of the last look, plus what this process has appended since."""
        return self._used_before + self._appended

    @property
    def full(self) -> bool:
        """True while a frame would be dropped for want of room (the cap, or the disk)."""
        return self._disk_full or self.used_bytes >= self._config.max_bytes

    def append(self, frame: bytes) -> bool:
        """Hand `frame` to the kernel; False where it was dropped and counted."""
        size = len(frame)
        if self._used_before + self._appended + size > self._max_bytes:
            return self._drop("spool_full")
        if size > MAX_FRAME:
            return self._drop("too_large")
        try:
            if self._fd < 0 or self._broken or (self._size + size > self._segment_bytes and self._size):
                self._rotate()
            written = os.write(self._fd, frame)
        except OSError as exc:
            return self._failed(exc)
        if written != size:
            return self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._size += size
        self._appended += size
        self._unsynced = True
        if self._syncs_always:
            self._sync()
        return True

    def close(self) -> None:
        """Sync what is unsynced, end the thread, let the lock go. Further frames are dropped."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._wakeups.join()
        if self._fd >= 0:
            self._closing.append(self._fd)
            self._fd = -1
        self._close_old(sync=self._config.fsync != "never")
        if self._lock_fd >= 0:
            os.close(self._lock_fd)

    def _rotate(self) -> None:
        """Start the next segment. The old one is synced and closed by the thread, which may take its time."""
        if self._stop.is_set():
            raise OSError(errno.EBADF, "the spool is closed")
        if self._lock_fd < 0:
            self._lock_fd = _make_directory(self._root, self.name)
        path = self._dir / segment_name(self._segment + 1)
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        old, self._fd = self._fd, fresh
        if old >= 0:
            self._closing.append(old)
        self._segment += 1
        self._size = 0
        self._broken = False
        self._new_entry = True

    def _failed(self, exc: OSError) -> bool:
        """Cut the segment back to its last whole frame, and count."""
        if self._fd >= 0 and not self._broken:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._broken = True  # a torn frame stays behind: the next frame starts a new segment
        if exc.errno not in _DISK_FULL:
            _log.warning("spool %s: a record was dropped: %s", self._dir, exc)
            return self._drop("io_error")
        if not self._disk_full:
            _log.error("spool %s: the disk is full; serving goes on, records are dropped until it has room", self._dir)
        self._disk_full = True
        return self._drop("disk_full")

    def _drop(self, reason: str) -> bool:
        if self._on_drop is not None:
            self._on_drop(reason)
        return False

    # The thread's side: reads _fd, which only `close` and `_close_old` ever close, both after or in this thread.

    def _look_after(self) -> None:
        interval_s = _POLL_S
        if self._config.fsync == "interval":
            interval_s = min(_POLL_S, self._config.fsync_interval_seconds)
        while not self._stop.wait(interval_s):
            if self._config.fsync == "interval":
                self._sync()
            self._close_old(sync=self._config.fsync != "never")
            try:
                self._measure()
            except OSError as exc:  # the disk is ill; serving is not: look again in a second
                _log.warning("spool %s: cannot measure it: %s", self._root, exc)

    def _sync(self) -> None:
        if not self._unsynced or self._fd < 0:
            return
        self._unsynced = False
        try:
            os.fdatasync(self._fd)
            if self._new_entry:
                self._new_entry = False
                _sync_directory(self._dir)
        except OSError as exc:
            self._sync_failed(exc)

    def _close_old(self, *, sync: bool) -> None:
        while self._closing:
            descriptor = self._closing.popleft()
            try:
                if sync:
                    os.fdatasync(descriptor)
            except OSError as exc:
                self._sync_failed(exc)
            finally:
                os.close(descriptor)

    def _sync_failed(self, exc: OSError) -> None:
        _log.error("spool %s: fsync failed, a power cut now may lose more than the interval: %s", self._dir, exc)
        if self._on_sync_error is not None:
            self._on_sync_error()

    def _measure(self) -> None:
        make_room(self._root, self._config.max_bytes)  # here, too, for the controller may be away
        was_over = self._over_cap
        appended = self._appended
        self._used_before = spool_bytes(self._root) - appended
        self._over_cap = self.used_bytes >= self._config.max_bytes
        if self._over_cap and not was_over:
            _log.error("spool %s: at its cap (spool.max_bytes); is the store down, or is the controller?", self._root)
        if self._disk_full:
            disk = os.statvfs(self._root)
            self._disk_full = disk.f_bavail * disk.f_frsize < _ROOM_BYTES


def _make_directory(root: Path, name: str) -> int:
    """Make the writer's directory, visible only once its lock is held; returns the lock's descriptor."""
    make_folder(root)
    hidden = root / f".{name}"
    hidden.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(hidden / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        hidden.rename(root / name)
        _sync_directory(root)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
