"""Trainings in processes of this machine: kills, restarts of the controller, leftovers, and results that are none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError, PermanentError, TemporaryError
from proxy.loop.adapters import processes
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Failed, Handle, Running, Succeeded, Trainer, TrainingRun, TrainingStatus

MODULE = "tests.contract.trainers.training"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run-1"
    path.mkdir()
    (path / "data.jsonl").write_text('{"messages": []}\n')
    return path


def run_in(folder: Path, behaviour: str = "good") -> TrainingRun:
    (folder / "behaviour").write_text(behaviour)
    return TrainingRun(
        run_id="run-1",
        data_path=folder / "data.jsonl",
        holdout_path=folder / "holdout.jsonl",
        output_dir=folder,
        champion="champion",
        timeout_s=60.0,
    )


def function(name: str = "train") -> Trainer:
    options = {"cancel_grace_seconds": "0.2"}
    return build_trainer(TrainerConfig(kind="callable", callable=f"{MODULE}:{name}", options=options))


def command(*argv: str) -> Trainer:
    return build_trainer(TrainerConfig(kind="command", command=argv, options={"cancel_grace_seconds": "0.2"}))


async def final(trainer: Trainer, handle: Handle) -> TrainingStatus:
    while isinstance(status := await trainer.poll("run-1", handle), Running):
        await asyncio.sleep(0.02)
    return status


async def reason(trainer: Trainer, run: TrainingRun) -> str:
    status = await final(trainer, await trainer.start(run))
    assert isinstance(status, Failed), status
    return status.reason


async def running(trainer: Trainer, run: TrainingRun) -> tuple[Handle, ProcessId]:
    """Start a slow training and wait until it is under way."""
    handle = await trainer.start(run)
    while not (run.output_dir / "starts").exists():
        await asyncio.sleep(0.02)
    return handle, ProcessId.from_json(json.loads((run.output_dir / "process.json").read_text()))


async def test_kill_9_of_the_training_is_a_failure_with_a_reason(folder: Path) -> None:
    trainer = function()
    handle, process = await running(trainer, run_in(folder, "slow"))
    while b"training run-1" not in (folder / "train.log").read_bytes():
        await asyncio.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    status = await final(trainer, handle)
    assert isinstance(status, Failed)
    assert "killed by signal 9" in status.reason
    assert "training run-1" in status.reason, "the end of the log is in the reason"
    assert isinstance(await trainer.poll("run-1", await trainer.start(run_in(folder))), Failed), "a run dies once"
    await trainer.cancel("run-1", handle)
    assert processes.marked(str(folder)) == []


async def test_a_training_survives_kill_9_of_its_controller(folder: Path) -> None:
    """Another process starts the training and is killed; this one adopts it and sees it end."""
    run_in(folder, "slow")
    controller = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLER, MODULE, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert controller.stdout is not None
    handle = json.loads(controller.stdout.readline())
    controller.kill()
    controller.wait()
    controller.stdout.close()
    trainer = function()
    assert await trainer.adopt("run-1", handle)
    assert isinstance(await trainer.poll("run-1", handle), Running)
    assert await trainer.start(run_in(folder, "slow")) == handle
    (folder / "go").touch()
    assert isinstance(await final(trainer, handle), Succeeded)
    assert len((folder / "starts").read_text().splitlines()) == 1


_CONTROLLER = """
import asyncio, json, sys, time
from pathlib import Path
from proxy.config.loop import TrainerConfig
from proxy.loop.ports import TrainingRun
from proxy.loop.adapters.trainers import build_trainer
module, folder = sys.argv[1], Path(sys.argv[2])
trainer = build_trainer(TrainerConfig(kind="callable", callable=f"{module}:train"))
run = TrainingRun(run_id="run-1", data_path=folder / "data.jsonl", holdout_path=None, output_dir=folder,
                  champion="champion", timeout_s=60.0)
print(json.dumps(asyncio.run(trainer.start(run))), flush=True)
time.sleep(600)
"""


async def test_a_start_that_was_never_written_down_is_found_again(folder: Path) -> None:
    """The controller died after starting the runner and before it had signed: the second runner steps back."""
    run = run_in(folder, "slow")
    trainer = function()
    await running(trainer, run)
    order, signed = folder / "order.json", folder / "process.json"
    first = signed.read_text()
    second = subprocess.run(
        [sys.executable, "-m", "proxy.loop.adapters.trainers.runner", str(order)], timeout=300, check=True
    )
    assert second.returncode == 0
    assert signed.read_text() == first
    assert len((folder / "starts").read_text().splitlines()) == 1
    await trainer.cancel("run-1", await trainer.start(run))


async def test_cancel_takes_children_that_ignore_sigterm_along(folder: Path) -> None:
    trainer = function()
    handle, _ = await running(trainer, run_in(folder, "stubborn"))
    while not (folder / "child-is-up").exists():
        await asyncio.sleep(0.02)
    await trainer.cancel("run-1", handle)
    assert processes.marked(str(folder)) == []
    assert isinstance(await trainer.poll("run-1", handle), Failed)


async def test_cancel_after_the_runner_was_killed_ends_what_is_left(folder: Path) -> None:
    trainer = function()
    handle, process = await running(trainer, run_in(folder, "stubborn"))
    while not (folder / "child-is-up").exists():
        await asyncio.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert isinstance(await final(trainer, handle), Failed)
    assert len(processes.marked(str(folder))) == 2, "the training and its child"
    await trainer.cancel("run-1", handle)
    assert processes.marked(str(folder)) == []


async def test_what_a_training_said_of_its_end_stays_where_its_process_is_still_there(folder: Path) -> None:
    """The end is written before the process is gone: whoever tidies up in that moment cancels nothing any more."""
    process = processes.start(["sleep", "600"], log=folder / "train.log", token=str(folder))
    said = {"code": 1, "reason": "ValueError: too few lines", "kept": "ValueError"}
    (folder / "process.json").write_text(json.dumps(process.as_json()))
    (folder / "exit.json").write_text(json.dumps(said))
    await function().cancel("run-1", {"output_dir": str(folder)})
    assert not processes.alive(process)
    assert json.loads((folder / "exit.json").read_text()) == said


async def test_a_stranger_with_the_same_pid_is_left_alone(folder: Path) -> None:
    stranger = processes.start([sys.executable, "-c", "input()"], log=folder / "x.log", token="stranger")
    other = ProcessId(pid=stranger.pid, start_ticks=stranger.start_ticks - 1, boot_id=stranger.boot_id)
    rebooted = ProcessId(pid=stranger.pid, start_ticks=stranger.start_ticks, boot_id="another boot")
    token = f"sleeper in {folder}"
    sleeper = processes.start(["sleep", "600"], log=folder / "x.log", token=token)
    impostor = ProcessId(pid=sleeper.pid, start_ticks=sleeper.start_ticks - 1, boot_id=sleeper.boot_id)
    try:
        for nobody in (other, rebooted, impostor):
            assert not processes.alive(nobody)
            await processes.stop(nobody, grace_s=0.1)
        assert processes.alive(sleeper)
        while (found := processes.find(token)) is None:  # a program that has just begun has no environment yet
            await asyncio.sleep(0.01)
        assert found == sleeper
    finally:
        await processes.stop(sleeper, grace_s=5.0)
        await processes.stop(stranger, grace_s=0.1)
    assert not processes.alive(sleeper)
    assert processes.exit_code(sleeper) == -signal.SIGTERM
    assert processes.find(token) is None


async def test_a_training_of_another_host_is_said_to_be_lost_here(folder: Path) -> None:
    """On a folder that hosts share: the new leader reads the run's files, and cannot see the process."""
    trainer = function()
    handle = await trainer.start(run_in(folder, "slow"))
    process = json.loads((folder / "process.json").read_text())
    (folder / "process.json").write_text(json.dumps(process | {"boot_id": "another host's"}))
    status = await function().poll("run-1", handle)
    assert isinstance(status, Failed)
    assert "another host" in status.reason
    (folder / "process.json").write_text(json.dumps(process))
    await trainer.cancel("run-1", handle)


async def test_a_model_path_that_does_not_exist_is_a_failure(folder: Path) -> None:
    assert "does not exist" in await reason(function(), run_in(folder, "missing"))


async def test_numbers_of_numpy_and_relative_paths_are_understood(folder: Path) -> None:
    trainer = function("train_with_numpy")
    status = await final(trainer, await trainer.start(run_in(folder)))
    assert status == Succeeded(result={"model_path": str(folder / "model.json"), "loss": 0.5, "device": "/dev/null"})


async def test_a_training_function_may_be_a_coroutine(folder: Path) -> None:
    trainer = function("train_async")
    assert isinstance(await final(trainer, await trainer.start(run_in(folder))), Succeeded)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such_module:train", "No module named 'no_such_module'"),
        (f"{MODULE}:no_such_function", "no attribute 'no_such_function'"),
        (f"{MODULE}:NOT_CALLABLE", "is not a function"),
    ],
)
async def test_a_function_that_can_not_be_loaded_says_so(folder: Path, target: str, says: str) -> None:
    trainer = build_trainer(TrainerConfig(kind="callable", callable=target))
    assert says in await reason(trainer, run_in(folder))


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["sh", "-c", "echo out of memory >&2; exit 3"], "exit code 3; the log ends:\nout of memory"),
        (["sh", "-c", "kill -9 $$"], "signal 9"),
        (["/no/such/program"], "trainer.command cannot be started"),
        (["true"], "wrote no JSON"),
        (["sh", "-c", "echo '{\"model_path\": ' > {result_path}"], "wrote no JSON"),
        (["sh", "-c", "echo '[]' > {result_path}"], "returned list"),
        (["sh", "-c", "echo '{\"loss\": 1}' > {result_path}"], "no model_path"),
    ],
)
async def test_a_command_without_a_result_says_why(folder: Path, argv: list[str], says: str) -> None:
    assert says in await reason(command(*argv), run_in(folder))


async def test_a_command_ends_also_where_whoever_started_it_blocks_sigchld(folder: Path) -> None:
    """It closes its output first, so that only the signal can tell of its end."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    try:
        handle = await command("sh", "-c", "exec >&- 2>&-; sleep 0.2; exit 3").start(run_in(folder))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    async with asyncio.timeout(10):
        status = await final(command("true"), handle)
    assert isinstance(status, Failed)
    assert "exit code 3" in status.reason


async def test_placeholders_are_filled_in_and_other_braces_left_alone(folder: Path) -> None:
    script = "import json, sys; json.dump({'model_path': sys.argv[1], 'argv': sys.argv[2:]}, open(sys.argv[1], 'w'))"
    argv = ["{result_path}", "{data_path}", "{holdout_path}", "{output_dir}", "{run_id}-{champion}", '{"lr": {x}}']
    trainer = command(sys.executable, "-c", script, *argv)
    status = await final(trainer, await trainer.start(run_in(folder)))
    assert isinstance(status, Succeeded), status
    holdout = str(folder / "holdout.jsonl")
    filled = [str(folder / "data.jsonl"), holdout, str(folder), "run-1-champion", '{"lr": {x}}']
    assert status.result["argv"] == filled


async def test_a_model_kept_elsewhere_needs_no_path_here(folder: Path) -> None:
    trainer = command("sh", "-c", 'echo \'{"model_path": "hf://org/name"}\' > {result_path}')
    status = await final(trainer, await trainer.start(run_in(folder)))
    assert status == Succeeded(result={"model_path": "hf://org/name"})


async def test_a_training_that_deployed_its_model_returns_a_url(folder: Path) -> None:
    trainer = command("sh", "-c", 'echo \'{"url": "http://gpu:8000", "model": "m"}\' > {result_path}')
    assert isinstance(await final(trainer, await trainer.start(run_in(folder))), Succeeded)


async def test_without_progress_the_last_line_of_the_log_is_shown(folder: Path) -> None:
    trainer = command("sh", "-c", "echo epoch 1; echo epoch 2; touch {output_dir}/starts; sleep 600")
    handle, _ = await running(trainer, run_in(folder))
    assert await trainer.poll("run-1", handle) == Running(message="epoch 2")
    await trainer.cancel("run-1", handle)


async def test_a_runner_that_can_not_start_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "could not start" in await reason(function(), run_in(folder))
    (folder / "exit.json").unlink()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(TemporaryError, match="no training process could be started"):
        await function().start(run_in(folder))


@pytest.mark.parametrize(
    "config",
    [
        {"kind": "callable"},
        {"kind": "callable", "callable": "train.py"},
        {"kind": "command"},
        {"kind": "http"},
    ],
)
def test_settings_that_do_not_suffice_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="trainer"):
        build_trainer(TrainerConfig(**config))


async def test_without_a_trainer_nothing_is_trained(folder: Path) -> None:
    trainer = build_trainer(TrainerConfig())
    assert trainer.kind == "none"
    with pytest.raises(PermanentError, match="none"):
        await trainer.start(run_in(folder))
    assert isinstance(await trainer.poll("run-1", {}), Failed)
    assert not await trainer.adopt("run-1", {})
    await trainer.cancel("run-1", {})


@pytest.mark.parametrize(
    ("trainer", "said", "written"),
    [
        (function(), "the loss is not a number", "raised ValueError"),
        (command("sh", "-c", "echo a sample; exit 3"), "a sample", "exit code 3"),
    ],
)
async def test_what_the_loop_writes_down_of_a_failure_is_none_of_the_trainings_words(
    folder: Path, trainer: Trainer, said: str, written: str
) -> None:
    """They may quote samples, and stay in the run's folder."""
    status = await final(trainer, await trainer.start(run_in(folder, "raises")))
    assert isinstance(status, Failed)
    assert said in status.reason
    assert said not in status.written
    assert all(part in status.written for part in (written, "failure.txt"))
