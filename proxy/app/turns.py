"""Short turns on a core that workers and controller share.

Niceness says how much of the core each gets, and not how soon: a turn of the controller that has begun goes on for
3 ms, whoever waits. Linux lets a thread ask for shorter ones since 6.12. Measured beside a controller that catches up
(docs/benchmarks.md): with short turns of both, half of the time above it in the worst hundredth is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import struct
from typing import Final

__all__ = ["TURN_NS", "take_short_turns"]

TURN_NS: Final = 100_000
"""The shortest that the kernel takes."""
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call, for which glibc has no function before 2.41."""
_ATTRIBUTES: Final = struct.Struct("<IIQiIQQQ")
"""`struct sched_attr`: its size, policy, flags, niceness, real-time priority, runtime, deadline, period."""


def take_short_turns() -> None:
    """Ask for short turns for this thread, and for those which it starts from now on. Where the kernel is older or
    refuses, they stay as they are."""
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None or struct.calcsize("P") < 8 or not hasattr(os, "sched_getscheduler"):  # 32 bits count otherwise
        return
    with contextlib.suppress(OSError):  # a container may forbid to ask, too
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, TURN_NS, 0, 0)
            ctypes.CDLL(None).syscall(number, 0, wanted, 0)
