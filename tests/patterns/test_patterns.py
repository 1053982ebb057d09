"""Patterns keep Python's meaning on an engine whose time is linear; what it cannot do is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from time import process_time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.serving import TASK_PATTERNS
from proxy.patterns import Haystack, compile_pattern, finder
from proxy.patterns.probe import slow_patterns

PAGE: Final = Path(__file__).parents[2] / "docs/how-to/secure.md"
DOCUMENTED: Final = json.loads(re.search(r"^patterns = (\[.*\])$", PAGE.read_text(encoding="utf-8"), re.M)[1])  # type: ignore[index]
TEXT: Final = "mail zoe+x@corp.example, (René) Ünal 4111111111111111 ٤١١١ AB12 CD34 EF56 foo\nfoo_bar: ann Ann\t\u2003x"


@pytest.mark.parametrize("pattern", [
    *DOCUMENTED, "Jörg", r"\bRené\b", r"\bÜnal\b", r"\b\w+\b", r"[^\W\d_]+", r"(?i)ANN", r"(?i:r)ené", r"^mail",
    r"x$", r"(?m)^foo$", r"\Amail|x\Z", r"(?x) f o o # a comment", r"(?P<name>f)(oo)", r"\d{4}", r"(?a)\d{4}",
    r"\s+\w", r"\S+@\S+", r"(?a)\W+", r"[^\d\s]+", r"\b(?:foo|Ü\w+)\b", r"\b[A-Z]{2}\d{2}(?: ?[A-Z]{2}\d{2})*\b",
    r"f.o", r"(?s)o.f", r"[a-c]nn?", r"\bx?\d+", r"\d+x?\b", r"a*?n", r"(?>fo)o", r"fo++", r"(?:\bfoo)+",
    r"(?i-s:A(?-i:nn))", r"[^\S ]",
    r"\bann?\b", r"(?a)\bann\b", r"^\bmail", r"x\b$",
])  # fmt: skip
def test_a_pattern_finds_what_it_finds_in_python(pattern: str) -> None:
    expected = [match.span() for match in re.finditer(pattern, TEXT) if match[0]]
    assert compile_pattern(pattern).spans(Haystack(TEXT)) == expected
    assert compile_pattern(pattern, "python").spans(Haystack(TEXT)) == expected
    assert finder(pattern)(TEXT) is (re.search(pattern, TEXT) is not None)


@given(st.text(st.sampled_from("aéB1 @_٣日\n"), max_size=12))
@pytest.mark.parametrize("pattern", [r"\bé+\b", r"a\b", r"\b[aé]+", r"\bB1\b", r"[^a]\b@", r"(?:é|1) ?\b"])
def test_a_word_boundary_never_lets_pass_what_python_finds(pattern: str, text: str) -> None:
    found = {at for start, end in compile_pattern(pattern).spans(Haystack(text)) for at in range(start, end)}
    assert {at for match in re.finditer(pattern, text) for at in range(*match.span())} <= found


@pytest.mark.parametrize(("pattern", "reason"), [
    (r"(?=x)y", "looks around"), (r"(?<!x)y", "looks around"), (r"(?!)", "looks around"), (r"(a)\1", "refers back"),
    (r"(?P<q>a)(?(q)b|c)", "refers back"), (r"a\Bb", r"has a \B"), ("a{1001}", "too much for RE2"),
    (r"(\w{900}){900}", "too much for RE2"), ("(", r"is not a regular expression \(missing"),
])  # fmt: skip
def test_what_cannot_be_linear_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compile_pattern(pattern)


def test_stray_bytes_and_halves_of_characters_are_searched_as_they_are_read() -> None:
    hay = Haystack(b"J\xf6rg \xff\xfe".decode("utf-8", "surrogateescape") + "\ud83d!")
    assert compile_pattern("Jörg").spans(hay) == [(0, 4)]
    assert compile_pattern(r"[^!]!").spans(hay) == [(7, 9)]


@pytest.mark.parametrize(("pattern", "anchored"), [(r"a|^b", True), (r"\b\w", False), (r"(?:x(a$))", True)])
def test_a_pattern_says_whether_it_needs_the_ends(pattern: str, anchored: bool) -> None:
    assert compile_pattern(pattern).anchored is anchored
    assert compile_pattern(pattern, "python").anchored is anchored


@pytest.mark.parametrize("unit", ["a", "a.", "a@", "1", "1234 ", "a@b", "é"])
@pytest.mark.parametrize("pattern", DOCUMENTED)
def test_the_documented_patterns_take_linear_time(pattern: str, unit: str) -> None:
    """A quadratic one takes minutes for a million characters; half a second is a hundred times what they take."""
    hay = Haystack(unit * (1_000_000 // len(unit)))
    started = process_time()
    compile_pattern(pattern).found_in(hay)
    assert process_time() - started < 0.5


def test_those_of_python_are_timed() -> None:
    assert slow_patterns([r"[\w.+-]+@[\w-]+\.[\w.]+", r"(a+)+$", "Jörg"]) == [r"[\w.+-]+@[\w-]+\.[\w.]+", r"(a+)+$"]


def test_the_built_in_patterns_of_tasks_are_linear_as_they_are() -> None:
    assert slow_patterns(TASK_PATTERNS[:1]) == []
    for unit in ("### Task: ", "title ", "Write title 5 words or less conversation\n", "a"):
        text = "Write " + unit * (10_000 // len(unit))
        started = process_time()
        for pattern in TASK_PATTERNS:
            re.search(pattern, text)
        assert process_time() - started < 0.5
