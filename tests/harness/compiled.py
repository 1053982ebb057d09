"""The hot path's tests on compiled code: `python -m tests.harness.compiled [pytest's arguments]`.

It runs in a copy of this checkout, so that the checkout itself goes on from its sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["copy_sources", "main"]

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = (
    "tests/gateway",
    "tests/ids",
    "tests/ingest",
    "tests/metrics",
    "tests/spool",
    "tests/users",
    "tests/wire",
)


def copy_sources(root: Path, target: Path) -> None:
    """Copy all files of a checkout that git knows, or would take in."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


def main(arguments: list[str]) -> int:
    """Copy, compile, test; returns pytest's exit status. Raises CalledProcessError where it does not compile."""
    with tempfile.TemporaryDirectory(prefix="ratchet-compiled-") as folder:
        copy = Path(folder).resolve()
        copy_sources(ROOT, copy)
        environ = {"MYPYC_OPT_LEVEL": "0", **os.environ, "PYTHONPATH": str(copy)}
        subprocess.run([sys.executable, "hatch_build.py"], cwd=copy, env=environ, check=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or ROOMS)]
        return subprocess.run(command, cwd=copy, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
