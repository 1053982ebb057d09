"""Child processes of the demo: started with a log, started again when they died, stopped by pid."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

__all__ = ["DemoProcess", "wait_until_healthy"]

_STOP_S = 20.0


class DemoProcess:
    """A process whose output goes to a file and which is stopped when the block ends."""

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self._argv = list(argv)
        self._env = dict(env)
        log.unlink(missing_ok=True)
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=self._env,
                start_new_session=True,
            )  # fmt: skip

    def revive(self) -> None:
        """Start it again where it is dead, as systemd would."""
        if not self.alive:
            self._process = self._start()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()


async def wait_until_healthy(url: str, child: DemoProcess, limit_s: float = 60.0) -> None:
    """Return once `url` answers 200; raises RuntimeError with the log's end when the child dies or time is up."""
    try:
        async with asyncio.timeout(limit_s), aiohttp.ClientSession() as session:
            while child.alive:
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RuntimeError(f"{url} did not answer within {limit_s:.0f} s; {child.log} says:\n{child.tail()}") from None
    raise RuntimeError(f"the process behind {url} ended; {child.log} says:\n{child.tail()}")
