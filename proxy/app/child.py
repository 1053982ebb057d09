"""The supervisor's children: how one is started, told its settings, and started again when it dies.

A child gets its settings, secrets included, through its standard input: no argument list, environment or file
shows them. The pipe then stays open, and its end tells the child that the supervisor is gone, however it went
(`kill -9` included): workers drain, the controller flushes. That needs no signal and no polling.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy.clock import Clock
from proxy.config.model import Config
from proxy.private import replace_private, without_secrets

__all__ = ["EXIT_CONFIG", "Child", "Inheritance", "receive_inheritance"]

EXIT_CONFIG: Final = 78
"""Exit status of a child that cannot run with these settings however often it is started (EX_CONFIG of sysexits)."""
_LENGTH: Final = struct.Struct("<Q")
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0
_STABLE_S: Final = 10.0
_PACKAGES: Final = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP: Final = "import gc, sys; sys.path[:0] = [{root!r}]; sys.path.append({here!r}); gc.disable(); " \
                    "from proxy.app.{module} import main; gc.enable(); sys.exit(main())"  # fmt: skip
"""Modules stay once they are loaded: looking for garbage among them was a fifth of the time that a controller needs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a child gets from the supervisor."""

    config: Config
    name: str
    index: int
    """Number of the worker; 0 for the controller."""
    listen_fd: int | None
    """The listening socket: public for a worker, admin for the controller; None where there is none."""
    supervisor: int = field(default_factory=os.getpid)
    """Its process id."""
    spare_keys: Mapping[str, Any] | None = None
    """The key ring while the disk has no room for its file."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Where settings come from, by path: for whoever looks at them. Only the controller is told."""

    def packed(self) -> bytes:
        """What `receive_inheritance` reads: a length and a pickle, between processes of one program only."""
        message = pickle.dumps(self)
        return _LENGTH.pack(len(message)) + message


class Child:
    """One child process and its restarts. `module` is the module of proxy.app that has its `main`."""

    def __init__(self, name: str, module: str, *, index: int, listen_fd: int | None, clock: Clock, pid: Path) -> None:
        self.name = name
        self._module = module
        self._index = index
        self._listen_fd = listen_fd
        self._clock = clock
        self._pid_file = pid
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self.has_run = False
        """Whether one has ended for another reason than its settings: then what keeps the next from running, a file
        that was broken meanwhile, is no reason to end the others."""
        self.spare_keys: Mapping[str, Any] | None = None
        """The key ring for the next start, where there is no file of it."""
        self.origins: Mapping[str, str] = {}
        """Where the settings of the next start come from."""
        self.due_at: float | None = clock.monotonic()
        """When it is to be started, on the monotonic clock; None while it runs."""

    @property
    def running(self) -> bool:
        """True from the start until `reap` has told its end."""
        return self._process is not None

    def start(self, config: Config) -> None:
        """Start it, or try again later where the system has no process to give."""
        code = _BOOTSTRAP.format(root=_PACKAGES, here=str(Path.cwd()), module=self._module)
        settings = Inheritance(
            config=config,
            name=self.name,
            index=self._index,
            listen_fd=self._listen_fd,
            spare_keys=self.spare_keys,
            origins=self.origins,
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, f"ratchet-{self.name}"],
                stdin=subprocess.PIPE,
                pass_fds=() if self._listen_fd is None else (self._listen_fd,),
                env=without_secrets(os.environ),
            )
        except OSError as exc:
            _log.error("%s cannot be started: %s; trying again", self.name, exc)
            self._put_off()
            return
        self._started_at = self._clock.monotonic()
        self.due_at = None
        self.note_pid()
        assert self._process.stdin is not None  # it was asked for
        try:
            self._process.stdin.write(settings.packed())
            self._process.stdin.flush()
        except BrokenPipeError:
            _log.warning("%s died while starting", self.name)

    def note_pid(self) -> None:
        """Write down which process it is."""
        if self._process is None:
            return
        try:
            replace_private(self._pid_file, f"{self._process.pid}\n")
        except OSError as exc:  # a full disk must not keep a worker from starting
            _log.warning("%s: %s", self._pid_file, exc)

    def reap(self) -> int | None:
        """Its exit status if it has ended since, else None. A dead child is due again after a back-off."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        self._let_go()
        if self._clock.monotonic() - self._started_at >= _STABLE_S:
            self._failures = 0
        self.has_run |= status != EXIT_CONFIG
        self._put_off()
        return status

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def replace(self, config: Config) -> subprocess.Popen[bytes] | None:
        """Start another in its place and tell the old one to finish; returns the old one, which must be awaited.

        None where there is none, or where the old one goes on because no other can be started.
        """
        old, self._process = self._process, None
        self.start(config)
        if not self.running and old is not None:
            self._process, self.due_at = old, None
            return None
        if old is not None:
            old.send_signal(signal.SIGTERM)
        return old

    def _put_off(self) -> None:
        self.due_at = self._clock.monotonic() + min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**self._failures)
        self._failures += 1

    def _let_go(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            try:
                process.stdin.close()
            except BrokenPipeError:
                return


def receive_inheritance() -> tuple[Inheritance, int]:
    """In a child: the settings, and the descriptor whose end means that the supervisor is gone.

    Standard input becomes /dev/null, so that nothing this process starts reads the supervisor's pipe.
    """
    parent_pipe = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    (length,) = _LENGTH.unpack(_read_exactly(parent_pipe, _LENGTH.size))
    settings = pickle.loads(_read_exactly(parent_pipe, length))
    assert isinstance(settings, Inheritance)
    if settings.listen_fd is not None:
        os.set_inheritable(settings.listen_fd, False)  # what this process starts must not keep the port
    return settings, parent_pipe


def _read_exactly(descriptor: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            raise EOFError("the supervisor ended while starting this process")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
