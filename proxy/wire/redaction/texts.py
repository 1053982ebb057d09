"""Texts without what the patterns cover, whatever they are: JSON that stays JSON, and anything else.

JSON is not parsed and written again: its strings are found in the text, each is cleaned by what it says (which may be
JSON itself), and the rest of the document stays as it came. A number that is covered becomes the string `[redacted]`. A
match that reaches over several members takes their values.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from proxy.patterns import Haystack, Pattern
from proxy.wire.extract.values import REDACTED
from proxy.wire.redaction.views import LAYERS, unescaped, views

__all__ = ["Texts", "joined", "replaced"]

_TOKEN: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s\[\]{},:"]+)', re.DOTALL)
_NAMES: Final = re.compile(r"\s*:")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Spans = list[tuple[int, int]]


class Texts:
    """Cleans texts by patterns."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self.anchored = any(pattern.anchored for pattern in patterns)
        """Whether a part of a text may match where the text does not."""

    def covers(self, text: str, *, form: bool = False) -> bool:
        """Whether a pattern matches anywhere in `text` or under its escapes: what says no is clean."""
        if self.anchored and _may_be_document(text):
            return True
        return any(pattern.found_in(view.hay) for view in views(text, form=form) for pattern in self._patterns)

    def cleaned(self, text: str, *, form: bool = False, depth: int = 0) -> str:
        """`text` with `[redacted]` in the place of each match."""
        if not self.covers(text, form=form):
            return text
        if not form and depth <= LAYERS and _may_be_document(text):
            if _is_document(text):
                return self._document(text, depth)
            if "\n" in text and all(_is_document(line) for line in text.split("\n") if line.strip()):
                return "\n".join(self.cleaned(line, depth=depth) for line in text.split("\n"))
        return replaced(text, self.spans(text, form=form))

    def spans(self, text: str, *, form: bool = False) -> Spans:
        """Where in `text` the matches stand, those under its escapes too."""
        return [
            view.source(*span)
            for view in views(text, form=form)
            for pattern in self._patterns
            for span in pattern.spans(view.hay)
        ]

    def _document(self, text: str, depth: int) -> str:
        pieces: list[str] = []
        said: list[str] = []
        """Each piece as a person would read it: strings without needless escapes."""
        done = 0
        for match in _TOKEN.finditer(text):
            between = text[done : match.start()]
            raw, spoken = self._string(match, depth) if match[2] is None else self._scalar(match[2])
            pieces += between, raw
            said += between, spoken
            done = match.end()
        pieces.append(text[done:])
        said.append(text[done:])
        self._cut_across(pieces, said)
        return "".join(pieces)

    def _string(self, match: re.Match[str], depth: int) -> tuple[str, str]:
        inside = match[1]
        plain = unescaped(inside) if "\\" in inside else inside
        cleaned = self.cleaned(plain, depth=depth + 1)
        spoken = _quoted(cleaned)
        return (match[0] if cleaned == plain else spoken), spoken

    def _scalar(self, scalar: str) -> tuple[str, str]:
        hay = Haystack(scalar)
        if any(pattern.spans(hay) for pattern in self._patterns):
            scalar = f'"{REDACTED}"'
        return scalar, scalar

    def _cut_across(self, pieces: list[str], said: list[str]) -> None:
        """Replace the values of members that a match reaches over; pieces at odd places are strings and numbers."""
        hay = Haystack("".join(said))
        ends: list[int] = []
        length = 0
        for piece in said:
            length += len(piece)
            ends.append(length)
        for pattern in self._patterns:
            for start, end in pattern.spans(hay):
                first, last = bisect_right(ends, start), bisect_left(ends, end)
                if first == last and first % 2:
                    continue  # within one string: that was seen without its escapes
                touched = [at for at in range(first, last + 1) if at % 2]
                values = [at for at in touched if _NAMES.match(said[at + 1]) is None]
                for at in values or touched:
                    pieces[at] = f'"{REDACTED}"'


def replaced(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with `[redacted]` for each of these parts; those that overlap are one."""
    pieces: list[str] = []
    done = 0
    for start, end in joined(spans):
        pieces += text[done:start], REDACTED
        done = end
    return "".join((*pieces, text[done:]))


def joined(spans: Iterable[tuple[int, int]]) -> Spans:
    """Spans in order, those that overlap as one."""
    found: Spans = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _quoted(text: str) -> str:
    """`text` as a JSON string, without needless escapes; halves of characters stay escaped."""
    written = json.dumps(text, ensure_ascii=False)
    return written if written.isascii() else _SURROGATE.sub(_escaped, written)


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _may_be_document(text: str) -> bool:
    """Whether it begins as JSON does that holds something."""
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _is_document(text: str) -> bool:
    try:
        json.loads(text.lstrip("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return False
    return True
