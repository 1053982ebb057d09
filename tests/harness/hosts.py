"""`ratchet serve` on a host of a `Network`, with a clock that may be wrong."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.harness.network import Network
from tests.harness.serve import RatchetProcess, await_true

__all__ = ["TOKEN", "HostProcess", "find_faketime"]

TOKEN = "a-long-token-of-the-fleet"
"""Of the admin port, which listens on an address that others reach."""


@cache
def find_faketime() -> Path | None:
    """libfaketime, which makes a program believe that it is another time."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class HostProcess(RatchetProcess):
    """Process ids in its files are the host's; ours, for signals, are found by them."""

    def __init__(
        self,
        directory: Path,
        network: Network,
        host: int,
        *,
        champion: str,
        settings: Mapping[str, Any],
        clock_ahead_s: float = 0.0,
    ) -> None:
        address = network.front_of(host)
        super().__init__(
            directory,
            champion=champion,
            settings={
                **settings,
                "server": {**settings.get("server", {}), "host": address, "port": 8080},
                "admin": {**settings.get("admin", {}), "host": address, "port": 8081, "token": TOKEN},
            },
            environ=_at(clock_ahead_s),
            inside=network.inside(host),
        )
        self.network = network
        self.host = host

    @property
    def supervisor(self) -> int:
        """The first process on the host, as we know it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    @property
    def process_ids(self) -> str:
        """The name of the space in which the host's process ids mean something; empty while it has no process."""
        try:
            return os.readlink(f"/proc/{self.supervisor}/ns/pid")
        except OSError:
            return ""

    def pid(self, name: str) -> int:
        """0 where there is no such process any more."""
        wanted, space = (self.data_dir / "run" / f"{name}.pid").read_text().split()[0], self.process_ids
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                ids = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:"))
                if ids.split()[-1] == wanted and os.readlink(status.with_name("ns") / "pid") == space:
                    return int(status.parent.name)
            except (OSError, StopIteration):  # it has ended meanwhile
                continue
        return 0

    def start(self, *, ready: bool = True) -> HostProcess:
        super().start(ready=ready)
        return self

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None and not self._terminated:
            self._terminated = True
            self._signal(signal.SIGTERM)

    def crash(self) -> None:
        """`kill -9` of all that runs on the host, at once."""
        assert self.process is not None
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        """To the first process on the host, where it has not ended by itself meanwhile."""
        with contextlib.suppress(OSError):
            if pid := self.supervisor:
                os.kill(pid, number)

    def come_back(self) -> None:
        """Start it again, on the same disk, and wait until all of it is well."""
        self.start()
        await_true(self._stores, "the host to be back")

    def _stores(self) -> bool:
        try:
            return self.metric("ratchet_store_up") == 1
        except (OSError, HTTPException):
            return False


def _at(ahead_s: float) -> dict[str, str]:
    """Environment of a program that believes it is so much later; time that is only measured goes on as it is."""
    library = find_faketime()
    if not ahead_s or library is None:
        return {}
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{ahead_s:+g}s", "DONT_FAKE_MONOTONIC": "1"}
