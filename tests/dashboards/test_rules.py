"""Rules: promtool's own tests, and a runbook section for every alert."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from proxy.cli.app import app
from tests.harness.require import need

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "dashboards/prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.test.yml"))
RUNBOOK = (ROOT / "docs/how-to/runbook.md").read_text(encoding="utf-8")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def section(alert: str) -> str:
    found = re.search(rf"^### {alert}\n(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert found, f"{alert} has no section in the runbook"
    return found[1]


@pytest.mark.parametrize(
    "argv",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "recording.rules.yml", "alerts.rules.yml"],
        ["test", "rules", *(str(path) for path in TESTS)],
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_promtool_is_content(argv: list[str]) -> None:
    need("promtool", shutil.which("promtool") is not None)
    done = subprocess.run(["promtool", *argv], cwd=PROMETHEUS, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tests = [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
    assert fired == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_a_runbook_section(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["annotations"]["runbook_url"] == f"docs/how-to/runbook.md#{name.lower()}"
    text = section(name)
    assert text.lstrip().startswith(f"`{alert['labels']['severity']}`.")
    assert "```bash" in text or "](#" in text


def test_the_runbook_has_no_section_without_an_alert() -> None:
    assert set(re.findall(r"^### (\w+)", RUNBOOK, re.MULTILINE)) == {alert["alert"] for alert in alerts()}


def test_what_the_runbook_says_to_type_exists() -> None:
    """Every `ratchet …` in it parses: verbs, options and required arguments."""
    lines = [line for line in RUNBOOK.splitlines() if line.startswith("ratchet ")]
    assert len(lines) > 15
    for line in lines:
        command: Any = get_command(app)
        words = shlex.split(line.partition("  #")[0])[1:]
        while hasattr(command, "commands"):
            assert words[0] in command.commands, line
            command = command.commands[words.pop(0)]
        command.make_context(command.name, words).close()
