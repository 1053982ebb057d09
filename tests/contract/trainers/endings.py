"""Trainings that end in strange ways, or do not end. What they start is written into `pids`."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any


def _model(folder: str) -> dict[str, Any]:
    (Path(folder) / "model").write_text("weights")
    return {"model_path": os.path.join(folder, "model")}


def _note(folder: str, pid: int) -> None:
    with (Path(folder) / "pids").open("a") as pids:
        pids.write(f"{pid}\n")


def leaves_a_thread(data_path: str, output_dir: str) -> dict[str, Any]:
    threading.Thread(target=threading.Event().wait).start()
    _note(output_dir, os.getpid())
    return _model(output_dir)


def leaves_a_child(data_path: str, output_dir: str) -> dict[str, Any]:
    _note(output_dir, subprocess.Popen(["sleep", "600"]).pid)
    return _model(output_dir)


def leaves_a_daemon(data_path: str, output_dir: str) -> dict[str, Any]:
    """Forked twice, in a session of its own, without our environment."""
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            _note(output_dir, os.getpid())
            os.execve("/usr/bin/env", ["env", "sleep", "601"], {"PATH": os.environ["PATH"]})
        os._exit(0)
    os.waitpid(child, 0)
    while not (Path(output_dir) / "pids").exists():
        pass
    return _model(output_dir)


def leaves_a_stubborn_child(data_path: str, output_dir: str) -> dict[str, Any]:
    code = "import signal, sys; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    _note(output_dir, child.pid)
    return _model(output_dir)


def exits_at_once(data_path: str) -> None:
    os._exit(0)


def exits_with_3(data_path: str) -> None:
    os._exit(3)


def calls_sys_exit(data_path: str) -> None:
    sys.exit(0)


def interrupts_itself(data_path: str) -> None:
    signal.raise_signal(signal.SIGINT)


def is_killed(data_path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def closes_its_output(data_path: str) -> None:
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    os.close(2)
    raise ValueError("no more")


def returns_an_object(data_path: str) -> dict[str, Any]:
    return {"model_path": "hf://a/b", "weights": object()}


def returns_its_data(data_path: str) -> dict[str, Any]:
    return {"model_path": data_path}


def writes_without_lines(data_path: str, output_dir: str) -> dict[str, Any]:
    sys.stdout.write("." * 5_000_000)
    return _model(output_dir)


def changes_directory(data_path: str, output_dir: str) -> dict[str, Any]:
    _model(output_dir)
    os.chdir(output_dir)
    return {"model_path": "model", "loss_by_epoch": {0: 0.9}}


def comes_back_from_a_fork(data_path: str, output_dir: str) -> dict[str, Any]:
    if (child := os.fork()) != 0:
        os.waitpid(child, 0)
        return _model(output_dir)
    return {"model_path": "of the child"}


async def _awaits(loss: float, data_path: str, output_dir: str) -> dict[str, Any]:
    return _model(output_dir) | {"loss": loss}


is_a_partial = functools.partial(_awaits, 0.5)


class _Trains:
    async def __call__(self, data_path: str, output_dir: str) -> dict[str, Any]:
        return _model(output_dir)


is_an_object = _Trains()
