"""What people read: every sentence of the pages, the commands of the loop and the decisions, without our private words.

`python -m tests.test_sentences` prints the inventory.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_MODULES: Final = ("policies/*.py", "policies/transition/*.py", "proxy/web/console/*.py", "proxy/loop/look/*.py",
                   "proxy/cli/status.py", "proxy/cli/control.py", "proxy/cli/decisions.py",
                   "proxy/cli/loop.py")  # fmt: skip
_TEMPLATES: Final = "proxy/web/console/templates/*.html"
_PRIVATE: Final = re.compile(
    r"\b(holds?|held|holding|orders?|cast|can not|vouch\w*|goes? back|sent back|kept warm|dead|lets? it|pulls?|"
    r"looks? (?:again|at|has|said)|no look|the last look|comes? to nothing|nobody|somebody)\b",
    re.IGNORECASE,
)
_PUBLIC: Final = ("until somebody decides", "Held out", "in the order of", "Look at the data", "holds the loop's lease",
                  "What a trigger looks at")  # fmt: skip
"""Phrases in which such a word is the usual one."""


def sentences() -> Iterator[tuple[str, str]]:
    """(file, text) of each text of two words or more that can be shown."""
    for pattern in _MODULES:
        for path in sorted(ROOT.glob(pattern)):
            for text in _literals(ast.parse(path.read_text(encoding="utf-8"))):
                yield str(path.relative_to(ROOT)), text
    for path in sorted(ROOT.glob(_TEMPLATES)):
        bare = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for text in re.split(r"<[^>]*>", bare):
            if " " in (words := " ".join(text.split())):
                yield str(path.relative_to(ROOT)), words


def _literals(tree: ast.AST) -> Iterator[str]:
    """Texts of two words or more that are no docstring and no line under a field."""
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            text = " ".join(node.value.split())
            if " " in text and re.search(r"[a-z]{3}", text):
                yield text


def test_no_sentence_has_words_of_our_own() -> None:
    found = []
    for path, text in sentences():
        left = text
        for phrase in _PUBLIC:
            left = left.replace(phrase, "")
        if (private := _PRIVATE.search(left)) is not None:
            found.append((path, private[0], text))
    assert found == []


if __name__ == "__main__":
    for path, text in sentences():
        print(f"{path}: {text}")
