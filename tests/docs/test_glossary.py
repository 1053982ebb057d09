"""The glossary names what there is: each code word can be imported, each phase and each action has a line.

What phases and actions mean is said once, in `policies.vocabulary`, and shown on the page of the lifecycle.
"""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from policies.actions import TAGS
from policies.glossary import TERMS
from policies.lifecycle import Phase
from policies.vocabulary import ACTIONS

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"
ROW = re.compile(r"\| (?P<word>[^|]+) \| `(?P<code>[\w.]+)` \|( [^|]+ \|)?")


def rows(section: str = "# Glossary") -> dict[str, str]:
    """Word → code word, of one section."""
    parts = dict(part.split("\n", 1) for part in re.split(r"(?m)^(?=#+ )", PAGE.read_text(encoding="utf-8")) if part)
    table = [line for line in parts[section].splitlines() if line.startswith("| ")][1:]
    found = [ROW.fullmatch(line) for line in table]
    assert all(found), [line for line, match in zip(table, found, strict=True) if match is None]
    return {match["word"].strip("`"): match["code"] for match in found if match is not None}


ALL = {**rows(), **rows("## Phases"), **rows("## Actions")}


def named(code: str) -> Any:
    """The module, or what a module has under that name."""
    try:
        return import_module(code)
    except ModuleNotFoundError:
        module, _, name = code.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("word", sorted(ALL))
def test_a_code_word_is_in_the_code(word: str) -> None:
    assert named(ALL[word]) is not None


def test_words_stand_in_order_and_once() -> None:
    words = list(rows())
    assert words == sorted(set(words), key=lambda word: re.sub(r"\W", "", word.lower()))


def test_every_phase_has_its_value_and_every_action_its_class() -> None:
    phases, actions = rows("## Phases"), rows("## Actions")
    assert phases.keys() == set(Phase)
    for phase, code in phases.items():
        assert next(field for field in fields(named(code)) if field.name == "name").default == phase
    assert {word: named(code) for word, code in actions.items()} == {
        ACTIONS[tag].label: kind for kind, tag in TAGS.items()
    }


@pytest.mark.parametrize("word", TERMS)
def test_the_console_explains_a_word_as_the_glossary_does(word: str) -> None:
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {word} |"))
    meaning = re.sub(r" See \[[^|]*", "", row.split("|")[3].strip())
    assert TERMS[word].meaning == meaning
    assert (PAGE.parent / TERMS[word].page).is_file()
