"""A pattern that searches a text: by RE2, or by Python's `re` where the setting says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

from proxy.patterns.translate import parsed, translated

__all__ = ["Engine", "Haystack", "Pattern", "compile_pattern", "finder"]

Engine = Literal["re2", "python"]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MEMORY: Final = 8 << 20
"""Of a compiled pattern with what RE2 remembers of its searches; beyond it RE2 is slower, not wrong."""


class Haystack:
    """A text to be searched by several patterns, encoded once. Halves of characters and stray bytes, which no encoding
    has, are searched as U+FFFD, a byte that is a letter of latin-1 as that letter: so is the text read."""

    __slots__ = ("data", "text")

    def __init__(self, text: str) -> None:
        try:
            self.data = text.encode()
        except UnicodeEncodeError:
            text = _SURROGATE.sub(_readable, text)
            self.data = text.encode()
        self.text = text


class Pattern(Protocol):
    """A regular expression that is ready to search."""

    source: str
    """As it was written."""
    anchored: bool
    """Whether it asks for the beginning or the end of a text or line: then a part of a text is not as good as all."""

    def found_in(self, hay: Haystack) -> bool:
        """Whether it matches anywhere."""
        ...

    def spans(self, hay: Haystack) -> list[tuple[int, int]]:
        """Beginning and end of each match that is not empty, in order, in characters."""
        ...


def compile_pattern(source: str, engine: Engine = "re2") -> Pattern:
    """`source`, ready to search. Raises ValueError with a reason that follows `the pattern …`."""
    try:
        return _Linear(source) if engine == "re2" else _Python(source)
    except re.error as exc:
        raise ValueError(f"is not a regular expression ({exc})") from exc


def finder(source: str) -> Callable[[str], bool]:
    """Tells in linear time whether `source` matches in a text. Raises ValueError, as `compile_pattern` does."""
    pattern = compile_pattern(source)
    return lambda text: pattern.found_in(Haystack(text))


class _Linear:
    __slots__ = ("_regexp", "anchored", "source")

    def __init__(self, source: str) -> None:
        import re2  # only where somebody has patterns

        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _MEMORY
        self.source = source
        self.anchored = _is_anchored(source)
        try:
            self._regexp: Any = re2.compile(translated(source), options)
        except re2.error as exc:
            why = exc.args[0] if exc.args else "it is refused"
            why = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
            raise ValueError(f"is too much for RE2 ({why[:80]}): repetitions of more than 1000, or too many of them; "
                             "make it smaller") from exc  # fmt: skip

    def found_in(self, hay: Haystack) -> bool:
        return self._regexp.search(hay.data) is not None

    def spans(self, hay: Haystack) -> list[tuple[int, int]]:
        data = hay.data
        found = [span for match in self._regexp.finditer(data) if (span := match.span())[0] < span[1]]
        if len(data) == len(hay.text):
            return found
        spans, before, chars = [], 0, 0
        for start, end in found:
            first = chars + len(data[before:start].decode())
            chars, before = first + len(data[start:end].decode()), end
            spans.append((first, chars))
        return spans


class _Python:
    __slots__ = ("_regexp", "anchored", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.anchored = _is_anchored(source)
        self._regexp = re.compile(source)

    def found_in(self, hay: Haystack) -> bool:
        return self._regexp.search(hay.text) is not None

    def spans(self, hay: Haystack) -> list[tuple[int, int]]:
        return [span for match in self._regexp.finditer(hay.text) if (span := match.span())[0] < span[1]]


def _readable(match: re.Match[str]) -> str:
    code = ord(match[0]) - 0xDC00
    return chr(code) if 0xA0 <= code <= 0xFF else "\ufffd"


def _is_anchored(source: str) -> bool:
    return _looks_at_ends(parsed(source)[0])


def _looks_at_ends(items: Any) -> bool:
    """Whether there is an anchor, or something that looks around like one, at any depth."""
    for item in items if isinstance(items, list | tuple) or hasattr(items, "data") else ():
        if isinstance(item, tuple) and len(item) == 2 and str(item[0]) == "AT":
            if "BOUNDARY" not in str(item[1]):
                return True
        elif str(item) in ("ASSERT", "ASSERT_NOT") or _looks_at_ends(item):
            return True
    return False
