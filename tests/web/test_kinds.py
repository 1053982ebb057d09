"""One table of kinds: whatever lists them reads it, so that a new one can be forgotten nowhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import typer.main

from proxy.cli.app import app
from proxy.ids import KeyRing
from proxy.store.tables.schema import records
from proxy.store.tables.types import Code
from proxy.store.tables.values import RecordFilter
from proxy.web.documents import parse_filter
from proxy.wire.extract import KINDS, SHAPES

ROOT = Path(__file__).parents[2]
RELEASED = ("chat", "completions", "responses", "embeddings", "messages", "ollama", "kserve", "json", "other", "gemini",
            "bedrock", "cohere", "tgi", "llama.cpp", "sglang", "dify", "rerank", "moderations", "task")  # fmt: skip
"""As databases have them, in the order of their codes."""
ALLOWED = (
    ROOT / "proxy/store/tables/migrations/versions/0001_first.py",  # as the first version built it
)


def test_the_codes_on_disk_have_no_gap_and_released_ones_stay() -> None:
    kind = records.c.kind.type
    assert isinstance(kind, Code)
    assert kind.known == tuple(KINDS)
    assert [one.code for one in KINDS.values()] == list(range(len(KINDS))), "the next free code is the next number"
    assert len({shape.kind for shape in SHAPES}) == len({shape.kind.name for shape in SHAPES}), "one kind a name"
    assert kind.known[: len(RELEASED)] == RELEASED
    assert len(kind.known) < 0x1F, "a code is one control character"


def collections(tree: ast.AST) -> list[set[str]]:
    """The strings in each literal collection, and among the arguments of each call."""
    found = []
    for node in ast.walk(tree):
        elements: list[ast.expr | None] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            elements = [*node.elts]
        elif isinstance(node, ast.Dict):
            elements = [*node.keys]
        elif isinstance(node, ast.Call):
            elements = [*node.args]
        found.append({e.value for e in elements if isinstance(e, ast.Constant) and isinstance(e.value, str)})
    return found


def test_no_other_list_of_kinds_is_kept() -> None:
    """Four of their names together are a list of kinds; words like `messages` and `json` do meet by chance."""
    sources = [path for room in ("proxy", "policies", "dashboards") for path in (ROOT / room).rglob("*.py")]
    copies = [
        (str(path.relative_to(ROOT)), found & set(KINDS))
        for path in sources
        if path not in ALLOWED
        for found in collections(ast.parse(path.read_text(encoding="utf-8")))
        if len(found & set(KINDS)) >= 4
    ]
    assert copies == []


def test_no_template_lists_them() -> None:
    for path in (ROOT / "proxy/web/console/templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert len({kind for kind in KINDS if f'"{kind}"' in text}) < 4, path.name


@pytest.mark.parametrize("verb", ["list", "export"])
def test_the_command_line_offers_each(verb: str) -> None:
    group = typer.main.get_command(app).commands["records"]  # type: ignore[attr-defined]
    [option] = [option for option in group.commands[verb].params if option.name == "kind"]
    assert option.help.partition(";")[0].split(", ") == list(KINDS)


def test_each_is_a_filter_and_nothing_else_is(tmp_path: Path) -> None:
    keys = KeyRing.load_or_create(tmp_path / "keys.json")
    for kind in KINDS:
        assert parse_filter({"kind": kind}, keys, {}, 0.0) == RecordFilter(kind=kind)
        assert parse_filter({"kind": f"-{kind}"}, keys, {}, 0.0) == RecordFilter(other_than=kind)
    for unknown in ("chats", "-chats", "--chat", "-"):
        with pytest.raises(ValueError, match=rf"^kind: not one of {', '.join(KINDS)}; -task means all but task$"):
            parse_filter({"kind": unknown}, keys, {}, 0.0)
