"""examples/prompt as a reader runs it: a prompt is improved with GEPA, checked, tested on users and promoted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.harness.pages import Session, blocks
from tests.harness.programs import EXAMPLES

PROMPT = EXAMPLES / "prompt"


@pytest.fixture
def reader(tmp_path: Path) -> Session:
    """In a copy of the example."""
    for file in PROMPT.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    session = Session(tmp_path)
    settings = tmp_path / "ratchet.toml"
    settings.write_text(session.local(settings.read_text()))
    return session


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_prompt_is_found_checked_tested_and_promoted(reader: Session) -> None:
    _, *rest = blocks(PROMPT / "README.md")
    reader.run(rest, limit_s=500)
    [first, *_] = sorted((reader.directory / "ratchet-data/training").glob("*/result.json"))
    result = json.loads(first.read_text())
    assert result["score_after"] > result["score_before"]
    assert "number alone" in result["rewrite"]["system"]["replace"]
    shown = result["rewrite"]["examples"]
    assert [turn["role"] for turn in shown] == ["user", "assistant"] * (len(shown) // 2)
    assert any("dozen" in turn["content"] for turn in shown)
