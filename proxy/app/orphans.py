"""Processes of an earlier supervisor that cannot even end: stopped (`SIGSTOP`, a debugger), or stuck in the kernel.

A worker that runs frees its port within a tenth of a second of its supervisor's end. Whoever keeps it longer answers
nobody, and would keep everybody else from answering: so the next supervisor, which has claimed the directory, ends it.
A controller delays nobody who asks a model, but the next one may not touch the store before it has ended, which it
does within the drain time unless it is stuck.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from proxy.app.paths import DataDir

__all__ = ["end_stuck_controller", "end_stuck_orphans"]

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LOCKS: Final = Path("/proc/locks")
_LISTENS: Final = "0A"

_log = logging.getLogger(__name__)


def end_stuck_orphans(data: DataDir, port: int) -> list[int]:
    """Kill the workers of this directory that listen on `port`; their process ids. Its claim must be ours."""
    listening = _listening(port)
    ended = [pid for pid in _earlier_workers(data) if listening & _sockets_of(pid)]
    for pid in ended:
        _log.error("worker process %d of an earlier `ratchet serve` is stuck and holds port %d: killing it", pid, port)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return ended


def end_stuck_controller(lock: Path, supervisor: int, *, overdue: bool) -> None:
    """Kill the controller that has locked the file `lock` where it is not `supervisor`'s, and stopped or `overdue`."""
    with contextlib.suppress(OSError, ValueError):  # it has just ended
        for pid in _holders(lock):
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == supervisor or not (overdue or state == "T") or not _is_called(pid, "controller"):
                continue
            _log.error("controller process %d of an earlier `ratchet serve` is stuck: killing it", pid)
            os.kill(pid, signal.SIGKILL)


def _holders(lock: Path) -> list[int]:
    """Processes that have locked the file with flock."""
    lines = [line.split() for line in _LOCKS.read_text().splitlines()]
    inode = str(lock.stat().st_ino)
    return [int(fields[4]) for fields in lines if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode]


def _is_called(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").endswith(b"\0ratchet-" + name.encode())


def _listening(port: int) -> set[str]:
    """Sockets that listen on this port of any address, as /proc names them."""
    found = set()
    for table in _TABLES:
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found


def _earlier_workers(data: DataDir) -> Iterator[int]:
    """Processes that the pid files of this directory name, and that are workers indeed."""
    for path in data.run.glob("worker-*.pid"):
        with contextlib.suppress(OSError, ValueError):
            pid = int(path.read_text())
            if _is_called(pid, path.stem):
                yield pid


def _sockets_of(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(link))
    return found
