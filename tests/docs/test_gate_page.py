"""The page of the gate: its golden file is one, its commands exist, and its limits are those of the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from policies.comparison import Defect
from proxy.checks.expect import Expectation
from proxy.checks.golden import read_golden
from proxy.cli.app import app
from proxy.config.gate import ChecksConfig

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "gate.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")


def test_the_golden_file_of_the_page_is_one(tmp_path: Path) -> None:
    block = re.search(r"```jsonl\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    path = tmp_path / "golden.jsonl"
    path.write_text(block[1])
    assert [line.name for line in read_golden(path).lines] == ["refund", "order as JSON", "weather", "other API"]
    assert {name for line in block[1].splitlines() for name in json.loads(line)["expect"]} <= set(_expectations())


def _expectations() -> list[str]:
    rows = TEXT.partition("| `expect` |")[2].partition("\n\n")[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_every_expectation_is_on_the_page() -> None:
    names = {"schema": "json_schema", "patterns": "regex", "tool": "tool_call", "arguments": "tool_call"}
    fields = {names.get(name, name) for name in Expectation.__dataclass_fields__}
    assert set(_expectations()) == fields


def test_every_setting_that_decides_is_on_the_page() -> None:
    missing = [name for name in ChecksConfig.__dataclass_fields__ if f"checks.{name}" not in TEXT]
    assert missing == ["answer_timeout_seconds", "broken_pairs"]
    assert len(Defect) == 15  # a new one has to be described


def test_the_commands_of_the_page_have_the_options_that_it_uses() -> None:
    shown = CliRunner().invoke(app, ["check", "--help"], env={"COLUMNS": "300"}).output
    used = {
        option
        for line in re.findall(r"^ratchet check .*$", TEXT, re.MULTILINE)
        for option in re.findall(r"--[a-z-]+", line)
    }
    assert {option for option in used if option not in shown} == set()
