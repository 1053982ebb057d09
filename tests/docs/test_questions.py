"""The questions and answers: every figure that is called a default is one, and every setting and command exists."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from proxy.cli.app import app
from proxy.config import Config
from tests.harness.pages import ROOT

FAQ: Final = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
PAGES: Final = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("faq", "is-it-for-me")}


def settings(table: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name, with its default."""
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


SETTINGS: Final = dict(settings(Config()))


def written(value: Any) -> str:
    """A default as the page writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.10g}" if isinstance(
        value, float) else str(value)  # fmt: skip


def test_every_default_in_parentheses_is_the_default() -> None:
    said = re.findall(r"`([a-z_.]+)`\s+\(([^)]+)\)", FAQ)
    assert len(said) > 25
    assert [(name, value) for name, value in said if written(SETTINGS[name]) != value] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page: str) -> None:
    tables = {name.partition(".")[0] for name in SETTINGS if "." in name}
    names = re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)(?: = [^`]*)?`", PAGES[page])
    last = {name.rpartition(".")[2] for name in SETTINGS}
    wrong = [name for name in names if name.partition(".")[0] in tables and name not in SETTINGS]
    wrong += [name for name in names if "_" in name and "." not in name and name not in last]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_named_has_its_options(page: str) -> None:
    for line in re.findall(r"`ratchet ([^`]+)`", PAGES[page]):
        words = re.match(r"[a-z -]+?(?= -|$| [^a-z])", line)
        assert words is not None, line
        shown = CliRunner().invoke(app, [*words[0].split(), "--help"], env={"COLUMNS": "300"})
        assert shown.exit_code == 0, line
        assert [option for option in re.findall(r"--[a-z-]+", line) if option not in shown.output] == [], line


def test_the_days_that_a_test_takes_are_what_the_command_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = re.findall(
        r"^\| (\d[\d,]*) \| ([\d,]+) \| (\d+) \| (\d+) % \| (.+) \|$", PAGES["is-it-for-me"], re.MULTILINE
    )
    assert len(rows) == 5
    for requests, users, new, votes, days in rows:
        given = {"requests-per-day": requests, "users": users, "new-users-per-day": new, "vote-rate": int(votes) / 100}
        options = [part for name, value in given.items() for part in (f"--{name}", str(value).replace(",", ""))]
        result = CliRunner().invoke(app, ["power", "--json", *options])
        assert result.exit_code == 0, result.output
        found = {answer["gain"]: answer["days"] for answer in json.loads(result.stdout)["answers"]}
        said = ["never" if found[gain] is None else f"{found[gain]:.1f}" for gain in (0.05, 0.1, 0.2)]
        assert days.split(" | ") == said, requests


def test_the_questions_of_the_seed_and_the_fears_are_answered() -> None:
    asked = re.findall(r"^\*\*(.+?\?)\*\*", FAQ, re.MULTILINE)
    seed = ("retrain", "worse", "without training", "test off", "disk", "forgetting")
    fears = ("flatterer", "cheat", "collapse", "rare", "money", "judge", "enough traffic")
    wanted = (*seed, *fears)
    assert [word for word in wanted if not any(word in question for question in asked)] == []
