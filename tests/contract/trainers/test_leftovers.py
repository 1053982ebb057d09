"""What a training leaves behind, and the ways in which its process ends: real processes, and nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from proxy.config.loop import TrainerConfig
from proxy.errors import ConfigError
from proxy.loop.adapters import processes
from proxy.loop.adapters.processes import ProcessId
from proxy.loop.adapters.trainers import build_trainer
from proxy.loop.ports import Failed, Running, Succeeded, Trainer, TrainingRun, TrainingStatus

MODULE = "tests.contract.trainers.endings"
HURRY = {"cancel_grace_seconds": "0.2", "leftover_grace_seconds": "0.2"}


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    folder = tmp_path / "run-1"
    folder.mkdir()
    (folder / "data.jsonl").write_text('{"messages": []}\n')
    return TrainingRun(
        run_id="run-1",
        data_path=folder / "data.jsonl",
        holdout_path=None,
        output_dir=folder,
        champion="champion",
        timeout_s=60.0,
    )


def function(name: str, **options: str) -> Trainer:
    return build_trainer(TrainerConfig(kind="callable", callable=f"{MODULE}:{name}", options=HURRY | options))


def command(script: str, **options: str) -> Trainer:
    return build_trainer(TrainerConfig(kind="command", command=("sh", "-c", script), options=HURRY | options))


async def final(trainer: Trainer, run: TrainingRun) -> TrainingStatus:
    handle = await trainer.start(run)
    while isinstance(status := await trainer.poll("run-1", handle), Running):
        await asyncio.sleep(0.02)
    return status


async def nothing_is_left(run: TrainingRun) -> None:
    """The keeper itself is the last, and ends when it has said how it went."""
    while processes.marked(str(run.output_dir)):
        await asyncio.sleep(0.01)


def log_of(run: TrainingRun) -> str:
    return (run.output_dir / "train.log").read_text(errors="replace")


DONE = """echo '{"model_path": "hf://a/b"}' > {result_path}"""


@pytest.mark.parametrize(
    ("trainer", "named"),
    [
        (function("leaves_a_thread"), "kept alive by a thread"),
        (function("leaves_a_child"), "sleep 600"),
        (function("leaves_a_daemon"), "sleep 601"),
        (function("leaves_a_stubborn_child"), "signal.signal(15"),
        (command(f"{DONE}; sleep 602 & exit 0"), "sleep 602"),
        (command(f"{DONE}; setsid sleep 603 & exit 0"), "sleep 603"),
        (command(f"{DONE}; (setsid nohup env -i sleep 604 > /dev/null 2>&1 &) ; exit 0"), "sleep 604"),
    ],
    ids=["thread", "child", "daemon", "stubborn", "command", "session", "without its environment"],
)
async def test_what_a_training_leaves_running_is_ended_before_it_counts(
    run: TrainingRun, trainer: Trainer, named: str
) -> None:
    assert isinstance(status := await final(trainer, run), Succeeded), status
    assert "ended now because still running 0.2 s after its end" in log_of(run)
    assert named in log_of(run)
    pids = [int(line) for line in (run.output_dir / "pids").read_text().split()] if trainer.kind == "callable" else []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    await nothing_is_left(run)


async def test_after_a_failure_too(run: TrainingRun) -> None:
    status = await final(command("sleep 605 & exit 3"), run)
    assert isinstance(status, Failed)
    assert "exit code 3" in status.reason
    await nothing_is_left(run)


async def test_what_ends_by_itself_in_the_time_of_grace_is_not_touched(run: TrainingRun) -> None:
    trainer = command(
        f"{DONE}; (sleep 0.2; echo uploaded > {{output_dir}}/uploaded) & exit 0", leftover_grace_seconds="60"
    )
    assert isinstance(await final(trainer, run), Succeeded)
    assert (run.output_dir / "uploaded").exists()
    assert "ended now" not in log_of(run)


async def test_a_cancelled_training_leaves_nothing_even_where_its_keeper_was_killed(run: TrainingRun) -> None:
    trainer = command("setsid sleep 606 & touch {output_dir}/up; sleep 607")
    handle = await trainer.start(run)
    while not (run.output_dir / "up").exists():
        await asyncio.sleep(0.01)
    keeper = ProcessId.from_json(json.loads((run.output_dir / "process.json").read_text()))
    stranger = processes.start(["sleep", "608"], log=run.output_dir / "x.log", token=f"{run.output_dir}-server")
    try:
        os.kill(keeper.pid, signal.SIGKILL)
        while processes.alive(keeper):
            await asyncio.sleep(0.01)
        assert processes.marked(str(run.output_dir)), "nobody has ended them yet"
        await build_trainer(TrainerConfig(kind="command", command=("x",), options=HURRY)).cancel("run-1", handle)
        assert processes.marked(str(run.output_dir)) == []
        assert processes.alive(stranger), "a model server has a mark of its own"
    finally:
        await processes.stop(stranger, grace_s=5.0)


async def test_sigterm_of_the_keeper_ends_all_of_it(run: TrainingRun) -> None:
    trainer = command("setsid sleep 609 & touch {output_dir}/up; sleep 610", leftover_grace_seconds="600")
    handle = await trainer.start(run)
    while not (run.output_dir / "up").exists():
        await asyncio.sleep(0.01)
    os.kill(json.loads((run.output_dir / "process.json").read_text())["pid"], signal.SIGTERM)
    while isinstance(status := await trainer.poll("run-1", handle), Running):
        await asyncio.sleep(0.02)
    assert isinstance(status, Failed)
    assert "SIGTERM" in status.reason
    await nothing_is_left(run)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("exits_at_once", "before the function had returned"),
        ("exits_with_3", "exit code 3"),
        ("calls_sys_exit", "raised SystemExit"),
        ("interrupts_itself", "raised KeyboardInterrupt"),
        ("is_killed", "signal 9 (SIGKILL); unless somebody killed it, memory ran out"),
        ("closes_its_output", "raised ValueError: no more"),
        ("returns_an_object", "weights is of type object"),
        ("returns_its_data", "removed after the training"),
    ],
)
async def test_strange_ends_say_what_they_are(run: TrainingRun, name: str, says: str) -> None:
    assert isinstance(status := await final(function(name), run), Failed)
    assert says in status.reason


@pytest.mark.parametrize(
    "name", ["writes_without_lines", "changes_directory", "comes_back_from_a_fork", "is_a_partial", "is_an_object"]
)
async def test_strange_ways_to_a_model_lead_there(run: TrainingRun, name: str) -> None:
    assert isinstance(status := await final(function(name), run), Succeeded), status
    assert Path(status.result["model_path"]) == run.output_dir / "model"


async def test_a_damaged_file_of_a_run_is_a_failure(run: TrainingRun) -> None:
    trainer = command(DONE)
    handle = await trainer.start(run)
    assert isinstance(await final(trainer, run), Succeeded)
    for name, content in (("result.json", b'{"model_'), ("exit.json", b"[]"), ("process.json", b"\x00")):
        (run.output_dir / name).write_bytes(content)
        assert isinstance(await trainer.poll("run-1", handle), Failed)
        await trainer.cancel("run-1", handle)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
async def test_a_log_that_can_not_be_written_holds_no_training_up(run: TrainingRun) -> None:
    (run.output_dir / "train.log").symlink_to("/dev/full")
    assert isinstance(await final(command(f"head -c 1000000 /dev/zero; {DONE}"), run), Succeeded)


async def test_the_log_is_bounded_and_says_what_it_leaves_out(run: TrainingRun) -> None:
    script = f"echo first; head -c 70000000 /dev/zero | tr '\\0' '\\n'; echo last; {DONE}"
    assert isinstance(await final(command(script), run), Succeeded)
    log = (run.output_dir / "train.log").read_bytes()
    assert len(log) <= 64 * 1024 * 1024
    assert log.startswith(b"first\n")
    assert log.endswith(b"last\n")
    assert b"bytes of this log were left out here" in log


@pytest.mark.parametrize("option", ["cancel_grace_seconds", "leftover_grace_seconds"])
@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf"])
def test_a_grace_that_is_no_time_is_refused(option: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.options\.{option}"):
        command("true", **{option: text})
