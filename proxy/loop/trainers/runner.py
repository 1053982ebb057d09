"""The training process: `python -m proxy.loop.trainers.runner ORDER.json`, standard library only.

It calls the training function, or runs the training command, and leaves behind what a controller needs that may have
been restarted in between:

    process.json    who it is; written first, under a lock, so that of two runners of one run the later steps back
    result.json     what the function returned (the command writes its own)
    exit.json       {"code": n, "reason": text, "kept": the same without what the training said}; written last: with it
                    the run has ended

A runner that is killed writes no exit.json, and the controller sees that it is gone.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import inspect
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proxy.loop.processes import identify
from proxy.private import replace_private

__all__ = ["main", "write_json"]

LOCK, PROCESS, RESULT, EXIT, PROGRESS = "run.lock", "process.json", "result.json", "exit.json", "progress.json"


def main(order_path: str) -> None:
    """Carry out the order: `kind` (callable or command), `target`, and the paths of the run."""
    order = json.loads(Path(order_path).read_text())
    output_dir = Path(order["output_dir"])
    lock = os.open(output_dir / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _wait_for(output_dir / PROCESS)
        return
    if (output_dir / PROCESS).exists():
        return
    write_json(output_dir / PROCESS, identify(os.getpid()).as_json())
    carry_out = _run_command if order["kind"] == "command" else _call_function
    code, reason, kept = carry_out(order, output_dir)
    write_json(output_dir / EXIT, {"code": code, "reason": reason, "kept": kept})


def _wait_for(path: Path) -> None:
    """Until the other runner has signed, so that whoever started this one finds a name there."""
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader sees all of it or nothing."""
    replace_private(path, json.dumps(content, default=_plain), durable=True)


def _run_command(order: Mapping[str, Any], _: Path) -> tuple[int, str, str]:
    try:
        code = subprocess.run(order["target"], stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        reason = f"trainer.command can not be started: {error}"
        return 127, reason, reason
    if code == 0:
        return 0, "", ""
    reason = f"the training command ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"
    return code, reason, reason


def _call_function(order: Mapping[str, Any], output_dir: Path) -> tuple[int, str, str]:
    try:
        function = _load(order["target"])
        answer = function(order["data_path"], **_extras(function, order, output_dir))
        result = asyncio.run(answer) if inspect.iscoroutine(answer) else answer
        if not isinstance(result, Mapping):
            reason = f"{order['target']} returned {type(result).__name__}, not a dict with model_path"
            return 1, reason, reason
        write_json(output_dir / RESULT, dict(result))
    except BaseException as error:  # noqa: BLE001 - whatever training raises, SystemExit too, is the reason it failed
        traceback.print_exc()
        kept = f"{order['target']} raised {type(error).__name__}"
        return 1, f"{kept}: {error}", kept
    return 0, "", ""


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function = importlib.import_module(module)
    for part in name.split("."):
        function = getattr(function, part)
    if not callable(function):
        raise TypeError(f"trainer.callable: {target} is not callable")
    return function


def _extras(function: Callable[..., Any], order: Mapping[str, Any], output_dir: Path) -> dict[str, Any]:
    """What the function asks for by name, beside the data path that it gets first."""

    def report(fraction: float, message: str = "") -> None:
        write_json(output_dir / PROGRESS, {"fraction": float(fraction), "message": message})

    offered = {
        "run_id": order["run_id"],
        "holdout_path": order["holdout_path"],
        "output_dir": order["output_dir"],
        "champion": order["champion"],
        "report": report,
    }
    asked = list(inspect.signature(function).parameters)[1:]
    return {name: offered[name] for name in asked if name in offered}


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as plain ones, everything else as text."""
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


if __name__ == "__main__":
    main(sys.argv[1])
