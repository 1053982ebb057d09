"""The controller's place behind the workers: serving has priority, storing and deciding have time.

On Linux each thread has a niceness of its own, which threads and processes that it starts inherit, and which nobody can
lower again without a privilege. So what the controller starts for others, trainings and model servers, is started from
a thread that was there before.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

from proxy.loop.processes import start_from

__all__ = ["give_way"]

_log = logging.getLogger(__name__)


def give_way(nice: int) -> None:
    """Lower this thread's priority, and that of those which it starts from now on. Call it before there are others."""
    if nice <= 0:
        return
    starter = ThreadPoolExecutor(1, thread_name_prefix="starts processes")
    starter.submit(os.getpid).result()  # the thread is there, as nice as we are now
    start_from(starter)
    try:
        os.nice(nice)
    except OSError as exc:
        _log.warning("server.controller_nice: this system does not let the controller be nicer: %s", exc)
