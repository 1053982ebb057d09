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
from itertools import accumulate
from typing import Any, Final

import orjson

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

    def surely_clean(self, text: str) -> bool:
        """Whether no pattern matches in `text`, where that shows at a glance: some 20 ns a character, or 60."""
        document = _may_be_document(text)
        if "%" in text or (document and self.anchored) or self.found_in(Haystack(text)):
            return False
        if "\\" not in text:
            return True
        said = _said(text) if document else None
        return said is not None and not any(self.found_in(Haystack(part)) for part in said)

    def covers(self, text: str, *, form: bool = False) -> bool:
        """Whether a pattern matches anywhere in `text` or under its escapes: what says no is clean."""
        document = _may_be_document(text)
        if document and self.anchored:
            return True
        if document and "\\" in text and not form and (said := _said(text)) is not None:
            document_said, strings = said
            return any(map(self.found_in, (Haystack(text), Haystack(document_said)))) or self._covers_plain(strings)
        return self._covers_plain(text, form=form)

    def _covers_plain(self, text: str, *, form: bool = False) -> bool:
        return any(self.found_in(view.hay) for view in views(text, form=form))

    def found_in(self, hay: Haystack) -> bool:
        """Whether a pattern matches in this very text."""
        return any(pattern.found_in(hay) for pattern in self._patterns)

    def cleaned(self, text: str, *, form: bool = False, depth: int = 0) -> str:
        """`text` with `[redacted]` in the place of each match."""
        if not form and "\\" not in text and "%" not in text and not _may_be_document(text):
            return replaced(text, self._spans_in(Haystack(text)))
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

    def _spans_in(self, hay: Haystack) -> Spans:
        return [span for pattern in self._patterns for span in pattern.spans(hay)]

    def _document(self, text: str, depth: int) -> str:
        pieces: list[str] = []
        """What stands between the strings and scalars at even places, those at odd ones."""
        plain: list[str] = []
        """Each of these without its escapes."""
        done = 0
        for match in _TOKEN.finditer(text):
            pieces += text[done : match.start()], match[0]
            inside = match[1]
            plain.append(match[0] if inside is None else unescaped(inside) if "\\" in inside else inside)
            done = match.end()
        pieces.append(text[done:])
        said = pieces.copy()
        for at in self._touched(plain):
            place, before = 2 * at + 1, plain[at]
            string = pieces[place][:1] == '"'
            cleaned = self.cleaned(before, depth=depth + 1) if string else self._scalar(before)
            if cleaned != before:
                pieces[place] = said[place] = _quoted(cleaned)
        for at, part in enumerate(plain):
            if "\\" in said[2 * at + 1]:
                said[2 * at + 1] = _quoted(part)
        self._cut_across(pieces, said)
        return "".join(pieces)

    def _touched(self, parts: list[str]) -> Iterable[int]:
        """Which of these parts a pattern may match: of all of them together a match is somewhere in the same place."""
        if self.anchored:
            return range(len(parts))
        ends = list(accumulate(len(part) + 1 for part in parts))
        found: set[int] = set()
        for start, end in joined(self.spans("\n".join(parts))):
            found.update(range(bisect_right(ends, start), min(bisect_left(ends, end) + 1, len(parts))))
        return sorted(found)

    def _scalar(self, scalar: str) -> str:
        hay = Haystack(scalar)
        return REDACTED if any(pattern.spans(hay) for pattern in self._patterns) else scalar

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


def replaced(text: str, spans: Spans) -> str:
    """`text` with `[redacted]` for each of these parts; those that overlap are one."""
    if not spans:
        return text
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


def _said(text: str) -> tuple[str, str] | None:
    """A JSON document without its escapes: as a document, and its strings as lines. None where it is none, or says
    something twice under one name, of which a reader drops one."""
    if "\\\\" in text:
        return None  # not worth the counting
    try:
        found = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    strings = _strings(found)
    if 2 * len(strings) != text.count('"') - text.count('\\"'):
        return None
    return orjson.dumps(found).decode(), "\n".join(strings)


def _strings(value: Any) -> list[str]:
    found: list[str] = []
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, list):
            rest += one
        elif isinstance(one, dict):
            found += one
            rest += one.values()
    return found


def _may_be_document(text: str) -> bool:
    """Whether it begins as JSON does that holds something."""
    return text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[")


def _is_document(text: str) -> bool:
    try:
        json.loads(text.lstrip("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return False
    return True
