"""Every command on every page is run by a test; where one cannot be, it says here why, and as much of it as can be is
checked: `ratchet` knows the verb and each option, a URL of ours exists.

A page whose commands are run from top to bottom is in FOLLOWED, with its test. What is shown and is no command (output,
formulas, diagrams, settings) is checked elsewhere or by nothing: settings and JSON by tests/docs/test_reference.py.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from proxy.cli.app import app
from proxy.config.loop import DeployerConfig
from proxy.loop.adapters.deployers.http import HttpDeployer
from proxy.loop.ports import DeployFailed, Endpoint
from tests.harness.pages import ROOT, Block, blocks, commands, pages
from tests.harness.webserver import serving

FOLLOWED = {
    "README.md": "tests/docs/test_readme.py",
    "docs/tutorial/quickstart.md": "tests/docs/test_tutorial.py",
    "docs/tutorial/challenger.md": "tests/docs/test_tutorial.py",
    "docs/for/application-developer.md": "tests/docs/test_personas.py",
    "docs/for/ml-engineer.md": "tests/docs/test_personas.py",
    "docs/for/operator.md": "tests/docs/test_personas.py",
    "docs/for/security-reviewer.md": "tests/docs/test_personas.py",
    "examples/chat/README.md": "tests/examples/test_chat.py",
    "examples/lora/README.md": "tests/examples/test_lora.py",
    "examples/prompt/README.md": "tests/examples/test_prompt.py",
}
NOT_RUN = {
    "make": "what runs here, and tests/docs/test_readme.py",
    "docker": "needs a container engine; tests/examples/test_deploy.py reads the files",
    "kubectl": "needs a cluster; tests/examples/test_deploy.py reads the files",
    "systemctl": "needs systemd",
    "install": "writes to /etc",
    "cp": "copies files that tests/examples/test_deploy.py reads",
    "cd": "goes to a folder",
    "openssl": "makes a secret",
    "umask": "before a secret is made",
    "psql": "asks a database of yours",
    "python": "calls a function of yours; tests/docs/test_personas.py does so",
    "python3": "makes an environment; tests/docs/test_tutorial.py does so",
    "pip": "installs; tests/docs/test_tutorial.py does so",
    "df": "looks at a disk",
    "du": "looks at a disk",
    "dmesg": "looks at this machine",
    "uptime": "looks at this machine",
    "nproc": "looks at this machine",
    "ls": "looks at a folder",
    "cat": "looks at a file",
    "head": "cuts what it is given",
    "sed": "changes a file or what it is given",
    "tr": "changes what it is given",
    "base64": "decodes what it is given",
    "grep": "picks from what it is given",
    "kill": "sends a signal; tests/app/test_supervisor.py does so",
    "vllm": "needs a GPU and a model",
    "ollama": "needs Ollama and a model; tests/sdk asks through the same API",
}
"""Programs on pages that no test runs from top to bottom, and why a test does not."""
GRAMMAR = {"until", "while", "for", "if", "do", "then", "else", "{"}
"""Words of the shell before a command."""
OURS = re.compile(r"(?:127\.0\.0\.1:808[01]|\$ADMIN)(/[\w./-]*)")
REFERENCE = "".join((ROOT / "docs/reference" / name).read_text(encoding="utf-8") for name in ("http.md", "metrics.md"))


@dataclass(frozen=True, slots=True)
class Line:
    """One simple command of a page."""

    page: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return Path(self.words[0]).name


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def shell_lines(block: Block) -> Iterator[str]:
    """Whole command lines: those of a console block, all of a script, and in a plain block those of known programs."""
    if block.language == "console":
        yield from (command.line for command in commands(block))
    elif block.language in ("sh", "bash", ""):
        for line in block.text.replace("\\\n", " ").splitlines():
            word = re.match(r"(?:[A-Z_]+=\S+ )*([\w./-]+)", line)
            if block.language or (word and word[1] in {"ratchet", *NOT_RUN}):
                yield line


def simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line with pipes and `&&`, without what they set, where they write, and what they are given."""
    lexer = shlex.shlex(re.sub(r"\$\((.+?)\)", r"; \1 ;", line), posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;()") and word:
            kept = words
            while kept and (kept[0] in GRAMMAR or re.fullmatch(r"[A-Za-z_]+=.*", kept[0])):
                kept = kept[1:]
            if kept and kept[0] not in ("sleep", "done", "fi", "}", "<"):
                yield tuple(kept)
            words = []
        elif set(word) <= set("<>") and word:
            words.append(word)
        else:
            words.append(word)


def lines() -> list[Line]:
    found = []
    for page in pages():
        if name_of(page) not in FOLLOWED and name_of(page) != "docs/reference/cli.md":  # made from the commands
            for block in blocks(page):
                for line in shell_lines(block):
                    found += [Line(name_of(page), words) for words in simple_commands(line)]
    return found


LINES = lines()


def test_every_program_is_run_or_has_a_reason() -> None:
    unknown = {(line.page, line.program) for line in LINES} - {
        (line.page, line.program) for line in LINES if line.program in {"ratchet", "curl", *NOT_RUN}
    }
    assert unknown == set()


def complaint(words: tuple[str, ...]) -> str | None:
    """What `ratchet` would say of these words, before it does anything. That a file is not here is no page's fault."""
    command: Any = typer.main.get_command(app)
    parent, rest = None, list(words[1:])
    try:
        while True:
            context = command.make_context(command.name or "ratchet", rest, parent=parent)
            left = [*getattr(context, "_protected_args", []), *context.args]
            if not left or not hasattr(command, "resolve_command"):
                return None
            (_, command, rest), parent = command.resolve_command(context, left), context
    except Exception as exc:  # Typer has a copy of click within itself: its classes are known by their names
        kinds = {kind.__name__ for kind in type(exc).__mro__}
        if "Exit" in kinds or ("BadParameter" in kinds and "does not exist" in str(exc)):
            return None
        if "UsageError" not in kinds:
            raise
        return str(exc.format_message())  # type: ignore[attr-defined]


OWN = sorted({(line.page, line.words) for line in LINES if line.program == "ratchet"})


@pytest.mark.parametrize(
    ("page", "words"), OWN, ids=lambda value: value if isinstance(value, str) else "-".join(value[1:3])
)
def test_ratchet_knows_each_verb_and_option(page: str, words: tuple[str, ...]) -> None:
    if "<" in words or ">" in words:
        words = words[: min(words.index(sign) for sign in "<>" if sign in words)]
    assert complaint(words) is None, " ".join(words)


def test_a_misspelt_option_or_verb_is_found() -> None:
    assert "--reason" in (complaint(("ratchet", "pause", "--reason", "x")) or "")
    assert "stauts" in (complaint(("ratchet", "stauts")) or "")
    assert "--why" in (complaint(("ratchet", "pause")) or "")
    assert complaint(("ratchet", "records", "list", "--limit", "3")) is None
    assert "nonsense" in (complaint(("ratchet", "records", "list", "nonsense")) or "")


def test_each_url_of_ours_is_in_the_reference() -> None:
    asked = {(name_of(page), path) for page in pages() for path in OURS.findall(page.read_text(encoding="utf-8"))}
    asked = {(page, re.sub(r"[.,]$", "", path)) for page, path in asked if not path.startswith("/v1") and len(path) > 1}
    assert len(asked) > 5
    consoles = {"/experiment", "/records", "/history", "/runs", "/traffic", "/checks"}
    assert {(page, path) for page, path in asked if path not in REFERENCE and path not in consoles} == set()


# ------------------------------------------------------------------------------------------------------- Python

PYTHON = {
    "docs/how-to/anthropic.md": "asks Anthropic; tests/wire and tests/examples ask through its SDK",
    "docs/how-to/openai.md": "asks OpenAI; README.md has the same lines, and is run",
    "docs/how-to/archive.md": "reads a bucket of yours, in three libraries",
    "docs/how-to/lora.md": "a part of examples/lora/train.py, with other numbers",
    "docs/how-to/ollama.md": "trains with a function of yours, and needs Ollama",
    "docs/reference/python.md": "tests/docs/test_reference.py runs it",
    "docs/how-to/write-a-trainer.md": "below",
    "docs/how-to/write-a-deployer.md": "below",
    "docs/how-to/judge.md": "below",
    "docs/how-to/scikit-learn.md": "below",
    "docs/how-to/upgrade-and-backup.md": "below",
}
"""Pages with Python that is not run by following the page, and what runs it, or why nothing does."""


def python_of(page: str, title: str | None = None) -> list[str]:
    found = [block for block in blocks(ROOT / page) if block.language == "python"]
    return [block.text for block in found if title is None or block.title == title]


def run(source: str, **names: Any) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "page", **names}
    exec(compile(source, "page", "exec"), space)
    return space


def test_every_python_block_is_run_or_has_a_reason() -> None:
    """A page that a test names is that test's own."""
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)
    )
    having = {name_of(page) for page in pages() if any(block.language == "python" for block in blocks(page))}
    alone = {
        page
        for page in having - FOLLOWED.keys() - PYTHON.keys()
        if not re.search(rf'["/]{Path(page).stem}(\.md)?"', tests)
    }
    assert alone == set()


def test_the_backup_of_a_store_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody writes to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ratchet-data").mkdir()
    store = sqlite3.connect("ratchet-data/ratchet.db")
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("CREATE TABLE records (id INTEGER)")
    store.execute("INSERT INTO records VALUES (7)")
    store.commit()
    store.execute("INSERT INTO records VALUES (8)")
    space = run(*python_of("docs/how-to/upgrade-and-backup.md"))
    store.rollback()
    for connection in (space["source"], space["target"], store):
        connection.close()
    with contextlib.closing(sqlite3.connect("backup.db")) as backup:
        assert backup.execute("SELECT id FROM records").fetchall() == [(7,)]


def test_the_judge_of_the_page_scores() -> None:
    score = run(*python_of("docs/how-to/judge.md", "quality.py"))["score"]
    assert score([{"text": "as an AI I cannot"}, {"text": "Yes."}]) == [0.0, 1.0]


def test_the_training_of_scikit_learns_page_trains(tmp_path: Path) -> None:
    data, holdout = tmp_path / "data.jsonl", tmp_path / "holdout.jsonl"
    lines = [("where is my parcel", "delivery"), ("my parcel is late", "delivery"), ("money back please", "refund"),
             ("refund my money", "refund")]  # fmt: skip
    data.write_text("".join(json.dumps({"prompt": text, "completion": label}) + "\n" for text, label in lines))
    holdout.write_text(json.dumps({"prompt": "the parcel is not here", "completion": "delivery"}) + "\n")
    result = run(*python_of("docs/how-to/scikit-learn.md", "training.py"))["train_model"](str(data), str(holdout))
    assert Path(result["model_path"]).is_file()
    assert result["accuracy"] == 1.0


def test_the_trainings_of_the_page_take_what_they_are_given(tmp_path: Path) -> None:
    first, second = python_of("docs/how-to/write-a-trainer.md")
    assert run(first)["train_model"]("data.jsonl")["model_path"] == "/models/v2"
    told: list[tuple[float, str]] = []
    train = run(second, evaluate=lambda path: 0.5)["train_model"]
    result = train("data.jsonl", "holdout.jsonl", str(tmp_path), None, lambda share, note: told.append((share, note)))
    assert result == {"model_path": str(tmp_path), "accuracy": 0.5}
    assert [note for _, note in told] == ["epoch 1", "epoch 2", "epoch 3"]


async def test_the_hook_of_the_deployers_page_deploys() -> None:
    """As the deployer of kind `http` asks it."""
    [source] = python_of("docs/how-to/write-a-deployer.md", "deploy_hook.py")
    hook = run(source)
    async with serving(hook["app"]) as url:
        deployer = HttpDeployer(DeployerConfig(kind="http", url=f"{url}/models"))
        handle = await deployer.deploy(7, "model-7", "/models/v2", {})
        assert await deployer.deploy(7, "model-7", "/models/v2", {}) == handle
        assert await deployer.ready(handle) == Endpoint(url="http://10.0.0.7:9000")
        await deployer.retire(handle)
        assert isinstance(await deployer.ready(handle), DeployFailed)
        assert hook["models"] == {}


def test_pages_that_are_followed_are_followed() -> None:
    """Each by a test that names it, or its folder."""
    for page, test in FOLLOWED.items():
        text = (ROOT / test).read_text(encoding="utf-8")
        path = Path(page)
        own = path.parent.name if path.name == "README.md" and path.parent.name else path.name
        assert (ROOT / page).exists()
        assert own in text, (page, test)
