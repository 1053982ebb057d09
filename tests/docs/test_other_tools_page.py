"""The page of other systems' clients: each block of it is run as it stands, and its vote counts."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from proxy.config import FeedbackConfig
from tests.harness.ballots import TOKEN, Ballots
from tests.harness.require import need

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/feedback-from-other-tools.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
TRACE: Final = "3a0de37932e8b19746f20b22414f862f"
RUN: Final = "3f0c7f6e-0000-4000-8000-000000000001"
IDS: Final = {
    "Langfuse": {"trace_id": TRACE},
    "LangSmith": {"run_id": RUN},
    "MLflow": {"trace_id": f"tr-{TRACE}"},
    "Phoenix": {"span_id": "0123456789abcdef"},
    "Portkey": {"trace_id": "trace-0001"},
    "Helicone": {"REQUEST_ID": "request-0001"},
    "assistant-ui": {"THREAD_ID": "thread-1", "MESSAGE_ID": "message-0001"},
}

pytestmark = pytest.mark.slow


@pytest.fixture
async def ballots(tmp_path: Path) -> AsyncIterator[Ballots]:
    async with Ballots(tmp_path).running() as ballots:
        yield ballots


def blocks(system: str, language: str, ballots: Ballots) -> list[str]:
    section = TEXT.partition(f"\n## {system}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return [text.replace("https://llm.example.com", ballots.url).replace("<feedback.token>", TOKEN) for text in found]


@pytest.mark.parametrize("system", [name for name in IDS if name not in ("Helicone", "assistant-ui")])
async def test_the_lines_of_the_page_vote(ballots: Ballots, system: str, tmp_path: Path) -> None:
    """In a process of their own: these clients remember the first address that they were told."""
    ids = IDS[system]
    record = await ballots.record(*ids.values())
    told = (line.partition("=") for block in blocks(system, "sh", ballots) for line in block.splitlines())
    environment = {**os.environ, **{name: value for name, _, value in told}}
    [code] = blocks(system, "python", ballots)
    script = tmp_path / "page.py"
    script.write_text("\n".join(f"{name} = {value!r}" for name, value in ids.items()) + f"\n{code}", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), env=environment, cwd=tmp_path)
    assert await process.wait() == 0
    assert await ballots.thumb(record) == 1
    assert (await ballots.last_vote(record)).source == "u42"


@pytest.mark.parametrize("system", ["Helicone", "assistant-ui"])
async def test_the_commands_of_the_page_vote(ballots: Ballots, system: str) -> None:
    need("curl", shutil.which("curl") is not None)
    ids = IDS[system]
    record = await ballots.record(*ids.values())
    [command] = blocks(system, "sh", ballots)
    process = await asyncio.create_subprocess_exec("bash", "-ec", command, env={**os.environ, **ids})
    assert await process.wait() == 0
    assert await ballots.thumb(record) == 1


def test_the_page_names_the_names_that_count() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| in `feedback.thumb_names`"))
    assert tuple(re.findall(r"`([^`]+)`", row.partition("(")[2].partition(")")[0])) == FeedbackConfig().thumb_names
