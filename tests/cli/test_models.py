"""`ratchet models`: servers that outlive `ratchet serve` can be seen and stopped."""

from __future__ import annotations

import fcntl
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.app import app
from proxy.loop.adapters import processes


def ratchet(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def server(tmp_path: Path) -> processes.ProcessId:
    """A process as the command deployer leaves it."""
    folder = tmp_path / "models" / "model-1"
    folder.mkdir(parents=True)
    (folder / "server.json").write_text(json.dumps({"model_id": 1, "port": 1, "token": "a-token-of-this-test"}))
    return processes.start(
        [sys.executable, "-c", "import signal; signal.pause()"], log=folder / "server.log", token="a-token-of-this-test"
    )


def test_a_model_server_is_listed_and_stopped(tmp_path: Path, server: processes.ProcessId) -> None:
    listed = ratchet("models", "list", "--data-dir", str(tmp_path), "--json")
    assert json.loads(listed.stdout) == [{"name": "model-1", "pid": server.pid}]
    assert ratchet("models", "stop", "--data-dir", str(tmp_path)).stdout == "stopped: model-1\n"
    assert not processes.alive(server)
    assert ratchet("models", "stop", "--data-dir", str(tmp_path)).stdout == "stopped: none was running\n"


def test_nothing_is_stopped_under_a_running_server(tmp_path: Path, server: processes.ProcessId) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "controller.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = ratchet("models", "stop", "--data-dir", str(tmp_path))
    assert refused.exit_code == 1
    assert "stop it first" in refused.stderr
    assert processes.alive(server)
    ratchet("models", "stop", "--data-dir", str(tmp_path))
