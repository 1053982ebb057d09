"""Counters that live in a file: a worker counts with one addition, the controller reads, a `kill -9` loses nothing.

A worker maps its file (`run/worker-<i>.stats`) and adds to float64 slots in place: no lock, no system call, no
socket between the hot path and Prometheus. The file names its own slots, so the reader needs no agreement with
the writer's version. A restarted worker carries its counters on, so that the sums over workers only grow; its gauges
begin at 0 again, for what was open is gone.

    magic   8 bytes    b"RCOUNT1\\n"
    length  u64 LE     of the names
    names   JSON array of strings, padded with spaces to 8 bytes
    values  float64 LE, one per name

A name is a metric's, without the prefix, with its labels as Prometheus writes them: `in_flight`,
`requests_total`, `not_recorded_total{reason="disk_full"}`. Names ending in `_total` are counters, others gauges.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import orjson

from proxy.private import write_private

__all__ = ["SharedCounters", "is_counter", "read_counters", "sum_counters"]

_MAGIC: Final = b"RCOUNT1\n"
_HEAD: Final = struct.Struct("<8sQ")

_log = logging.getLogger(__name__)


class SharedCounters:
    """The writing end: one process's slots, mapped into its memory. For one thread."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Make the file `path` with one slot per name, or carry on with the counters that it holds already.

        Where the disk does not let it, the slots live in this process's memory alone: counting goes on, unseen.
        """
        self._index = {name: slot for slot, name in enumerate(names)}
        if len(self._index) != len(names):
            raise ValueError(f"shared counters: a name occurs twice in {sorted(names)}")
        earlier = _earlier(path)
        values = [earlier.get(name, 0.0) if is_counter(name) else 0.0 for name in names]
        head = _head(names)
        content = head + struct.pack(f"<{len(values)}d", *values)
        try:
            self._map = _mapped(path, content)
        except OSError as exc:
            _log.error("%s cannot be made, so this process's counters do not show on /metrics: %s", path, exc)
            self._map = mmap.mmap(-1, len(content))
            self._map[:] = content
        self._whole = memoryview(self._map)
        self.values: memoryview[float] = self._whole[len(head) :].cast("d")
        """The slots themselves, for a caller that keeps the index of its own: `values[slot] += 1.0`."""

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
    """The sum of every slot over the workers' files; a file that is missing or unreadable adds nothing."""
    total: dict[str, float] = {}
    for path in paths:
        for name, value in _earlier(path).items():
            total[name] = total.get(name, 0.0) + value
    return total


def _mapped(path: Path, content: bytes) -> mmap.mmap:
    """A file with this content, put in place whole, and mapped."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write_private(scratch, content)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _earlier(path: Path) -> dict[str, float]:
    try:
        return read_counters(path)
    except (OSError, ValueError):
        return {}


def _head(names: Sequence[str]) -> bytes:
    text = orjson.dumps(list(names))
    text += b" " * (-len(text) % 8)
    return _HEAD.pack(_MAGIC, len(text)) + text
