"""The README's commands and its five lines of Python do what they say."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.harness.late import late
from tests.harness.pages import ROOT, Command, Session, blocks, commands
from tests.harness.programs import program
from tests.harness.require import need
from tests.harness.serve import await_true, request

openai = late("openai")

README = ROOT / "README.md"
COMMANDS = [command for block in blocks(README) if block.language == "console" for command in commands(block)]


def the_command(start: str) -> Command:
    [found] = [command for command in COMMANDS if command.line.startswith(start)]
    return found


def test_there_is_no_command_that_is_not_tested() -> None:
    assert [command.line.split()[0] for command in COMMANDS] == [
        "make",
        "make",
        "pip",
        "ratchet",
        "curl",
        "echo",
        "ratchet",
    ]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_knows_its_targets(target: str) -> None:
    """A dry run: the demo has an acceptance test of its own, and the suite is what runs here."""
    need("make", subprocess.run(["which", "make"], capture_output=True, check=False).returncode == 0)
    line = the_command(f"make {target}").line.partition("#")[0]
    told = subprocess.run(
        [*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert {"demo": "ratchet demo", "test": "-m pytest"}[target] in told


def test_it_is_installed_as_in_the_tutorial() -> None:
    """Where a test in a fresh environment runs it."""
    tutorial = blocks(ROOT / "docs/tutorial/quickstart.md")[0]
    assert the_command("pip").line in [command.line for command in commands(tutorial)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """With the model of the README on port 8000, and `ratchet serve` before it."""
    tmp_path: Path = tmp_path_factory.mktemp("reader")
    session = Session(tmp_path)
    model = tmp_path / "model.json"
    model.write_text('{"quality": 0.9}')
    tiny = ROOT / "tests/harness/tiny_model.py"
    with program(tiny, "serve", str(model), session.ports["8000"]):
        await_true(lambda: _answers(f"http://127.0.0.1:{session.ports['8000']}/health"), "the model")
        line = session.local(the_command("ratchet serve").line)
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(Path(sys.executable).with_name("ratchet")), *shlex.split(line)[1:]],
                cwd=tmp_path,
                env=session.environ,
                stdout=log,
                stderr=log,
            )
        try:
            health = f"http://127.0.0.1:{session.ports['8080']}/-/health"
            await_true(lambda: _answers(health), "a healthy worker", lambda: _runs(server))
            yield session
        finally:
            server.terminate()
            assert server.wait(120) == 0


def test_ask_and_vote(reader: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    [python] = [block.text for block in blocks(README) if block.language == "python" and "OpenAI" in block.text]
    names: dict[str, object] = {}
    exec(compile(reader.local(python).replace("…", "key"), "README.md", "exec"), names)
    client: Any = names["client"]
    assert isinstance(client, openai.OpenAI)
    client.close()
    record_id = str(names["record_id"])
    assert len(record_id) == 36
    vote = the_command("curl")
    line = reader.local(vote.line).replace("…", record_id)
    answered = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(re.escape(vote.shown.strip()).replace("…", "[0-9a-f]+"), answered.strip())


def test_a_challenger_is_brought(reader: Session) -> None:
    lines = [reader.local(the_command(start).line) for start in ("echo", "ratchet challenge")]
    done = subprocess.run(["bash", "-c", "; ".join(["set -e", *lines])], cwd=reader.directory, env=reader.environ,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("challenge: challenger-"), done.stdout


RIVALS = ("Reef", "OpenClaw-RL", "MetaClaw", "arbr-control-plane", "LiteLLM", "Cursor")


def test_the_comparison_names_who_is_alive_with_source_and_date() -> None:
    """What is said of another project is a link to where it says so, or "–"; its column says when that was read."""
    text = README.read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in _table(text, "How it compares")]
    assert re.findall(r"\[([^]]+)\]", " ".join(rows[0])) == list(RIVALS)
    sources = dict(re.findall(r"^\[([^]]+)\]: (https://\S+)$", text, re.MULTILINE))
    assert set(RIVALS) <= sources.keys()
    facts = {row[0]: row[1:] for row in rows[2:]}
    for what, cells in facts.items():
        assert len(cells) == len(rows[0]) - 1, what
        named = re.findall(r"\]\[([^]]+)\]", " ".join(cells))
        assert set(named) <= sources.keys(), what
    assert len(re.findall(r"\]\[", "".join("".join(cells) for cells in facts.values()))) >= 10
    seen = facts["source seen"][1:]
    assert all(re.fullmatch(r"[A-Z][a-z]+ 20\d\d", date) for date in seen)
    assert all(facts["better than Ratchet at"][1:]), "each is better at something"
    assert all(name in text for name in ("TensorZero", "Helicone", "Portkey", "Langfuse", "Flagger", "NVIDIA"))


def test_everybody_finds_their_page() -> None:
    pages = {f"docs/for/{path.name}" for path in (ROOT / "docs/for").glob("*.md")}
    table = "\n".join(_table(README.read_text(encoding="utf-8"), "For you"))
    assert set(re.findall(r"\((docs/for/[a-z-]+\.md)\)", table)) == pages
    assert "[Is it for me?](docs/is-it-for-me.md)" in README.read_text(encoding="utf-8")


def _table(text: str, heading: str) -> list[str]:
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")]


def test_metrics_are_where_the_readme_says_and_documented(reader: Session) -> None:
    """Every family of a real server is on the reference page, with its type."""
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    url = f"http://127.0.0.1:{reader.ports['8081']}"

    def look() -> str | None:
        text = request(url, "/metrics").body.decode()
        return text if "ratchet_loop_phase" in text else None

    text = await_true(look, "the loop's metrics")
    families = re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
    assert len(families) > 30, text
    for name, kind in families:
        if not name.endswith("_created"):
            assert f"| `{name}` | {kind} |" in page, name


def _runs(server: subprocess.Popen[bytes]) -> None:
    assert server.poll() is None, "it has ended"


def _answers(url: str) -> bool:
    try:
        return request(url, urlsplit(url).path).status == 200
    except (OSError, HTTPException):
        return False
