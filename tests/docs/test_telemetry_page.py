"""The page about telemetry: its settings are settings, and it names all that is sent."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from proxy.config import parse_config
from proxy.config.programs import otlp_target
from tests.harness.pages import ROOT, Block, blocks

PAGE = ROOT / "docs/how-to/telemetry.md"
SETTINGS = [block for block in blocks(PAGE) if block.language == "toml"]


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.text.splitlines()[1])
def test_its_settings_can_be_copied(block: Block, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization=Basic%20cGstbGYtMQ==")
    text = block.text.replace("/run/secrets/otlp-headers", str(tmp_path / "headers"))
    data = tomllib.loads(text)
    named = data["telemetry"].pop("otlp_headers_file", None)
    if named:
        data["telemetry"]["otlp_headers"] = Path(named).read_text()
    target = otlp_target(parse_config(data).telemetry)
    assert target is not None
    assert target.headers.get("Authorization") == ("Basic cGstbGYtMQ==" if named else None)


def test_it_names_every_attribute_and_every_evaluation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    known = set(re.findall(r"`([a-z_.]+)`", page))
    ends = {name for name in known if name.startswith(".")}
    sent = set()
    for source in (ROOT / "proxy/telemetry").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(
                r"(gen_ai|ratchet|server|error|http|user)\.[a-z_.]+", str(node.value)
            ):
                sent.add(str(node.value))
    assert len(sent) > 30
    assert {name for name in sent if name not in known and not any(name.endswith(end) for end in ends)} == set()
