"""The process between controller and training: it writes the log, waits for the end, and ends what is left behind.

The training is a child, forked off before anything else happens here, in a process group of its own. What it says
comes through a pipe, so that the log is bounded; how it went comes through another one, as soon as the function
returns, for its process may go on living by a thread that does not end. This process adopts the orphans of everything
below it (PR_SET_CHILD_SUBREAPER): a training can start what it likes, in sessions of its own or twice forked, and it is
still found here. After the outcome all of it has a time of grace to end by itself; then it gets SIGTERM, then SIGKILL.

One thread, which waits for pipes and signals, and polls nothing while the training runs. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from proxy.loop.adapters import processes
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.adapters.trainers.train_log import TrainLog

__all__ = ["ExitOutcome", "Say", "TrainingKeeper"]

_SET_CHILD_SUBREAPER: Final = 36
_KILL_S: Final = 10.0
"""What SIGKILL has not ended by then hangs in the kernel."""
_AGAIN_S: Final = 0.1
_CHUNK: Final = 256 * 1024
_CHUNKS: Final = 16
_SHOWN: Final = 8
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_DEFAULTS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitOutcome:
    """How the training went."""

    code: int
    """0: well; else an exit code, or less than 0: a signal."""
    reason: str = ""
    kept: str = ""
    """The reason without the training's own words."""
    result: Mapping[str, Any] | None = None


Say = Callable[[ExitOutcome], None]
"""How the training tells its outcome, before its process ends."""


class TrainingKeeper:
    """Runs one training to its end."""

    def __init__(self, log: TrainLog, *, token: str, grace_s: float, term_s: float) -> None:
        """`token`: the mark in the environment of everything that the training starts. After its end that has
        `grace_s` to end by itself, and `term_s` between SIGTERM and SIGKILL."""
        self._log = log
        self._token = token
        self._grace_s = grace_s
        self._term_s = term_s
        self._selector = selectors.DefaultSelector()
        self._child = 0
        self._outcome: ExitOutcome | None = None
        self._said = b""
        self._stopping = False
        self._killed_for_memory = _oom_kills()

    def run(self, training: Callable[[Say], None]) -> ExitOutcome:
        """Fork, let the child do `training`, and come back when nothing of it runs any more."""
        with contextlib.suppress(OSError, AttributeError):  # without it the marks have to do
            ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._watch_signals()
        log, words = os.pipe()
        report, outcome = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # who is told to end now tells a training that can hear it
        self._child = os.fork()
        if self._child == 0:
            os.close(log)
            os.close(report)
            _be_the_training(training, words, outcome)
        with contextlib.suppress(PermissionError, ProcessLookupError):  # it has done so itself, and gone on
            os.setpgid(self._child, self._child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        os.close(words)
        os.close(outcome)
        for pipe, read in ((log, self._read_log), (report, self._read_report)):
            os.set_blocking(pipe, False)
            self._selector.register(pipe, selectors.EVENT_READ, read)
        self._report = report
        outcome_of_it = self._wait_for_the_outcome()
        self._see_the_rest_out()
        self._read_log(log)
        return outcome_of_it

    # ------------------------------------------------------------------------------------------- waiting

    def _wait_for_the_outcome(self) -> ExitOutcome:
        while self._outcome is None:
            self._turn(None)
        return self._outcome

    def _turn(self, timeout_s: float | None) -> None:
        """Wait for a pipe or a signal, and do what it asks for."""
        for key, _ in self._selector.select(timeout_s):
            key.data(key.fd)
        self._reap()

    def _watch_signals(self) -> None:
        woken, wake = os.pipe()
        for pipe in (woken, wake):
            os.set_blocking(pipe, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))  # whoever started us may have blocked it
        for number in _ENDING:
            signal.signal(number, self._pass_on)
        self._selector.register(woken, selectors.EVENT_READ, lambda pipe: os.read(pipe, _CHUNK))

    def _pass_on(self, number: int, _: object) -> None:
        """Somebody ends this process: the training is told, and has the time that whoever asked allows."""
        self._stopping = True
        if not self._child:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, number)

    def _reap(self) -> bool:
        """Take the ended children's status; True where none is left, ended or not."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._child:
                    self._read_report(self._report)
                    self._settle(self._outcome or self._ended(os.waitstatus_to_exitcode(ended[1])))
        except ChildProcessError:
            return True
        return False

    def _settle(self, outcome: ExitOutcome) -> None:
        if self._outcome is None:
            self._outcome = outcome

    def _ended(self, code: int) -> ExitOutcome:
        """What an end without a word means."""
        if code == 0:
            return ExitOutcome(code=0)
        how = f"signal {-code} ({_name(-code)})" if code < 0 else f"exit code {code}"
        reason = f"the training ended with {how}"
        if code == -signal.SIGKILL and not self._stopping:
            of_memory = _oom_kills() > self._killed_for_memory
            reason += (
                ": memory ran out, and the kernel killed it (OOM)"
                if of_memory
                else "; unless somebody killed it, memory ran out (see dmesg)"
            )
        return ExitOutcome(code=code, reason=reason, kept=reason)

    # --------------------------------------------------------------------------------------------- pipes

    def _read_log(self, pipe: int) -> None:
        """What is there now; some of it, where it never ends."""
        for _ in range(_CHUNKS):
            if not (data := self._read(pipe)):
                break
            self._log.write(data)

    def _read_report(self, pipe: int) -> None:
        while data := self._read(pipe):
            self._said += data
        if self._said.endswith(b"\n"):
            self._settle(ExitOutcome(**json.loads(self._said)))
            self._said = b""

    def _read(self, pipe: int) -> bytes:
        """What is there; empty where there is nothing now, or never again."""
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(pipe)
        return data

    # ----------------------------------------------------------------------------------------- leftovers

    def _see_the_rest_out(self) -> None:
        """Grace, SIGTERM, SIGKILL, each until nothing is left."""
        if self._gone_within(self._grace_s, unless_stopped=True):
            return
        left = self._left()
        self._tell(left)
        _signal(left, signal.SIGTERM)
        if self._gone_within(self._term_s):
            return
        deadline = time.monotonic() + _KILL_S
        while time.monotonic() < deadline:
            _signal(self._left(), signal.SIGKILL)
            if self._gone_within(_AGAIN_S):
                return
        self._log.say(f"SIGKILL did not end these processes: {_named(self._left())}")

    def _gone_within(self, seconds: float, *, unless_stopped: bool = False) -> bool:
        deadline = time.monotonic() + seconds
        while not (self._reap() and not self._left()):
            left_s = deadline - time.monotonic()
            if left_s <= 0 or (unless_stopped and self._stopping):
                return False
            self._turn(min(left_s, 1.0))
        return True

    def _left(self) -> list[ProcessId]:
        """Everything below this process, and whatever carries its mark."""
        me = os.getpid()
        below = processes.descendants(me)
        return below + [one for one in processes.marked(self._token) if one.pid != me and one not in below]

    def _tell(self, left: list[ProcessId]) -> None:
        when = "when it was stopped" if self._stopping else f"{self._grace_s:g} s after its end"
        own = " (among them the training process itself, kept alive by a thread or an exit handler)"
        mine = any(one.pid == self._child for one in left)
        self._log.say(f"ended now because still running {when}: {_named(left)}{own if mine else ''}")


def _be_the_training(training: Callable[[Say], None], words: int, outcome: int) -> NoReturn:
    """In the child: the signals and the output of an ordinary process, and the training."""
    me = os.getpid()
    signal.set_wakeup_fd(-1)
    for number in _DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    for descriptor in (1, 2):
        os.dup2(words, descriptor)
    os.close(words)

    def say(told: ExitOutcome) -> None:
        """Once, and by the training itself: a process that it forked and that came back from it has nothing to say."""
        if os.getpid() != me:
            os._exit(70)
        fields = {"code": told.code, "reason": told.reason, "kept": told.kept, "result": told.result}
        with open(outcome, "wb", closefd=True) as pipe:
            pipe.write(json.dumps(fields).encode() + b"\n")

    training(say)
    sys.exit(0)  # as any program: atexit, and threads that are no daemons


def _signal(these: list[ProcessId], number: signal.Signals) -> None:
    for process in these:
        processes.send(process, number)


def _named(these: list[ProcessId]) -> str:
    shown = "; ".join(f"{one.pid} {processes.command_line(one.pid)}" for one in these[:_SHOWN])
    return f"{shown} and {len(these) - _SHOWN} more" if len(these) > _SHOWN else shown


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"


def _oom_kills() -> int:
    """How often the kernel has killed in our control group for want of memory; 0 where it does not say."""
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].partition("\n")[0]
        events = (Path("/sys/fs/cgroup") / group / "memory.events").read_text().split()
        return int(events[events.index("oom_kill") + 1])
    except (OSError, ValueError, IndexError):
        return 0
