"""The writing end of the spool: one `write()` per frame, and nothing that a request would have to wait for.

`append` runs on the event loop before the last byte of an answer leaves; whatever the kernel has taken
survives a `kill -9` of this process. A thread of its own makes it survive a power cut, too (`fsync` by interval),
and looks at the disk every second: how full the spool of the whole host is, whether a full disk has room again, and
whether somebody removed our files. Then it puts them back: the open segment is still ours to read, so that it appears
again with the same bytes under the same name, and what the store knows of it stays true (`proxy.spool.restoring`).

Whatever goes wrong here costs a record, never a request: `append` returns False and the drop is counted by reason.
A frame that the disk took only in part is cut off again, so that a segment is always a row of whole frames,
but for the last bytes of a writer that was killed within the `write()`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.clock import Clock, SystemClock
from proxy.config.serving import SpoolConfig
from proxy.log_throttle import ThrottledLog
from proxy.private import make_folder, open_private
from proxy.spool.frames import MAX_FRAME
from proxy.spool.ills import DROP_REASONS, SPOOL_TROUBLES, SpoolTrouble
from proxy.spool.keeping import make_room
from proxy.spool.layout import LOCK_FILE, SCRATCH, segment_name, segments_of, spool_bytes
from proxy.spool.restoring import copy_bytes, is_at, make_directory, put_lock, sync_directory
from proxy.spool.seals import HEAD_BYTES, Keyed, new_secret, secret_of, segment_head

__all__ = ["DROP_REASONS", "SPOOL_TROUBLES", "SpoolTrouble", "SpoolWriter"]

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC  # read only to put it back
_AGAIN: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
_POLL_S: Final = 1.0
_ROOM_BYTES: Final = 1 << 20
_PROBE: Final = f"probe{SCRATCH}"
_PROBE_BYTES: Final = 4096

_log = logging.getLogger(__name__)


class SpoolWriter:
    """One process's row of segments below `root`. Used from one thread; never raises from `append`.

    `on_drop(reason)` is called for every frame not taken, with one of DROP_REASONS; `on_sync_error()` for every fsync
    that failed; `on_vanished(frames)` where files of ours were removed, with how many frames were in finished segments
    that went with them: so many are lost at most, for what of them was stored is not known here; `on_trouble(now,
    before)` where `trouble` is another one than a second ago.
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
        on_vanished: Callable[[int], None] | None = None,
        on_trouble: Callable[[SpoolTrouble | None, SpoolTrouble | None], None] | None = None,
    ) -> None:
        """Make this writer's directory and take its lock; where the disk is full or ill, before its first frame."""
        self._config = config
        self._max_bytes: Final = config.max_bytes
        self._segment_bytes: Final = config.segment_bytes
        self._syncs_always: Final = config.fsync == "always"
        self._root = root
        self._on_drop = on_drop
        self._on_sync_error = on_sync_error
        self._on_vanished = on_vanished
        self._on_trouble = on_trouble
        self._told: SpoolTrouble | None = None
        clock = clock or SystemClock()
        self._said = ThrottledLog(_log, clock)
        self._thread_said = ThrottledLog(_log, clock)
        self.name: Final = f"w{index}-{os.getpid()}-{int(clock.now() * 1000)}-{secrets.token_hex(4)}"
        self._secret: Final = new_secret()
        self._seal = Keyed(self._secret).of
        self._begin = b""
        """What the open segment begins with."""
        self._files = threading.Lock()
        """Held while a frame is written, and for the moment in which the thread puts another file in its place."""
        self._lock_fd = -1
        self._dir = root / self.name
        self._segment = 0
        self._fd = -1
        self._size = 0
        self._frames = 0
        self._finished: dict[int, int] = {}
        """Frames in earlier segments that still have a file."""
        self._appended = 0
        self._unsynced = False
        self._new_entry = False
        self._closing: deque[int] = deque()
        self._disk_full = False
        self._broken = False
        self._failing = False
        self._unsyncable = False
        self._homeless: OSError | None = None
        """Why removed files could not be put back, twice in a row: a frame would be written for nobody."""
        self._misses = 0
        self._over_cap = False
        self._used_before = 0
        self._begin_directory()
        self._stop = threading.Event()
        self._wakeups = threading.Thread(target=self._look_after, name=f"spool-{self.name}", daemon=True)
        self._wakeups.start()

    def _begin_directory(self) -> None:
        """Make the directory and take its lock; where that cannot be now, it is done before the first frame."""
        try:
            self._lock_fd = make_directory(self._root, self.name, self._secret)
            self._used_before = spool_bytes(self._root)
        except OSError as exc:
            _log.error(
                "spool %s cannot be created; serving goes on, records are dropped until it can: %s", self._dir, exc
            )

    @property
    def used_bytes(self) -> int:
        """Bytes of all spools of this host: as of the last look, plus what this process has appended since."""
        return self._used_before + self._appended

    @property
    def full(self) -> bool:
        """True while a frame would be dropped for want of room (the cap, or the disk)."""
        return self._disk_full or self.used_bytes >= self._config.max_bytes

    @property
    def trouble(self) -> SpoolTrouble | None:
        """What is wrong with writing, until it was seen to work again; None where all is well."""
        if self._homeless is not None:
            return "removed"
        if self._disk_full:
            return "disk_full"
        if self._failing or self._lock_fd < 0:
            return "io_error"
        if self._unsyncable:
            return "fsync"
        return "full" if self._over_cap else None

    def append(self, frame: bytes) -> bool:
        """Seal `frame` (as `encode_frame` makes it), hand it to the kernel; False where it was dropped and counted."""
        size = len(frame)
        if self._used_before + self._appended + size > self._max_bytes:
            return self._drop("spool_full")
        if size > MAX_FRAME:
            return self._drop("too_large")
        with self._files:
            try:
                if self._fd < 0 or self._broken or (self._size + size > self._segment_bytes and self._size):
                    self._rotate()
                place = self._size
                seal = self._seal(frame, place) if place else self._begin + self._seal(frame, HEAD_BYTES)
                size += len(seal)
                written = os.writev(self._fd, (seal, frame))
            except OSError as exc:
                return self._failed(exc)
            if written != size:
                return self._failed(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            self._size = place + size
            self._frames += 1
            self._appended += size
            self._unsynced = True
            if self._failing:
                self._works_again()
            if self._syncs_always:
                self._sync(self._said)
        return True

    def append_synced(self, frame: bytes) -> bool:
        """As `append`, but False, too, where every frame is to be synced (`fsync = "always"`) and this one was not: a
        power cut may take it, so whoever sent it has to send it again, and it may be there twice then."""
        return self.append(frame) and not (self._syncs_always and self._unsynced)

    def close(self) -> None:
        """Sync what is unsynced, end the thread, let the lock go. Further frames are dropped."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._wakeups.join()
        self._look_for_files()
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
        if self._homeless is not None:
            raise self._homeless
        if self._lock_fd < 0:
            self._lock_fd = make_directory(self._root, self.name, self._secret)
        if self._fd >= 0 and not is_at(self._dir / segment_name(self._segment), self._fd):
            if self._broken:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return  # it was removed: the thread puts it back, with all that is in it by then
        fresh = self._open_next()
        old, self._fd = self._fd, fresh
        if old >= 0:
            self._closing.append(old)
            self._finished[self._segment] = self._frames
        self._segment += 1
        secret = secret_of(self._secret, self._segment)
        self._begin, self._seal = segment_head(secret), Keyed(secret).of
        self._size = 0
        self._frames = 0
        self._broken = False
        self._new_entry = True

    def _open_next(self) -> int:
        path = self._dir / segment_name(self._segment + 1)
        try:
            return os.open(path, _FILE, 0o600)
        except FileNotFoundError:
            if self._fd >= 0:
                raise
            os.close(self._lock_fd)  # the directory was removed before its first frame
            self._lock_fd = -1
            self._lock_fd = make_directory(self._root, self.name, self._secret)
            self._tell_vanished()
            return os.open(path, _FILE, 0o600)

    def _failed(self, exc: OSError) -> bool:
        """Cut the segment back to its last whole frame, and count."""
        self._failing = True
        if self._fd >= 0 and not self._broken:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                self._broken = True  # a torn frame stays behind: the next frame starts a new segment
        if exc.errno not in _DISK_FULL:
            self._said.warning("write", "spool %s: a record was dropped: %s", self._dir, exc)
            return self._drop("io_error")
        if not self._disk_full:
            self._said.error("full", "spool %s: the disk is full; serving goes on, records are dropped until there "
                             "is space", self._dir)  # fmt: skip
        self._disk_full = True
        return self._drop("disk_full")

    def _works_again(self) -> None:
        self._failing = False
        self._said.over("write")
        self._said.over("full")
        _log.info("spool %s: records are written again", self._dir)

    def _drop(self, reason: str) -> bool:
        if self._on_drop is not None:
            self._on_drop(reason)
        return False

    # The thread's side: reads _fd, which only `close`, `_close_old` and `_put_back` close, all after or in this thread.

    def _look_after(self) -> None:
        interval_s = _POLL_S
        if self._config.fsync == "interval":
            interval_s = min(_POLL_S, self._config.fsync_interval_seconds)
        while not self._stop.wait(interval_s):
            self._look_for_files()
            if self._config.fsync == "interval":
                self._sync(self._thread_said)
            self._close_old(sync=self._config.fsync != "never")
            try:
                self._measure()
            except OSError as exc:  # the disk is ill; serving is not: look again in a second
                self._thread_said.warning("measure", "spool %s: its size cannot be measured: %s", self._root, exc)
            if self._failing and not self._disk_full and self._lock_fd >= 0:
                self._prove()
            self._tell_trouble()

    def _sync(self, said: ThrottledLog) -> None:
        if not self._unsynced or self._fd < 0:
            return
        self._unsynced = False
        try:
            os.fdatasync(self._fd)
            if self._new_entry:
                self._new_entry = False
                sync_directory(self._dir)
        except OSError as exc:
            self._unsynced = True
            self._sync_failed(exc, said)
        else:
            if self._unsyncable:
                self._unsyncable = False
                said.over("sync")
                _log.info("spool %s: fsync works again", self._dir)

    def _close_old(self, *, sync: bool) -> None:
        while self._closing:
            descriptor = self._closing.popleft()
            try:
                if sync:
                    os.fdatasync(descriptor)
            except OSError as exc:
                self._sync_failed(exc, self._thread_said)
            finally:
                os.close(descriptor)

    def _sync_failed(self, exc: OSError, said: ThrottledLog) -> None:
        self._unsyncable = True
        said.error(
            "sync", "spool %s: fsync failed, a power cut now may lose more than the interval: %s", self._dir, exc
        )
        if self._on_sync_error is not None:
            self._on_sync_error()

    def _prove(self) -> None:
        """A frame could not be written, and none has come since: see whether writing works here by now."""
        probe = self._dir / _PROBE
        try:
            with open_private(probe, "wb") as out:
                out.write(bytes(_PROBE_BYTES))
                out.flush()
                os.fsync(out.fileno())
            probe.unlink()
        except OSError:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
            return
        with self._files:
            if self._failing:
                self._works_again()

    def _tell_trouble(self) -> None:
        now, before = self.trouble, self._told
        if now != before:
            self._told = now
            if self._on_trouble is not None:
                self._on_trouble(now, before)

    def _look_for_files(self) -> None:
        """Put back what somebody removed of our files."""
        with self._files:
            if self._lock_fd < 0:
                with contextlib.suppress(OSError):  # never made, which was said
                    self._lock_fd = make_directory(self._root, self.name, self._secret)
                return
            there = self._fd < 0 or is_at(self._dir / segment_name(self._segment), self._fd)
            there = there and is_at(self._dir / LOCK_FILE, self._lock_fd)
        if there:
            self._forget_stored()
            return
        try:
            self._put_back()
        except OSError as exc:
            self._misses += 1
            if self._misses > 1:  # once: whoever removes it is not done yet
                self._homeless, self._broken = exc, True
                self._thread_said.error("home", "spool %s: its files were removed and cannot be created again; records "
                                        "are dropped until they can: %s", self._dir, exc)  # fmt: skip
        else:
            self._misses, self._homeless = 0, None
            self._thread_said.over("home")
            self._tell_vanished()

    def _put_back(self) -> None:
        """Make the lock and the open segment again, as they were. Raises OSError."""
        removed = not self._dir.is_dir()
        place = self._root / f".{self.name}.again" if removed else self._dir
        make_folder(place)
        fresh, lock = -1, put_lock(place, self._secret)
        aside = place / f"{segment_name(self._segment)}{SCRATCH}"
        try:
            copied = self._size
            if self._fd >= 0:
                fresh = os.open(aside, _AGAIN, 0o600)
                copy_bytes(self._fd, fresh, 0, copied)
                if self._config.fsync != "never":
                    os.fdatasync(fresh)
            with self._files:
                if fresh >= 0:
                    copy_bytes(self._fd, fresh, copied, self._size)
                    aside.rename(place / segment_name(self._segment))
                if removed:
                    place.rename(self._dir)
                fresh, lock = self._take(fresh, lock)
        except OSError:
            if removed:
                shutil.rmtree(place, ignore_errors=True)
            else:
                aside.unlink(missing_ok=True)
            raise
        finally:
            for descriptor in (fresh, lock):
                if descriptor >= 0:
                    os.close(descriptor)

    def _take(self, fresh: int, lock: int) -> tuple[int, int]:
        """Use these descriptors from now on (`fresh` of the open segment, if there is one); returns those before."""
        before = (self._fd if fresh >= 0 else -1), self._lock_fd
        self._fd, self._lock_fd = (fresh if fresh >= 0 else self._fd), lock
        self._broken, self._homeless = False, None
        self._unsynced, self._new_entry = True, True
        return before

    def _forget_stored(self) -> None:
        """What has no file any more while the lock has: the reader deleted it, for it is stored."""
        if self._finished:
            there = {*segments_of(self._dir)}
            self._finished = {number: frames for number, frames in self._finished.items() if number in there}

    def _tell_vanished(self) -> None:
        there = {*segments_of(self._dir)}
        gone = [number for number in self._finished if number not in there]
        lost = sum(self._finished.pop(number) for number in gone)
        _log.error("spool %s: its files were removed; the open segment is restored with its %d frames%s",
                   self._dir, self._frames, f"; {lost} frames of {len(gone)} earlier segments are lost where they were "
                   "not stored yet" if lost else "")  # fmt: skip
        if self._on_vanished is not None:
            self._on_vanished(lost)

    def _measure(self) -> None:
        make_room(self._root, self._config.max_bytes)  # here, too, for the controller may be away
        was_over = self._over_cap
        appended = self._appended
        self._used_before = spool_bytes(self._root) - appended
        self._over_cap = self.used_bytes >= self._config.max_bytes
        if self._over_cap and not was_over:
            _log.error("spool %s: it is full (spool.max_bytes); check that store and controller are up", self._root)
        if self._disk_full:
            disk = os.statvfs(self._root)
            self._disk_full = disk.f_bavail * disk.f_frsize < _ROOM_BYTES
