"""The training process: `python -m proxy.loop.adapters.trainers.runner ORDER.json`, standard library only.

It calls the training function, or runs the training command, in a child that a `TrainingKeeper` looks after, and leaves
behind what a controller needs that may have been restarted in between:

    process.json    who it is; written first, under a lock, so that of two runners of one run the later steps back
    result.json     what the function returned (the command writes its own)
    exit.json       {"code": n, "reason": text, "kept": the same without what the training said}; written last: with it
                    the run has ended, and nothing of it runs any more

A runner that is killed writes no exit.json, and the controller sees that it is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from proxy.callables import imported
from proxy.loop.adapters.processes import identify
from proxy.loop.adapters.trainers.calling import anchored, call
from proxy.loop.adapters.trainers.keeper import ExitOutcome, Say, TrainingKeeper
from proxy.loop.adapters.trainers.plain import NotPlainError, plain
from proxy.loop.adapters.trainers.train_log import TrainLog
from proxy.private import replace_private

__all__ = ["main", "write_json"]

LOCK, PROCESS, RESULT, EXIT, PROGRESS = "run.lock", "process.json", "result.json", "exit.json", "progress.json"
LOG = "train.log"
_AGAIN_S = 1.0
_WORDLESS = "the training's process ended with exit code 0 before the function had returned (os._exit?)"


def main(order_path: str) -> None:
    """Carry out the order: `kind` (callable or command), `target`, `grace_s` and `term_s` (of the keeper), paths."""
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
    log = TrainLog(output_dir / LOG)
    training = _run_command if order["kind"] == "command" else _call_function
    keeper = TrainingKeeper(log, token=str(output_dir), grace_s=order["grace_s"], term_s=order["term_s"])
    outcome = keeper.run(partial(training, order, output_dir))
    if outcome.result is not None:
        _write_at_last(output_dir / RESULT, outcome.result, log)
    elif outcome.code == 0 and order["kind"] != "command":
        outcome = ExitOutcome(code=1, reason=_WORDLESS, kept=_WORDLESS)
    _write_at_last(output_dir / EXIT, {"code": outcome.code, "reason": outcome.reason, "kept": outcome.kept}, log)


def _write_at_last(path: Path, content: Any, log: TrainLog) -> None:
    """Write it as soon as the disk takes it: hours of training shall not be lost to a minute without space."""
    while path.parent.is_dir():
        try:
            write_json(path, content)
            return
        except OSError as error:
            log.say(f"{path} cannot be written yet: {error}")
            time.sleep(_AGAIN_S)


def _wait_for(path: Path) -> None:
    """Until the other runner has signed, so that whoever started this one finds a name there."""
    for _ in range(500):
        if path.exists():
            return
        time.sleep(0.02)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader sees all of it or nothing."""
    replace_private(path, json.dumps(content), durable=True)


def _run_command(order: Mapping[str, Any], _: Path, say: Say) -> None:
    """Become the command: how it ends is the outcome."""
    try:
        os.execvp(order["target"][0], order["target"])
    except OSError as error:
        reason = f"trainer.command cannot be started: {error}"
        say(ExitOutcome(code=127, reason=reason, kept=reason))


def _call_function(order: Mapping[str, Any], output_dir: Path, say: Say) -> None:
    began, ended = Path(order["cwd"]), False
    try:
        function = imported(order["target"])
        result = call(function, order["data_path"], **_extras(function, order, output_dir))
        ended = True
        say(_outcome_of(order["target"], result, began))
    except BaseException as error:
        if ended:  # not the training's: the pipe's
            raise
        with contextlib.suppress(Exception):  # it may have closed its stderr
            traceback.print_exc()
        kept = f"{order['target']} raised {type(error).__name__}"
        say(ExitOutcome(code=1, reason=f"{kept}: {error}", kept=kept))


def _outcome_of(target: str, result: Any, began: Path) -> ExitOutcome:
    if not isinstance(result, Mapping):
        reason = f"{target} returned {type(result).__name__}, not a dict with model_path"
        return ExitOutcome(code=1, reason=reason, kept=reason)
    try:
        return ExitOutcome(code=0, result=plain(anchored(result, began)))
    except NotPlainError as error:
        return ExitOutcome(code=1, reason=str(error), kept=error.kept)


def _extras(function: Callable[..., Any], order: Mapping[str, Any], output_dir: Path) -> dict[str, Any]:
    """What the function asks for by name, beside the data path that it gets first."""

    def report(fraction: float, message: str = "") -> None:
        with contextlib.suppress(OSError):  # no training ends for want of space for its progress
            write_json(output_dir / PROGRESS, {"fraction": float(fraction), "message": str(message)})

    offered = {
        "run_id": order["run_id"],
        "holdout_path": order["holdout_path"],
        "output_dir": order["output_dir"],
        "champion": order["champion"],
        "report": report,
    }
    try:
        asked = list(inspect.signature(function).parameters)[1:]
    except ValueError:  # written in C, and says nothing of itself
        return {}
    return {name: offered[name] for name in asked if name in offered}


if __name__ == "__main__":
    main(sys.argv[1])
