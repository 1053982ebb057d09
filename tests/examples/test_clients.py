"""The examples of clients are run as they stand, and their votes looked up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.harness.programs import EXAMPLES
from tests.harness.require import need
from tests.harness.serve import RatchetProcess, await_true, request

pytestmark = pytest.mark.slow


def run(ratchet: RatchetProcess, *argv: str) -> str:
    """What the program prints, run against this Ratchet."""
    environ = {**os.environ, "RATCHET_URL": ratchet.base_url}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def voted(ratchet: RatchetProcess, text: str) -> dict[str, Any]:
    """The vote on the record whose query holds `text`, once it is stored."""

    def look() -> dict[str, Any] | None:
        page = request(ratchet.admin_url, f"/api/records?feedback=any&text={text}").json()
        for row in page["records"]:
            votes = request(ratchet.admin_url, f"/api/records/{row['record_id']}").json()["votes"]
            if votes:
                return dict(votes[0])
        return None

    vote: dict[str, Any] = await_true(look, f"a vote on {text}")
    return vote


def test_openai_sdk(ratchet: RatchetProcess) -> None:
    said = run(ratchet, sys.executable, str(EXAMPLES / "openai_sdk/chat.py"))
    assert "a holiday" in said
    assert voted(ratchet, "holiday")["comment"] == "that is what a friend would ask"
    streamed = voted(ratchet, "who+are+you")
    assert (streamed["feedback"], streamed["correction"], streamed["source"]) == (-1, "I am ELIZA.", "ann")


def test_curl(ratchet: RatchetProcess) -> None:
    need("curl", shutil.which("curl") is not None)
    said = run(ratchet, "sh", str(EXAMPLES / "curl/chat.sh"))
    assert '"accepted":1' in said.replace(" ", "")
    assert voted(ratchet, "tired")["feedback"] == 1


def test_javascript(ratchet: RatchetProcess) -> None:
    need("node", shutil.which("node") is not None)
    said = run(ratchet, "node", str(EXAMPLES / "javascript/chat.mjs"))
    assert "computer" in said
    assert voted(ratchet, "computer")["tags"] == {"page": "example"}


def test_python_library(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("library")
    done = subprocess.run([sys.executable, str(EXAMPLES / "python_library/learn.py"), str(directory)],
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "retrains: 1, promotions: 1" in done.stdout
    assert list((directory / "models").glob("*.json"))
