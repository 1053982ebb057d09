"""Processes that outlive the controller: trainings and model servers.

Each is started in a session of its own, with its output in a file, and is found again by an identity that pid reuse and
reboots cannot fake: pid, start time in clock ticks since boot (/proc/<pid>/stat, field 22) and the boot's id. One
that was started just before a crash, and whose pid nobody wrote down, is found by a token in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from proxy.private import UMASK, make_folder, open_private, without_secrets

__all__ = ["ProcessId", "alive", "command_line", "descendants", "exit_code", "find", "identify", "log_tail", "marked",
           "send", "start", "start_from", "stop", "sweep"]  # fmt: skip

TOKEN = "RATCHET_PROCESS_TOKEN"
_POLL_S = 0.02
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """Which process this is, for good."""

    pid: int
    """Also the id of its session and process group."""
    start_ticks: int
    boot_id: str

    def as_json(self) -> dict[str, Any]:
        """For a handle or a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ProcessId:
        """The inverse of `as_json`."""
        return cls(pid=int(content["pid"]), start_ticks=int(content["start_ticks"]), boot_id=str(content["boot_id"]))


_children: dict[ProcessId, subprocess.Popen[bytes]] = {}
"""Started by this very controller, so that their exit codes can be asked for (which reaps them)."""


_starter: Executor | None = None
"""Starts them where that is not to be done in the caller's thread."""


_popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen


def start_from(starter: Executor) -> None:
    """Have processes started by a thread of `starter`: on Linux they inherit its priority, not the caller's."""
    global _starter
    _starter = starter


class _Stat(NamedTuple):
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int


def start(
    argv: Sequence[str], *, log: Path, token: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> ProcessId:
    """Start `argv` in a new session with stdout and stderr appended to `log`; `env` adds to ours,
    which is handed on without our settings and their secrets.

    Raises OSError where the program cannot be started.
    """
    for former in _children.values():  # nobody asks for the end of one whose outcome is in a file
        former.poll()
    make_folder(log.parent)
    with open_private(log, "ab") as out:
        begin = partial(
            _popen,
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**without_secrets(os.environ), **(env or {}), TOKEN: token},
            umask=UMASK,
            start_new_session=True,
        )
        child = begin() if _starter is None else _starter.submit(_unmasked, begin).result()
    process = identify(child.pid)  # it can be read even if it has ended: only `exit_code` reaps
    _children[process] = child
    return process


def _unmasked(begin: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """`begin` with no signal blocked, for that is inherited.

    The starter's thread may be older than the moment from which this process takes its signals (see `ShutdownSignal`).
    With SIGCHLD blocked a training never learns that its child has ended; with SIGTERM blocked a server must be killed.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return begin()


def identify(pid: int) -> ProcessId:
    """The identity of a living process. Raises ProcessLookupError."""
    stat = _stat(pid)
    if stat is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return ProcessId(pid=pid, start_ticks=stat.start_ticks, boot_id=_boot_id())


def of_this_boot(process: ProcessId) -> bool:
    """Whether it was started on this host since it was booted: else nothing can be said of it."""
    return process.boot_id == _boot_id()


def find(token: str) -> ProcessId | None:
    """The session leader that was started with this token, if it is alive."""
    leaders = [process for process, stat in _marked(token) if stat.session == process.pid]
    return min(leaders, key=lambda process: process.start_ticks, default=None)


def marked(token: str) -> list[ProcessId]:
    """Everything alive that was started with this token, by us or by one of these: its environment is handed on."""
    return [process for process, _ in _marked(token)]


def _marked(token: str) -> Iterator[tuple[ProcessId, _Stat]]:
    wanted, boot = f"{TOKEN}={token}".encode(), _boot_id()
    for pid in _pids():
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if wanted not in environment.split(b"\0"):
            continue
        stat = _stat(pid)
        if stat is not None and stat.state not in "ZX":
            yield ProcessId(pid=pid, start_ticks=stat.start_ticks, boot_id=boot), stat


def descendants(pid: int) -> list[ProcessId]:
    """Children of a process, their children, and so on, as far as they are alive."""
    stats = {one: stat for one in _pids() if (stat := _stat(one)) is not None}
    family, boot = {pid}, _boot_id()
    while more := {one for one, stat in stats.items() if stat.parent in family} - family:
        family |= more
    return [
        ProcessId(pid=one, start_ticks=stats[one].start_ticks, boot_id=boot)
        for one in sorted(family - {pid})
        if stats[one].state not in "ZX"
    ]


def send(process: ProcessId, number: signal.Signals) -> None:
    """Signal that very process; nothing where it has ended, or is not ours to signal."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        handle = os.pidfd_open(process.pid)  # of whoever has the pid now; nobody else gets it while this is open
        try:
            if _ours(process) is not None:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def command_line(pid: int, *, limit: int = 80) -> str:
    """What a process was started with, shortened; empty where it is gone."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return words.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:limit]


async def sweep(token: str, *, grace_s: float) -> None:
    """End everything that carries the token: SIGTERM, then SIGKILL after `grace_s` seconds. Safe to repeat."""
    clock = asyncio.get_running_loop().time
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        deadline, told = clock() + wait_s, set[ProcessId]()
        while left := marked(token):
            for process in left:
                if process not in told:
                    send(process, number)
            told.update(left)
            if clock() >= deadline:
                break
            await asyncio.sleep(_POLL_S)
        else:
            return


def alive(process: ProcessId) -> bool:
    """Whether that very process still runs."""
    exit_code(process)
    stat = _ours(process)
    return stat is not None and stat.state not in "ZX"


def exit_code(process: ProcessId) -> int | None:
    """Exit code (negative: the signal), where the process was started by us and has ended; else None."""
    child = _children.get(process)
    return None if child is None else child.poll()


async def stop(process: ProcessId, *, grace_s: float) -> None:
    """End the process and all of its group: SIGTERM, then SIGKILL after `grace_s` seconds. Safe to repeat."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        if not _signal(process, number):
            return
        deadline = asyncio.get_running_loop().time() + wait_s
        while _group_alive(process):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(_POLL_S)
        else:
            return


def log_tail(log: Path, *, lines: int = 5, limit: int = 1000) -> str:
    """The last non-empty lines of a log, at most `limit` characters; empty where there is none."""
    try:
        with log.open("rb") as source:
            source.seek(max(0, log.stat().st_size - 8 * limit))
            text = source.read(8 * limit).decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])[-limit:]


def _signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal the whole group; False where it is gone. A stranger with a reused pid is left alone."""
    if not _group_alive(process):
        return False
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _group_alive(process: ProcessId) -> bool:
    """Whether the leader, or after its end one of its children, still runs."""
    if process.boot_id != _boot_id():
        return False
    if alive(process):
        return True
    leader = _stat(process.pid)
    if leader is not None and leader.start_ticks != process.start_ticks:
        return False
    return any(
        stat.group == process.pid and stat.state not in "ZX" for pid in _pids() if (stat := _stat(pid)) is not None
    )


def _ours(process: ProcessId) -> _Stat | None:
    stat = _stat(process.pid)
    same = stat is not None and stat.start_ticks == process.start_ticks and process.boot_id == _boot_id()
    return stat if same else None


def _pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def _stat(pid: int) -> _Stat | None:
    try:
        line = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()  # the command's name, before it, may contain anything
    return _Stat(
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
