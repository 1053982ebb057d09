"""`ratchet demo --fast` as a stranger runs it: it ends by itself, promotes, catches the bad one, draws the picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the extra `demo` is not installed")
pytest.importorskip("matplotlib", reason="the extra `demo` is not installed")


def ratchet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "proxy", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_model_improves_itself_and_a_bad_one_is_caught(tmp_path: Path) -> None:
    stage = tmp_path / "demo"
    demo = ratchet("demo", "--fast", "--dir", str(stage))
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "one bad one was caught" in " ".join(demo.stdout.split())
    assert ", 0 questions failed" in " ".join(demo.stdout.split())
    assert (stage / "demo.png").read_bytes().startswith(b"\x89PNG")

    told = ratchet("history", "--config", str(stage / "demo.toml"), "--limit", "1000", "--json")
    events = [entry["event"] for entry in reversed(json.loads(told.stdout)) if entry["event"]]
    promoted = events.index("promoted")
    assert events.index("training_started") < events.index("deployed") < promoted
    assert set(events[promoted:]) & {"rolled_back", "rejected", "returned"}

    left = ratchet("models", "list", "--config", str(stage / "demo.toml"), "--json")
    assert json.loads(left.stdout) == []


def test_a_directory_that_is_not_the_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    demo = ratchet("demo", "--dir", str(tmp_path))
    assert demo.returncode == 1
    assert "is not empty and was not made by the demo" in " ".join(demo.stdout.split())
    assert (tmp_path / "thesis.tex").exists()
