r"""What a text says once its escapes are undone, layer by layer, and where in the text each character of it came from.

A tool's arguments are JSON within a JSON string, a query is percent-encoded, perhaps twice: what a person would read of
`zoe\\u0040corp` or `zoe%2540corp` is found in one of these views, and what is found is replaced in the text itself, so
that the rest of it stays as it was.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from proxy.patterns import Haystack

__all__ = ["LAYERS", "View", "unescaped", "views"]

LAYERS: Final = 6
"""So often escapes are undone: JSON in JSON strings, five times over."""
_PAIR: Final = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE: Final = _PAIR + r'|\\u[0-9a-fA-F]{4}|\\["\\/bfnrt]'
_ESCAPES: Final = re.compile(_ESCAPE)
_ALL: Final = re.compile(_ESCAPE + r"|(?:%[0-9a-fA-F]{2})+")
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class View:
    """One layer: its `text`, and the layer under it."""

    __slots__ = ("_at", "_below", "_from", "hay")

    def __init__(
        self, text: str, below: View | None = None, at: array[int] | None = None, of: array[int] | None = None
    ) -> None:
        """`at`: where each piece begins in `text`, the end last; `of`: where it begins in the layer below."""
        self.hay = Haystack(text)
        self._below = below
        self._at = at
        self._from = of

    @property
    def text(self) -> str:
        """What it says."""
        return self.hay.text

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Where `text[start:end]` stands in the lowest layer."""
        view: View = self
        while view._below is not None:
            if view._at is not None and view._from is not None:
                start, end = (
                    view._from[piece] + position - view._at[piece]
                    for position in (start, end)
                    for piece in (bisect_right(view._at, position) - 1,)
                )
            view = view._below
        return start, end

    def under(self, pattern: re.Pattern[str]) -> View | None:
        """The next layer; None where there is nothing to undo."""
        text, pieces, done, length = self.text, [], 0, 0
        at, of = array("Q"), array("Q")
        for match in pattern.finditer(text):
            start = match.start()
            if start > done:
                pieces.append(text[done:start])
                at.append(length)
                of.append(done)
                length += start - done
            for char, size in _meaning(match[0]):
                pieces.append(char)
                at.append(length)
                of.append(start)
                length += 1
                start += size
            done = match.end()
        if not pieces:
            return None
        pieces.append(text[done:])
        at.extend((length, length + len(text) - done))
        of.extend((done, len(text)))
        return View("".join(pieces), self, at, of)

    def spaced(self) -> View | None:
        """The same with a space for each plus, as forms have it."""
        return View(self.text.replace("+", " "), self) if "+" in self.text else None


def views(text: str, *, form: bool = False) -> Iterator[View]:
    """`text` and the layers under it, each reading once; in a `form`, a plus may be a space."""
    first = View(text)
    yield from _with_spaces(first, form=form)
    if "\\" in text:
        yield from _layers(first, _ESCAPES, form=form)
    if "%" in text or ("\\" in text and "u0025" in text):
        yield from _layers(first, _ALL, form=form)


def unescaped(text: str) -> str:
    """The text of a JSON string, of which `text` is what stands between the quotes, as far as it can be read."""
    view = View(text).under(_ESCAPES)
    return text if view is None else view.text


def _layers(first: View, pattern: re.Pattern[str], *, form: bool) -> Iterator[View]:
    view: View | None = first
    for _ in range(LAYERS):
        if view is None or (view := view.under(pattern)) is None:
            return
        yield from _with_spaces(view, form=form)


def _with_spaces(view: View, *, form: bool) -> Iterator[View]:
    yield view
    if form and (spaced := view.spaced()) is not None:
        yield spaced


def _meaning(escape: str) -> Iterator[tuple[str, int]]:
    """The characters that an escape, or a run of percent-encoded bytes, stands for, and how long each is written."""
    if escape[0] == "%":
        for char in bytes.fromhex(escape.replace("%", "")).decode("utf-8", "surrogateescape"):
            yield char, 3 * len(char.encode("utf-8", "surrogateescape"))
    elif len(escape) == 12:
        yield chr(0x10000 + ((int(escape[2:6], 16) & 0x3FF) << 10) + (int(escape[8:], 16) & 0x3FF)), 12
    elif escape[1] == "u":
        yield chr(int(escape[2:], 16)), 6
    else:
        yield _SHORT.get(escape[1], escape[1]), 2
