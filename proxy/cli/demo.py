"""`ratchet demo`: watch a model improve itself."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from proxy.cli.common import Exit, fail

__all__ = ["demo"]

_PACKAGES = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
"""By the name that is imported, the name that is installed."""


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Directory for all files; it is emptied only if the demo made it.")
    ] = Path("demo-output"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same verdicts.")] = 7,
    fast: Annotated[bool, typer.Option("--fast", help="One promotion, not two, before the bad one.")] = False,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Keep serving at the end, so that you can look around.")
    ] = False,
    rate: Annotated[float, typer.Option(min=20, max=1000, help="Questions per second of the simulated users.")] = 150.0,
) -> None:
    """Watch a small real model improve itself: requests, votes, retrain, test, promotion; and two bad models caught.

    Only the users are simulated. Meanwhile kill -9 hits the demo's worker, its controller, and all its processes at
    once; at the end the log is compared with what the users received. Needs the extra `demo` (scikit-learn,
    matplotlib).
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        names = " and ".join(_PACKAGES[name] for name in missing)
        fail(Exit.FAILED, f"the demo needs {names}. {_way(Path(__file__).parents[2])}")
    from proxy.demo.command import run_demo

    raise typer.Exit(run_demo(directory, seed=seed, fast=fast, keep_running=keep_running, rate=rate))


def _way(root: Path) -> str:
    """To install them: a checkout has a Makefile, and is on no index by its name."""
    if (root / "Makefile").is_file() and (root / "pyproject.toml").is_file():
        return f"This is a checkout: run `make demo` in {root}, or there pip install '.[demo]'"
    return "Run: pip install 'ratchet-proxy[demo]' (in a checkout of the source: make demo)"
