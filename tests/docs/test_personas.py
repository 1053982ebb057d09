"""The page of each kind of reader is followed as it stands: their files, their commands, and what they must print.

The page for product people is followed in a browser, in tests/web/console/test_product_page.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.docs.test_tutorial import PAGE as QUICK_START
from tests.docs.test_tutorial import _left_below
from tests.harness.pages import ROOT, Block, Session, blocks
from tests.harness.programs import program
from tests.harness.serve import await_true, request

FOR = ROOT / "docs/for"
LIMIT_S = 600.0


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Session]:
    """A reader, behind whom everything is tidied up that was left running."""
    yield Session(tmp_path, environ={"RATCHET_CHECK_INTERVAL_SECONDS": "1"})
    for pid in _left_below(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_developers_operators_and_reviewers_reach_what_their_pages_say(reader: Session) -> None:
    """One day of one install: a developer starts it, at night an operator takes a challenger back, and then somebody
    looks for secrets. Each follows the own page from its first line to its last."""
    model = reader.directory / "model.json"
    model.write_text('{"quality": 0.9}')
    port = reader.ports["8000"]
    arrived = "until ratchet history | grep -q 'checking → testing'; do sleep 0.5; done"
    brought = f'ratchet challenge http://127.0.0.1:{port} --name second --why "a server"'
    challenge = Block("console", None, f"$ {brought}\nchallenge: …\n$ {arrived}\n")
    stop = Block("console", None, "$ kill %1; wait %1\n")
    with program(ROOT / "tests/harness/tiny_model.py", "serve", str(model), port):
        await_true(lambda: _answers(port), "the model")
        day = [*blocks(FOR / "application-developer.md"), challenge, *blocks(FOR / "operator.md")]
        reader.run([*day, *blocks(FOR / "security-reviewer.md"), stop], limit_s=LIMIT_S)
    assert not _left_below(reader.directory)


@pytest.mark.slow
def test_an_ml_engineer_gets_from_traffic_to_a_test_on_users(reader: Session) -> None:
    """With the five files of the quick start, as the page says."""
    given = [block for block in blocks(QUICK_START) if block.title]
    [first] = [block for block in blocks(QUICK_START) if "first.json" in block.text and block.language == "console"]
    table = Block("console", None, first.text.partition("$ python model.py")[0])
    reader.run([*given, table, *blocks(FOR / "ml-engineer.md")], limit_s=LIMIT_S)
    assert not _left_below(reader.directory)


@pytest.mark.parametrize("page", sorted(FOR.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_for_somebody_is_short(page: Path) -> None:
    """It leads to other pages instead of saying it all again."""
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    assert len(set(re.findall(r"\]\(\.\./[^)]+\.md", text))) >= 5


def _answers(port: str) -> bool:
    try:
        return request(f"http://127.0.0.1:{port}", "/health").status == 200
    except (OSError, HTTPException):
        return False


def test_there_is_a_page_for_each() -> None:
    followed = Path(__file__).read_text(encoding="utf-8")
    followed += (ROOT / "tests/web/console/test_product_page.py").read_text(encoding="utf-8")
    assert [page.name for page in FOR.glob("*.md") if f'"{page.name}"' not in followed] == []
