"""`ratchet demo --fast` as a stranger runs it: it ends by itself, promotes, catches the bad one, draws the picture."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from tests.harness.serve import await_true

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("sklearn", "matplotlib"))), reason="the extra `demo` is not installed"
)


def ratchet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, check=False)


def left_of(directory: Path) -> list[str]:
    """Command lines of processes that name this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(directory) in line:
            found.append(line)
    return found


@pytest.mark.slow
def test_a_model_improves_itself_a_bad_one_is_caught_and_no_kill_loses_anything(tmp_path: Path) -> None:
    stage = tmp_path / "demo"
    demo = ratchet("demo", "--fast", "--dir", str(stage))
    assert demo.returncode == 0, demo.stdout + demo.stderr
    said = " ".join(demo.stdout.split())
    assert "2 bad ones were caught: one by the gate, one by its users" in said
    assert "a worker, the controller, everything at once" in said
    assert " 0 lost; " in said
    assert " 0 failed" in said
    assert (stage / "demo.png").read_bytes().startswith(b"\x89PNG")
    killed = (stage / "serve.log").read_text()
    assert "worker-0 ended (signal SIGKILL)" in killed
    assert "controller ended (signal SIGKILL)" in killed

    told = ratchet("history", "--config", str(stage / "demo.toml"), "--limit", "1000", "--json")
    events = [entry["event"] for entry in reversed(json.loads(told.stdout)) if entry["event"]]
    promoted = events.index("promoted")
    assert events.index("training_started") < events.index("deployed") < promoted
    unseen = events.index("check_rejected")
    assert promoted < unseen
    assert set(events[unseen:]) & {"rolled_back", "rejected", "returned"}

    left = ratchet("models", "list", "--config", str(stage / "demo.toml"), "--json")
    assert json.loads(left.stdout) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_closed_terminal_leaves_nothing_running(tmp_path: Path) -> None:
    """Not even a training, which elsewhere outlives everything."""
    stage = tmp_path / "demo"

    def trains() -> bool:
        return any((stage / "data/training").glob("*/train.log"))

    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo", "--dir", str(stage)], stdout=subprocess.DEVNULL
    ) as demo:
        try:
            await_true(trains, "a training", limit_s=240)
            demo.send_signal(signal.SIGHUP)
            assert demo.wait() == 143
        finally:
            demo.kill()
    assert left_of(tmp_path) == []


def test_a_directory_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    demo = ratchet("demo", "--dir", str(tmp_path))
    assert demo.returncode == 1
    assert "is not empty and was not made by the demo" in " ".join(demo.stdout.split())
    assert (tmp_path / "thesis.tex").exists()


def test_a_demo_that_is_still_running_is_left_alone(tmp_path: Path) -> None:
    claim = tmp_path / "data/run/supervisor.pid"
    claim.parent.mkdir(parents=True)
    (tmp_path / "demo.toml").touch()
    with claim.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as its supervisor does
        demo = ratchet("demo", "--dir", str(tmp_path))
    assert demo.returncode == 1
    assert "a demo is still running in" in " ".join(demo.stdout.split())
    assert claim.exists()
