"""Training on this machine, in a process that outlives the controller: a Python function or a command.

Both are run by `proxy.loop.adapters.trainers.runner`. Everything this adapter knows about a run stands in the run's
folder, so a new controller finds the run again, running or ended, even if the old one died between starting it and
saying so.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, TemporaryError
from proxy.loop.adapters import processes
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.adapters.trainers import runner
from proxy.loop.adapters.trainers.placeholders import fill, values_of
from proxy.loop.adapters.trainers.results import accept, fraction, read_json
from proxy.loop.adapters.trainers.runner import write_json
from proxy.loop.ports import Failed, Handle, Running, TrainingRun, TrainingStatus
from proxy.private import make_folder

__all__ = ["CallableTrainer", "CommandTrainer"]

_LOG, _ORDER = runner.LOG, "order.json"
_START_S = 30.0
_POLL_S = 0.02


class _LocalTrainer(ABC):
    """The life cycle that function and command share."""

    kind = ""

    def __init__(self, config: TrainerConfig) -> None:
        """`options.cancel_grace_seconds` is the time between SIGTERM and SIGKILL, `options.leftover_grace_seconds` what
        a training leaves running has to end by itself (both 10 by default). Raises ConfigError for no number."""
        self._grace_s = _seconds(config, "cancel_grace_seconds")
        self._leftover_s = _seconds(config, "leftover_grace_seconds")

    @abstractmethod
    def _target(self, run: TrainingRun) -> Any:
        """What the runner is to call or run."""

    async def start(self, run: TrainingRun) -> Handle:
        """Start the runner, or find the one that this run already has."""
        folder = run.output_dir.absolute()
        handle = {"kind": self.kind, "output_dir": str(folder)}
        if _process(folder) is not None or _ended(folder):
            return handle
        order = folder / _ORDER
        try:
            make_folder(folder)
            write_json(order, self._order(run, folder))
            process = processes.start(
                [sys.executable, "-m", "proxy.loop.adapters.trainers.runner", str(order)],
                log=folder / _LOG,
                token=str(folder),
                env={"PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            raise TemporaryError(f"no training process could be started for {run.run_id}: {error}") from error
        await _until_it_has_signed(folder, process)
        return handle

    async def poll(self, run_id: str, handle: Handle) -> TrainingStatus:
        """Ended by exit.json; gone without one when nobody is left; otherwise running."""
        folder = Path(handle["output_dir"])
        process = _process(folder)
        if process is not None and not _ended(folder) and processes.alive(process):
            return _running(folder)
        if _ended(folder):  # asked after `alive`: the file is written before the process ends
            return _outcome(folder)
        if process is not None and not processes.of_this_boot(process):
            return Failed(reason="the training ran on another host, or on this host before its reboot, and is lost")
        code = None if process is None else processes.exit_code(process)
        how = f" by signal {-code}" if code is not None and code < 0 else ""
        return _with_log(folder, f"the training process left no result; it was probably killed{how}")

    async def cancel(self, run_id: str, handle: Handle) -> None:
        """End the runner and whatever it started, also where it has ended itself: killed, it took nothing along."""
        folder = Path(handle["output_dir"])
        process = _process(folder) or processes.find(str(folder))
        had_ended = _ended(folder)
        ran = process is not None and processes.alive(process)
        if process is not None:
            await processes.stop(process, grace_s=self._grace_s)
        await processes.sweep(str(folder), grace_s=0.0 if ran else self._grace_s)
        if had_ended or not folder.is_dir():
            return  # what it said of its end stays: it is written before its process is gone
        if not _ended(folder) or _object(folder / runner.EXIT).get("code") != 0:
            reason = "the training was cancelled"
            write_json(folder / runner.EXIT, {"code": -1, "reason": reason, "kept": reason})

    async def adopt(self, run_id: str, handle: Handle) -> bool:
        """Whether the run's folder still knows of it."""
        folder = Path(handle["output_dir"])
        return _process(folder) is not None or _ended(folder)

    def _order(self, run: TrainingRun, folder: Path) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "target": self._target(run),
            "run_id": run.run_id,
            "data_path": str(run.data_path.absolute()),
            "holdout_path": None if run.holdout_path is None else str(run.holdout_path.absolute()),
            "output_dir": str(folder),
            "champion": run.champion,
            "cwd": os.getcwd(),
            "grace_s": self._leftover_s,
            "term_s": self._grace_s,
        }


class CallableTrainer(_LocalTrainer):
    """`trainer.callable = "package.module:train_model"`, imported from the working directory or the environment."""

    kind = "callable"

    def __init__(self, config: TrainerConfig) -> None:
        """Raises ConfigError where the name is not `module:function`; it is imported only in the training process."""
        super().__init__(config)
        if not re.fullmatch(r"[\w.]+:[\w.]+", config.callable or ""):
            raise ConfigError(f"trainer.callable: {config.callable!r} is not of the form package.module:function")
        self._callable = config.callable

    def _target(self, run: TrainingRun) -> Any:
        return self._callable


class CommandTrainer(_LocalTrainer):
    """`trainer.command`: an argv in which {data_path} and the like are filled in. No shell."""

    kind = "command"

    def __init__(self, config: TrainerConfig) -> None:
        """Raises ConfigError where the command is empty."""
        super().__init__(config)
        if not config.command:
            raise ConfigError("trainer.command is empty; it needs the program and its arguments")
        self._command = config.command

    def _target(self, run: TrainingRun) -> Any:
        values = values_of(run)
        return [fill(part, values) for part in self._command]


async def _until_it_has_signed(folder: Path, process: ProcessId) -> None:
    """Wait for process.json, so that from here on the folder knows of the run."""
    deadline = asyncio.get_running_loop().time() + _START_S
    while _process(folder) is None and not _ended(folder):
        if not processes.alive(process):
            if _process(folder) is None:
                kept = "the training process could not start"
                reason = f"{kept}: {processes.log_tail(folder / _LOG)}"
                write_json(folder / runner.EXIT, {"code": processes.exit_code(process), "reason": reason, "kept": kept})
            return
        if asyncio.get_running_loop().time() > deadline:
            raise TemporaryError(f"the training process in {folder} has not started within {_START_S:.0f} s")
        await asyncio.sleep(_POLL_S)


def _seconds(config: TrainerConfig, option: str) -> float:
    text = config.options.get(option, "10")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ConfigError(f"trainer.options.{option}: {text!r} is not a number of seconds, 0 or more")
    return seconds


def _process(folder: Path) -> ProcessId | None:
    """Who the runner is; None before it has signed, or where that cannot be read."""
    try:
        return ProcessId.from_json(_object(folder / runner.PROCESS))
    except (KeyError, TypeError, ValueError):
        return None


def _object(path: Path) -> Mapping[str, Any]:
    """A JSON object of the run; empty where there is none, or it is damaged."""
    content = read_json(path)
    return content if isinstance(content, Mapping) else {}


def _ended(folder: Path) -> bool:
    return (folder / runner.EXIT).is_file()


def _running(folder: Path) -> Running:
    """Progress as the training reports it, else the last line of its log."""
    report = read_json(folder / runner.PROGRESS)
    if isinstance(report, Mapping):
        message = str(report.get("message", ""))
        return Running(progress=fraction(report.get("fraction")), message=message, quotes=True)
    return Running(message=processes.log_tail(folder / _LOG, lines=1, limit=200), quotes=True)


def _outcome(folder: Path) -> TrainingStatus:
    ended = _object(folder / runner.EXIT)
    if ended.get("code") != 0:
        reason = str(ended.get("reason") or "the training failed")
        return _with_log(folder, reason, kept=str(ended.get("kept") or "the training failed"))
    result = read_json(folder / runner.RESULT)
    if result is None:
        reason = f"the training ended without an error, but wrote no JSON to {folder / runner.RESULT}"
        return _with_log(folder, reason)
    return accept(result, base=Path(_object(folder / _ORDER).get("cwd", "/")), home=folder)


def _with_log(folder: Path, reason: str, *, kept: str | None = None) -> Failed:
    """The failure with the end of the log; `kept` is the reason without the training's own words."""
    tail = processes.log_tail(folder / _LOG)
    return Failed(
        reason=f"{reason}; the log ends:\n{tail}" if tail and tail not in reason else reason,
        kept=reason if kept is None else kept,
    )
