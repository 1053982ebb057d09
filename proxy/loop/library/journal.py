"""Calls that the application has logged and that are not stored yet: in memory for the next commit, and in a file for
the case that this process is killed before it.

A transaction costs milliseconds, however little is in it; a line in a file costs microseconds. So `add` writes a line
and comes back, and the thread of the store takes all that waits at once. A file is one batch: it is begun with the
first call after a commit, and removed when its calls are stored. While a process lives it holds a lock on its file;
a file without such a lock is of a process that was killed, and whoever opens the log next stores it (`orphans`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from proxy.ids import RecordIds
from proxy.private import make_folder

__all__ = ["MANY", "TOO_MANY", "Backlog", "ClosedJournalError", "JournalFile", "LoggedCall", "UsageJournal"]

MANY: Final = 500
"""So many calls wait for no timer."""
TOO_MANY: Final = 10_000
"""So many calls make whoever logs wait: the store is slower than the application."""
_MANY_BYTES: Final = 1 << 22
_TOO_MANY_BYTES: Final = 1 << 26
_READ_BYTES: Final = 1 << 24
_SUFFIX: Final = ".jsonl"
_MODE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


class ClosedJournalError(RuntimeError):
    """The log was closed by another thread: open it again."""


@dataclass(slots=True)
class LoggedCall:
    """One call of a model, as it stands in a line."""

    record_id: str
    """UUID, 32 hexadecimal characters; its time is the call's."""
    user_hash: int | None
    model: str
    latency_ms: float
    quality: float | None
    query: str | None
    response: str | None
    tags: Mapping[str, str]


@dataclass(slots=True)
class JournalFile:
    """The calls of one file, which are stored in one transaction under `writer` and `number`."""

    writer: str
    number: int
    calls: list[LoggedCall]
    path: Path | None = None
    fd: int = -1
    forgotten: bool = False

    def forget(self) -> None:
        """While the store takes nothing: the calls stand in the file, and need no memory."""
        if self.fd >= 0:
            self.calls, self.forgotten = [], True

    def remember(self) -> None:
        """Read again what was forgotten. Raises OSError."""
        if self.forgotten:
            self.calls, self.forgotten = _calls(self.fd), False

    def remove(self) -> None:
        """Its calls are stored."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """Leave it to whoever comes next."""
        if self.fd >= 0:
            _close(self.fd)
            self.fd = -1


@dataclass(slots=True)
class Backlog:
    """How much waits to be stored."""

    first: bool
    """Nothing waited before this call."""
    many: bool
    too_many: bool


@dataclass(slots=True, weakref_slot=True, eq=False)
class UsageJournal:
    """One process's files in `folder`. `add` may be called from any thread, the rest from the store's own."""

    folder: Path
    writer: str
    ids: RecordIds
    """Not shared with other threads than those that hold the guard."""
    _calls: list[LoggedCall] = field(default_factory=list)
    _bytes: int = 0
    _number: int = 0
    _path: Path | None = None
    _fd: int = -1
    _closed: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        make_folder(self.folder)
        _all.add(self)

    def add(self, now: float, call: LoggedCall) -> tuple[str, Backlog]:
        """Mint the call's id, write it down, and say what waits; returns the signed id.

        Raises ValueError for a text that is none, OSError where the disk takes nothing, ClosedJournalError.
        """
        with self._guard:
            if self._closed:
                raise ClosedJournalError("the log was closed by another thread before this call finished")
            minted = self.ids.mint(now)
            call.record_id = minted.hex
            line = _line(call)
            if self._fd < 0:
                self._begin()
            _write(self._fd, line)
            self._calls.append(call)
            before, self._bytes = self._bytes, self._bytes + len(line)
            count = len(self._calls)
            return minted.text, Backlog(
                first=count == 1,
                many=count == MANY or before < _MANY_BYTES <= self._bytes,
                too_many=self.full,
            )

    def take(self) -> JournalFile:
        """What waits, to be stored; what comes from now on is another file's."""
        with self._guard:
            self._number += 1
            taken = JournalFile(self.writer, self._number, self._calls, self._path, self._fd)
            self._calls, self._bytes, self._path, self._fd = [], 0, None, -1
            return taken

    @property
    def full(self) -> bool:
        """Whether more waits than memory should hold."""
        return len(self._calls) >= TOO_MANY or self._bytes >= _TOO_MANY_BYTES

    @property
    def waiting(self) -> int:
        """How many calls wait to be taken."""
        return len(self._calls)

    def holds(self, record_id: str) -> bool:
        """Whether this call waits to be taken."""
        return any(call.record_id == record_id for call in reversed(self._calls))

    def close(self) -> None:
        """Take no more calls."""
        with self._guard:
            self._closed = True

    def orphans(self) -> Iterator[JournalFile]:
        """The files of processes that are gone, each locked until it is removed or let go."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if (fd := _locked(path)) is None:
                continue
            try:
                calls = _calls(fd)
            except OSError:
                _close(fd)
                continue
            writer, _, number = path.stem.rpartition("-")
            yield JournalFile(writer, int(number) if number.isdigit() else 1, calls, path, fd)

    def _begin(self) -> None:
        """A file that is locked before anybody can see it by its name."""
        path = self.folder / f"{self.writer}-{self._number + 1:08d}{_SUFFIX}"
        aside = path.with_suffix(".new")
        make_folder(self.folder)
        with contextlib.suppress(FileNotFoundError):  # of a try that failed halfway
            aside.unlink()
        fd = _opened(aside, _MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside.rename(path)
        except OSError:
            _close(fd)
            raise
        self._path, self._fd = path, fd

    def _forget(self) -> None:
        """In a forked process: what waits is the parent's."""
        self._guard = threading.Lock()
        self._closed = True
        self._fd = -1


_all: weakref.WeakSet[UsageJournal] = weakref.WeakSet()
_fds: set[int] = set()
"""Of all files that this process has locked, those included that are just being stored."""


def _opened(path: Path, mode: int) -> int:
    fd = os.open(path, mode, 0o600)
    _fds.add(fd)
    return fd


def _close(fd: int) -> None:
    _fds.discard(fd)
    os.close(fd)


def _forget_all() -> None:
    """In a forked process: the parent's locks must end with the parent."""
    for journal in list(_all):
        journal._forget()
    for fd in list(_fds):
        _close(fd)


os.register_at_fork(after_in_child=_forget_all)


def _line(call: LoggedCall) -> bytes:
    fields = (
        call.record_id, call.user_hash, call.model, call.latency_ms, call.quality, call.query, call.response, call.tags,
    )  # fmt: skip
    try:
        return orjson.dumps(fields) + b"\n"
    except TypeError as exc:
        raise ValueError(f"query, response, model or tags: not text that can be stored ({exc})") from exc


def _calls(fd: int) -> list[LoggedCall]:
    """What stands in a file, also in one whose name is gone. Raises OSError."""
    parts, at = list[bytes](), 0
    while part := os.pread(fd, _READ_BYTES, at):
        parts.append(part)
        at += len(part)
    return [call for line in b"".join(parts).splitlines() if (call := _call(line)) is not None]


def _call(line: bytes) -> LoggedCall | None:
    """None for a line that its process did not finish."""
    try:
        return LoggedCall(*orjson.loads(line))
    except (ValueError, TypeError):
        return None


def _write(fd: int, line: bytes) -> None:
    """All of it or nothing. Raises OSError."""
    written = os.write(fd, line)
    if written < len(line):
        os.ftruncate(fd, os.fstat(fd).st_size - written)
        raise OSError(f"the disk took {written} of {len(line)} bytes; make room")


def _locked(path: Path) -> int | None:
    """The file, locked; None where its process lives, or where it is gone."""
    try:
        fd = _opened(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except OSError:
        pass
    _close(fd)
    return None
