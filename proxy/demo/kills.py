"""`kill -9` in mid-traffic: a worker, then the controller, then everything at once.

A killed process runs no handler, flushes nothing and says no goodbye. The supervisor starts its children again; where
it is killed itself, the demo starts `ratchet serve` again, as systemd would.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from proxy.clock import Clock
from proxy.demo.processes import DemoProcess, wait_until_healthy

__all__ = ["Kill", "Victim", "kill", "running"]

_NAMES: Final = ("supervisor", "worker-0", "controller")
_LIMIT_S: Final = 60.0
_PAUSE_S: Final = 0.05


class Victim(Enum):
    """What is killed; the value is what a reader calls it."""

    WORKER = "a worker"
    CONTROLLER = "the controller"
    EVERYTHING = "everything at once"

    @property
    def processes(self) -> tuple[str, ...]:
        """Their names, in the order in which they are killed: the supervisor first, or it would start them again."""
        return {Victim.WORKER: ("worker-0",), Victim.CONTROLLER: ("controller",), Victim.EVERYTHING: _NAMES}[self]


@dataclass(frozen=True, slots=True)
class Kill:
    """Seconds since the customers came, what was killed, and how long until all was well again (None: not yet)."""

    at_s: float
    victim: Victim
    back_s: float | None = None


def running(data_dir: Path) -> dict[str, int]:
    """Process ids of a running `ratchet serve` by name, without those that are just being started."""
    found = {}
    for name in _NAMES:
        with contextlib.suppress(OSError, ValueError):
            found[name] = int((data_dir / "run" / f"{name}.pid").read_text())
    return found


async def kill(victim: Victim, server: DemoProcess, data_dir: Path, *, url: str, admin_url: str, clock: Clock) -> float:
    """SIGKILL, and return once new processes answer; how many seconds that took.

    Raises RuntimeError where they do not within a minute.
    """
    before = running(data_dir)
    began = clock.monotonic()
    for name in victim.processes:
        if name in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(before[name], signal.SIGKILL)
    try:
        async with asyncio.timeout(_LIMIT_S):
            while any(running(data_dir).get(name) in (None, before.get(name)) for name in victim.processes):
                server.revive()
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        raise RuntimeError(f"{victim.value} did not restart; {server.log} says:\n{server.tail()}") from None
    await wait_until_healthy(f"{url}/-/health", server)
    await wait_until_healthy(f"{admin_url}/status", server)
    return clock.monotonic() - began
