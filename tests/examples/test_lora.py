"""examples/lora as a reader runs it: an adapter is trained with TRL, loaded, tested and promoted, on a CPU.

PyTorch is too large for CI: RATCHET_LORA_PYTHON names an interpreter that has examples/lora/requirements.txt.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.pages import Session, blocks
from tests.harness.programs import EXAMPLES
from tests.harness.require import need

LORA = EXAMPLES / "lora"
PYTHON = os.environ.get("RATCHET_LORA_PYTHON", "")
NEEDED = "a Python with PyTorch, peft and TRL (RATCHET_LORA_PYTHON)"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Session]:
    """In a copy of the example, whose environment is the one that RATCHET_LORA_PYTHON names."""
    there = bool(PYTHON) and subprocess.run([PYTHON, "-c", "import peft, torch, trl"], check=False).returncode == 0
    need(NEEDED, there, extra=True)
    for file in LORA.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    program = tmp_path / "lora-venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{PYTHON}" "$@"\n')
    program.chmod(0o755)
    session = Session(tmp_path, environ={"HF_HUB_OFFLINE": "1"})
    settings = tmp_path / "ratchet.toml"
    settings.write_text(session.local(settings.read_text()))
    yield session
    for pid in _started_in(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_adapter_is_trained_served_tested_and_promoted(reader: Session) -> None:
    _, *rest = blocks(LORA / "README.md")
    reader.run(rest, limit_s=500)
    [result] = (reader.directory / "ratchet-data/training").glob("*/result.json")
    adapter = Path(json.loads(result.read_text())["model_path"])
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 16
    assert (adapter / "adapter_model.safetensors").stat().st_size > 0


def _started_in(directory: Path) -> list[int]:
    """Processes that still run there."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(proc / "cwd").startswith(str(directory)):
                found.append(int(proc.name))
        except OSError:
            continue
    return found
