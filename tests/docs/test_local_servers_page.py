"""The page of llama.cpp, TGI and SGLang: its settings serve, and what it says of their answers is what the cases show.

The cases themselves, bytes as these servers send them, are played by `tests/acceptance/test_cases.py`.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.config import check_serving, parse_config
from proxy.loop.adapters.deployers import build_deployer
from proxy.loop.ports import Endpoint, NotReady
from proxy.wire.extract import KINDS
from tests.harness.cases import Case, written
from tests.harness.pages import ROOT, Block, blocks

PAGE: Final = ROOT / "docs/how-to/llama-cpp-tgi-sglang.md"
BLOCKS: Final = blocks(PAGE)
SETTINGS: Final = [tomllib.loads(block.text) for block in BLOCKS if block.language == "toml"]
STARTS: Final = [block for block in BLOCKS if not block.language]
TINY: Final = ROOT / "tests/harness/tiny_model.py"
KINDS_OF: Final = {"llama.cpp": "llama.cpp", "TGI": "tgi", "SGLang": "sglang"}
"""Name on the page → kind of the records of its own API."""


def cases(server: str) -> list[Case]:
    """The cases of this server, whichever of its APIs they use."""
    return [case for case in written() if case.name.startswith(KINDS_OF[server].replace(".", "-"))]


STAND_IN: Final = f"""#!{sys.executable}
import os, sys
options = dict(zip(sys.argv, sys.argv[1:]))
model = next(options[name] for name in ("--lora", "--model-id", "--model-path") if name in options)
os.execv(sys.executable, [sys.executable, {str(TINY)!r}, "serve", model, options["--port"]])
"""
"""A program under the server's name that takes the options of the page, and serves a model of ours."""


@pytest.mark.parametrize(("deployer", "start"), list(zip(SETTINGS[1:], STARTS, strict=True)), ids=KINDS_OF)
async def test_the_challenger_is_served_as_the_champion_is(
    deployer: dict[str, Any], start: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config({**SETTINGS[0], **deployer, "trainer": {"kind": "command", "command": ["train"]}})
    check_serving(config)
    by_hand, model = shlex.split(start.text), tmp_path / "model"
    assert {by_hand[0], "--port"} <= {*config.deployer.command} & {*by_hand}
    (program := tmp_path / by_hand[0]).write_text(STAND_IN)
    program.chmod(0o755)
    model.write_text('{"quality": 0.9}')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    adapter = build_deployer(config.deployer, tmp_path)
    handle = await adapter.deploy(7, "model-7", str(model), {})
    while isinstance(status := await adapter.ready(handle), NotReady):
        await asyncio.sleep(0.02)
    assert isinstance(status, Endpoint), status
    assert status.model == ("model-7" if "options" in deployer["deployer"] else None)
    await adapter.retire(handle)


@pytest.mark.parametrize("server", KINDS_OF)
def test_every_server_has_recorded_answers_good_and_failed(server: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(rf"^\| {re.escape(server)} \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == 2, "one of what is parsed, one of what fails"
    own = [case for case in cases(server) if case.right.get("kind") == KINDS_OF[server]]
    assert len([case for case in own if case.right.get("response")]) >= 2
    assert any(case.right.get("failed") for case in cases(server))
    assert KINDS[KINDS_OF[server]]


def test_tokens_are_where_the_page_says() -> None:
    """TGI counts the prompt in streams alone, the others everywhere."""
    for server in KINDS_OF:
        own = [case for case in cases(server) if case.right.get("response")]
        counted = {"prompt_tokens" in case.right for case in own}
        assert counted == ({True, False} if server == "TGI" else {True}), server
    for case in cases("TGI"):
        if "prompt_tokens" in case.right:
            assert case.request["path"] == "/generate_stream"
