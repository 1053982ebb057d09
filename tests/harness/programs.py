"""Programs of the examples, run as a reader of theirs would."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["EXAMPLES", "free_port", "program"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


_ports = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """A port for a server that must be told one.

    It is below those that the kernel gives away by itself, which could be gone before the server has started, and every
    process that runs tests counts on from another place.
    """
    while True:
        port = 10_000 + next(_ports) % 22_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def program(path: Path, *args: str, says: str = "", environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a Python file until the end of the `with`. `says`: what its first line must match; gives the first group."""
    process = subprocess.Popen(
        [sys.executable, str(path), *args],
        stdout=subprocess.PIPE if says else subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
        text=True,
    )
    try:
        found = ""
        if says:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(says, line)
            assert match, f"{path.name} said {line!r}"
            found = match[1]
        yield found
    finally:
        process.terminate()
        process.wait(120)
        if process.stdout is not None:
            process.stdout.close()
