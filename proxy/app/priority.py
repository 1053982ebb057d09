"""The controller's place behind the workers: serving has priority, storing and deciding have time.

On Linux each thread has a niceness of its own, which threads and processes that it starts inherit, and which nobody can
lower again without a privilege. So what the controller starts for others, trainings and model servers, is started from
a thread that was there before.

On a machine whose cores are always busy a nice controller gets next to nothing: where what waits only grows, it takes
its turn again like the others, if the system lets it (root, CAP_SYS_NICE, or RLIMIT_NICE).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from proxy.app.turns import take_short_turns
from proxy.loop.adapters.processes import start_from

__all__ = ["lower_priority", "raise_priority"]

_TASKS: Final = Path("/proc/self/task")

_log = logging.getLogger(__name__)
_way: dict[str, int] = {}
"""Niceness that this process came with (`own`) and gives way by (`nice`), and the `starter` thread's id."""


def lower_priority(nice: int) -> None:
    """Lower this thread's priority and shorten its turns, and those of threads that it starts from now on.

    Call it before there are others.
    """
    if nice <= 0:
        return
    starter = ThreadPoolExecutor(1, thread_name_prefix="starts processes")
    thread = starter.submit(threading.get_native_id).result()  # it is there, as nice as we are now
    start_from(starter)
    _way.update(own=os.getpriority(os.PRIO_PROCESS, 0), nice=nice, starter=thread)
    try:
        os.nice(nice)
    except OSError as exc:
        _log.warning("server.controller_nice: the controller's priority cannot be lowered: %s", exc)
    take_short_turns()


def raise_priority(yes: bool) -> None:
    """Take turns like the others for a while, or give way again."""
    if not _way:
        return
    nice = min(19, _way["own"] + (0 if yes else _way["nice"]))
    try:
        for task in _TASKS.iterdir():
            if int(task.name) != _way["starter"]:
                with contextlib.suppress(ProcessLookupError):
                    os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    except PermissionError:
        _log.warning("storing falls behind: the cores are busy; lower server.controller_nice (now %d)", _way["nice"])
    else:
        _log.info(
            "the controller %s",
            "takes its full share of the CPU: the backlog grows" if yes else "gives way to requests again",
        )
