"""What a benchmark prints: tables as docs/benchmarks.md has them, ready to be pasted, and what ran where and when."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from proxy.version import __version__, build

__all__ = ["around", "markdown", "ran_on"]


def ran_on() -> str:
    """One sentence: which build on which Python, which machine, when, and how busy it was."""
    cores = len(os.sched_getaffinity(0))
    now = datetime.now(UTC)
    return (
        f"Ratchet {__version__}, {build()}, on Python {platform.python_version()} ({_python()}); {_nginx()}; "
        f"{cores} cores ({_cpu()}), {_system()}, load {os.getloadavg()[0]:.1f} at the end; {now:%d %B %Y %H:%M} UTC."
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; floats with as many digits as say something."""
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def around(values: Sequence[float], digits: int = 2) -> str:
    """The median, and every round in its turn."""
    return f"**{median(values):.{digits}f}** ({', '.join(f'{value:.{digits}f}' for value in values)})"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _python() -> str:
    """How the interpreter was built: what is compiled runs a seventh slower where that was done without PGO."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "PGO"
    return "the distribution's build" if sys.base_prefix == "/usr" else "built without PGO"


def _cpu() -> str:
    match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return match[1] if match else platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _nginx() -> str:
    try:
        done = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True, check=True)
    except OSError:
        return "no nginx"
    return done.stderr.strip().rpartition(" ")[2].replace("/", " ")
