"""The hot path's tests on compiled code: `make test-compiled`, or `python -m tests.harness.compiled [for pytest]`.

They run in a copy of this checkout, so that the checkout itself goes on from its sources. What is compiled for tests is
not optimised: that takes half the time, and promises no less.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from hatch_build import missing_to_compile

__all__ = ["copy_sources", "main"]

ROOT: Final = Path(__file__).resolve().parents[2]
ROOMS: Final = (
    "tests/config",
    "tests/gateway",
    "tests/ids",
    "tests/ingest",
    "tests/metrics",
    "tests/policies/test_assignment.py",
    "tests/policies/test_repetition.py",
    "tests/policies/test_scoring.py",
    "tests/spool",
    "tests/store/test_columns.py",
    "tests/users",
    "tests/wire",
    # Whole servers, whose processes run what is compiled: bytes as they were, requests run once, and `kill -9`.
    "tests/acceptance/test_hostile_bytes.py",
    "tests/acceptance/test_cases_transport.py",
    "tests/acceptance/test_survival.py",
)
_IS_COMPILED: Final = "from proxy import version; assert version.build() == 'compiled', version.__file__"


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
    """Copy, compile, test; returns pytest's exit status, or says why there is nothing to test."""
    if lacks := missing_to_compile():
        sys.exit(f"Nothing is compiled, and nothing tested: {lacks}")
    with tempfile.TemporaryDirectory(prefix="ratchet-compiled-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve() / "copy"
        copy_sources(ROOT, copy)
        environ = {"MYPYC_OPT_LEVEL": "0", **os.environ, "PYTHONPATH": str(copy)}
        for step in ("hatch_build.py",), ("-c", _IS_COMPILED):
            if failed := subprocess.run([sys.executable, *step], cwd=copy, env=environ, check=False).returncode:
                return failed
        tested = [] if any(Path(argument.partition("::")[0]).exists() for argument in arguments) else ROOMS
        options = ["-p", "no:cacheprovider", f"--basetemp={folder}/t", *arguments]
        command = [sys.executable, "-m", "pytest", *options, *tested]
        return subprocess.run(command, cwd=copy, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
