"""The training that every trainer of the contract suite runs: it does what the file `behaviour` in its folder says.

It leaves one line in `starts` per start, and waits for the file `go` where it is told to be slow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(
    data_path: str, output_dir: str, run_id: str, report: Callable[..., None] = lambda *_: None
) -> dict[str, Any] | None:
    """A training function, as the quick start writes it, with three of the optional parameters."""
    folder = Path(output_dir)
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    behaviour = (folder / "behaviour").read_text()
    print(f"training {run_id}", flush=True)
    if behaviour == "slow":
        report(0.25, "epoch 1 of 4")
        _wait_for(folder)
    if behaviour == "stubborn":
        _child_that_ignores_sigterm(folder)
        _wait_for(folder)
    if behaviour == "raises":
        raise ValueError("the loss is not a number")
    if behaviour == "nothing":
        return None
    if behaviour == "empty":
        return {}
    model = folder / "model.json"
    if behaviour != "missing":
        model.write_text(Path(data_path).read_text())
    return {"model_path": str(model), "loss": 0.25}


async def train_async(data_path: str, output_dir: str) -> dict[str, Any]:
    """A training function may be a coroutine."""
    return {"model_path": _model_in(output_dir), "loss": 1.0}


class Number:
    """A number as numpy and torch have them."""

    def item(self) -> float:
        return 0.5


def train_with_numpy(data_path: str) -> dict[str, Any]:
    """Only the data path, and a result that is no plain JSON; the path is relative to the working directory."""
    model = os.path.relpath(_model_in(os.path.dirname(data_path)))
    return {"model_path": model, "loss": Number(), "device": Path("/dev/null")}


def _model_in(folder: str) -> str:
    model = Path(folder) / "model.json"
    model.write_text("weights")
    return str(model)


NOT_CALLABLE = 1


def _wait_for(folder: Path) -> None:
    while not (folder / "go").exists():
        if (folder / "stop").exists():
            raise InterruptedError("stopped")
        time.sleep(0.01)


def _child_that_ignores_sigterm(folder: Path) -> None:
    code = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    )
    subprocess.Popen([sys.executable, "-c", code, str(folder / "child-is-up")])
    while not (folder / "child-is-up").exists():
        time.sleep(0.01)


if __name__ == "__main__":
    data, output, run, result = sys.argv[1:]
    progress = Path(output) / "progress.json"

    def tell(fraction: float, message: str) -> None:
        """Write progress the way a command does."""
        partial = progress.with_suffix(".tmp")
        partial.write_text(json.dumps({"fraction": fraction, "message": message}))
        partial.replace(progress)

    outcome = train(data, output, run, tell)
    if outcome is not None:
        Path(result).write_text(json.dumps(outcome))
