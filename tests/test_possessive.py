"""Regular expressions mean the same to every Python that we support.

Before 3.11.5 (Debian 12 has 3.11.2) a possessive repeat of a group, `(?:…)*+`, ends where its last, failed try has
stopped, not where that began. An atomic group around a greedy one, `(?>(?:…)*)`, says the same and is right everywhere;
of a single character or class, `[^"]*+` is, too.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

from proxy.gateway.head import TRAILERS
from proxy.users.top_level import TopLevel

ROOT = Path(__file__).parent.parent
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")
PATTERN = re.compile(r"\A[bB]?[rR][bB]?['\"]")
BODY = rb'{"a": [{"x": "{\"b\":\"c\",\"d\":[\"e\"]}"}], "model": "m", "user": "ada"}'


def strings(path: Path) -> list[str]:
    """The raw strings in a file, as they are written."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return [token.string for token in tokens if token.type == tokenize.STRING and PATTERN.match(token.string)]


@pytest.mark.parametrize("room", ["proxy", "policies", "dashboards"])
def test_no_pattern_repeats_a_group_possessively(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {string}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for string in strings(path)
        if POSSESSIVE_GROUP.search(re.sub(r"\[(?:\\.|[^\]\\])+\]", "", string))
    ]
    assert found == []


@pytest.mark.parametrize("cut", range(1, len(BODY)))
def test_a_body_may_be_cut_anywhere(cut: int) -> None:
    top = TopLevel({b"user": 99})
    top.feed(BODY[:cut])
    top.feed(BODY[cut:])
    assert top.found == {b"user": (b' "ada"', True)}
    assert [BODY[start:end] for start, end in top.spans] == [b'"m"']


def test_what_is_no_trailer_is_none() -> None:
    assert TRAILERS.match(b"abc\r\n\r\n") is None
    assert TRAILERS.match(b"a: b\r\nabc\r\n\r\n") is None
