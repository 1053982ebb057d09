"""Counters that live in a file: a worker counts with one addition, the controller reads, a `kill -9` loses nothing.

A worker maps its file (`run/worker-<i>.stats`) and adds to float64 slots in place: no lock, no system call, no
socket between the hot path and Prometheus. The file names its own slots, so the reader needs no agreement with
the writer's version. A restarted worker carries its counters on, so that the sums over workers only grow; its gauges
begin at 0 again, for what was open is gone. A worker whose predecessor is still draining leaves that its file, which it
holds with flock, and takes the next one (`run/worker-<i>.1.stats`): both are summed up, and gauges count while their
process lives.

    magic   8 bytes    b"RCOUNT1\\n"
    length  u64 LE     of the names
    names   JSON array of strings, padded with spaces to 8 bytes
    values  float64 LE, one per name

A name is a metric's, without the prefix, with its labels as Prometheus writes them: `in_flight`,
`requests_total`, `not_recorded_total{reason="disk_full"}`. Names ending in `_total` are counters, others gauges.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import orjson

from proxy.private import make_folder, write_private

__all__ = ["SharedCounters", "is_counter", "read_counters", "sum_counters"]

_MAGIC: Final = b"RCOUNT1\n"
_TRIES: Final = 3
_READ_S: Final = 0.002
_HEAD: Final = struct.Struct("<8sQ")

_log = logging.getLogger(__name__)


class SharedCounters:
    """The writing end: one process's slots, mapped into its memory. For one thread."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Make the file `path` with one slot per name, or carry on with the counters that it holds already; where a
        living process has it, another one beside it.

        Where the disk does not let it, the slots live in this process's memory until `show` can make the file.
        """
        self._index = {name: slot for slot, name in enumerate(names)}
        if len(self._index) != len(names):
            raise ValueError(f"shared counters: a name occurs twice in {sorted(names)}")
        self._path = path
        self._names = tuple(names)
        self._shown: mmap.mmap | None = None
        """A file that is written from time to time, where there was none to be had at first."""
        self._base: Sequence[float] = ()
        """What an earlier process had counted in that file."""
        self._lock = -1
        head = _head(names)
        try:
            self._map = self._placed([0.0] * len(names))
            self._unseen = False
        except OSError as exc:
            _log.error("%s cannot be created yet, so this process's counters are missing from /metrics: %s", path, exc)
            content = head + bytes(8 * len(names))
            self._map = mmap.mmap(-1, len(content))
            self._map[:] = content
            self._unseen = True
        self._whole = memoryview(self._map)
        self.values: memoryview[float] = self._whole[len(head) :].cast("d")
        """The slots themselves, for a caller that keeps the index of its own: `values[slot] += 1.0`."""

    def _placed(self, counted: Sequence[float]) -> mmap.mmap:
        """A file of this process's own, put in place whole, with what `counted` and an earlier process has; mapped.
        Raises OSError."""
        path, held = _free_file(self._path)
        try:
            earlier = _earlier(path)
            values = [
                value + (earlier.get(name, 0.0) if is_counter(name) else 0.0)
                for name, value in zip(self._names, counted, strict=True)
            ]
            content = _head(self._names) + struct.pack(f"<{len(values)}d", *values)
            placed, self._lock = _mapped(path, content)
        finally:
            os.close(held)
        return placed

    def show(self) -> None:
        """Have the counts seen, where there was no room for the file at first, or somebody removed it. Call it every
        now and then."""
        if self._lock >= 0 and not os.fstat(self._lock).st_nlink:
            self._begin_again()
        if not self._unseen:
            return
        if self._shown is None:
            try:
                self._shown = self._placed(self.values)
            except OSError:
                return
            self._base = [there - here for there, here in zip(self._file_values(), self.values, strict=True)]
        values = [base + here for base, here in zip(self._base, self.values, strict=True)]
        self._shown[-8 * len(values) :] = struct.pack(f"<{len(values)}d", *values)

    def _begin_again(self) -> None:
        """The file was removed: another one is to be made, with all that was counted so far."""
        _log.error("%s was removed under the running process: it is made again", self._path)
        os.close(self._lock)
        self._lock, self._unseen = -1, True
        if self._shown is not None:
            self._shown.close()
            self._shown = None
        with contextlib.suppress(OSError):
            make_folder(self._path.parent)

    def _file_values(self) -> tuple[float, ...]:
        assert self._shown is not None  # it was just made
        size = len(self._names)
        return struct.unpack(f"<{size}d", self._shown[-8 * size :])

    def slot(self, name: str) -> int:
        """Index of `name` in `values`; raises KeyError for a name that was not declared."""
        return self._index[name]

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter or a gauge."""
        self.values[self._index[name]] += amount

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self.values[self._index[name]] = value

    def close(self) -> None:
        """Unmap the file; it stays where it is."""
        self.show()
        if self._shown is not None:
            self._shown.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self.values.release()
        self._whole.release()
        self._map.close()


def is_counter(name: str) -> bool:
    """True where the slot only grows: its metric's name, labels aside, ends in `_total`."""
    return name.partition("{")[0].endswith("_total")


def read_counters(path: Path) -> dict[str, float]:
    """Every slot in the file `path` by name. Raises OSError, or ValueError where it is no counter file."""
    data = path.read_bytes()
    try:
        magic, length = _HEAD.unpack_from(data)
        start = _HEAD.size + length
        if magic != _MAGIC:
            raise ValueError("wrong magic")
        names: list[str] = orjson.loads(data[_HEAD.size : start])
        return dict(zip(names, struct.unpack_from(f"<{len(names)}d", data, start), strict=True))
    except (struct.error, ValueError) as exc:
        raise ValueError(f"{path}: not a file of shared counters ({exc})") from exc


def sum_counters(paths: Iterable[Path]) -> dict[str, float]:
    """The sum of every slot over the workers' files; a file that is missing or unreadable adds nothing, nor does a
    gauge of a process that has ended."""
    total: dict[str, float] = {}
    for path in paths:
        lives = _is_held(path)
        for name, value in _earlier(path).items():
            total[name] = total.get(name, 0.0) + (value if lives or is_counter(name) else 0.0)
    return total


def _free_file(path: Path) -> tuple[Path, int]:
    """The first of `path` and those beside it that no living process has, and a descriptor that holds it. Raises
    OSError."""
    for number in count():
        candidate = path if number == 0 else path.with_name(f"{path.stem}.{number}{path.suffix}")
        for _ in range(_TRIES):  # whoever reads it may hold it for a moment
            descriptor = os.open(candidate, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if _lock(descriptor) and _is_file(descriptor, candidate):
                return candidate, descriptor
            os.close(descriptor)
            time.sleep(_READ_S)
    raise AssertionError("unreachable: count() has no end")


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether it is still the file of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(path: Path) -> bool:
    """Whether the process whose file it is lives."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _mapped(path: Path, content: bytes) -> tuple[mmap.mmap, int]:
    """A file with this content, put in place whole, and mapped; and the descriptor that holds it."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    descriptor = -1
    try:
        write_private(scratch, content)
        descriptor = os.open(scratch, os.O_RDWR | os.O_CLOEXEC)
        _lock(descriptor)
        scratch.replace(path)
        return mmap.mmap(descriptor, 0), descriptor
    except OSError:
        if descriptor >= 0:
            os.close(descriptor)
        scratch.unlink(missing_ok=True)
        raise


def _earlier(path: Path) -> dict[str, float]:
    try:
        return read_counters(path)
    except (OSError, ValueError):
        return {}


def _head(names: Sequence[str]) -> bytes:
    text = orjson.dumps(list(names))
    text += b" " * (-len(text) % 8)
    return _HEAD.pack(_MAGIC, len(text)) + text
