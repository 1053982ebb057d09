"""The controller gives way to the workers; what it starts for others does not."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.app.turns import TURN_NS

_PROGRAM = """
import os, sys, threading
from pathlib import Path
from proxy.app.priority import lower_priority, raise_priority
from proxy.loop.adapters import processes

lower_priority(int(sys.argv[1]))
later = []
threading.Thread(target=lambda: later.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))).start()
code = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
child = processes.start([sys.executable, "-c", code], log=Path(sys.argv[2]), token="t")
os.waitpid(child.pid, 0)
print(os.getpriority(os.PRIO_PROCESS, 0), *later, Path(sys.argv[2]).read_text())
if "raise_priority" in sys.argv:
    for yes in (True, False):
        raise_priority(yes)
        print(os.getpriority(os.PRIO_PROCESS, 0))
    child = processes.start([sys.executable, "-c", code], log=Path(sys.argv[2] + "2"), token="u")
    os.waitpid(child.pid, 0)
    print(Path(sys.argv[2] + "2").read_text())
"""


def niceness(nice: int, log: Path, *more: str) -> list[int]:
    """Of the controller's thread, of one that it starts, and of a training."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(nice), str(log), *more], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_what_the_controller_starts_keeps_the_priority_that_it_had_itself(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nicer = min(own + 7, 19)
    assert niceness(7, tmp_path / "nice.log") == [nicer, nicer, own]
    assert niceness(0, tmp_path / "same.log") == [own, own, own]


def test_it_takes_turns_again_where_it_falls_behind_and_the_system_allows(tmp_path: Path) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nicer = min(own + 7, 19)
    hurrying = own if os.geteuid() == 0 else nicer
    assert niceness(7, tmp_path / "nice.log", "raise_priority")[3:] == [hurrying, nicer, own]


_BLOCKED = """
import os, signal, sys
from pathlib import Path
from proxy.app.priority import lower_priority
from proxy.loop.adapters import processes

signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD))
lower_priority(1)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
code = "import signal; print([*signal.pthread_sigmask(signal.SIG_BLOCK, ())])"
child = processes.start([sys.executable, "-c", code], log=Path(sys.argv[1]), token="t")
os.waitpid(child.pid, 0)
"""


def test_what_the_controller_starts_blocks_no_signals(tmp_path: Path) -> None:
    """The supervisor starts the controller with signals blocked: a training would miss the end of its child."""
    log = tmp_path / "log"
    subprocess.run([sys.executable, "-c", _BLOCKED, str(log)], check=True)
    assert log.read_text() == "[]\n"


_TURNS = """
import ctypes, os, struct, sys, threading
from pathlib import Path
from proxy.app.priority import lower_priority
from proxy.loop.adapters import processes

GET = "import ctypes, struct; attributes = ctypes.create_string_buffer(56); " \\
      f"ctypes.CDLL(None).syscall({sys.argv[2]}, 0, attributes, 56, 0); " \\
      "print(*struct.unpack_from('<IIQiIQ', attributes)[3::2], flush=True)"
exec(GET)
lower_priority(3)
exec(GET)
thread = threading.Thread(target=exec, args=(GET, {}))
thread.start()
thread.join()
child = processes.start([sys.executable, "-c", GET], log=Path(sys.argv[1]), token="t")
os.waitpid(child.pid, 0)
"""


_KERNEL = tuple(map(int, platform.release().split(".")[:2]))
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}


@pytest.mark.skipif(_KERNEL < (6, 12), reason="Linux has short turns since 6.12")
def test_turns_are_short_but_for_what_the_controller_starts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TURNS, str(tmp_path / "log"), str(_SCHED_GETATTR[platform.machine()])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, controller, thread = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    assert controller == thread == [min(19, before[0] + 3), TURN_NS]
    assert before[1] != TURN_NS
    assert [int(word) for word in (tmp_path / "log").read_text().split()] == before


_FORBIDDEN = """
import ctypes, errno, struct, sys

numbers = [int(number) for number in sys.argv[1:]]
rules = [(0x20, 0, 0, 0)]  # load the number of the system call; each that is equal goes to the last rule
rules += [(0x15, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
rules += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]  # allow; refuse
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(code)))
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
libc = ctypes.CDLL(None)
if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SECCOMP, FILTER, program, 0, 0):
    print("no filters here")
from proxy.app.turns import take_short_turns
take_short_turns()
"""
"""What `docker run --security-opt seccomp=…` does."""
_NUMBERS = {
    "x86_64": {"sched_setattr": 314, "sched_getscheduler": 145, "getpriority": 140},
    "aarch64": {"sched_setattr": 274, "sched_getscheduler": 120, "getpriority": 141},
}


@pytest.mark.skipif(platform.machine() not in _NUMBERS, reason="numbers of the system calls are not known here")
@pytest.mark.parametrize("also", [None, "sched_getscheduler", "getpriority"], ids=str)
def test_a_container_that_forbids_the_calls_costs_short_turns_and_nothing_else(also: str | None) -> None:
    numbers = _NUMBERS[platform.machine()]
    refused = [numbers[name] for name in ("sched_setattr", also) if name]
    done = subprocess.run(
        [sys.executable, "-c", _FORBIDDEN, *map(str, refused)], capture_output=True, text=True, check=False
    )
    if "no filters here" in done.stdout:
        pytest.skip("this kernel lets nobody set a filter")
    assert (done.returncode, done.stderr) == (0, "")
