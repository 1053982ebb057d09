"""What is different between two texts, word by word, or line by line where they are long.

`difflib` takes time that grows with the square, and on hostile text with the cube, of the words that both have in
common. So the work is estimated first, from how often each word occurs on both sides, and what would take too long is
not compared word by word. Equal beginnings, ends and lines cost nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, NamedTuple

__all__ = ["Marked", "Piece", "mark"]

_CHARACTER: Final = r"[\u3040-\u30ff\u3400-\u9fff]"
_WORDS: Final = re.compile(rf"\s*{_CHARACTER}|\s*\w+?(?={_CHARACTER}|\b)|\s*[^\w\s]|\s+\Z")
"""With the space before it. Chinese and Japanese have none: each character is a word."""
_MOST_PAIRS: Final = 30_000
"""Of equal words (or lines), one in each text: difflib looks at each of them up to once a block that it finds."""
_MOST_CHARS: Final = 200_000


class Piece(NamedTuple):
    """A part of a text."""

    text: str
    marked: bool
    """It is not in the other text."""


@dataclass(frozen=True, slots=True)
class Marked:
    """Two texts, in pieces that are put together again by joining them."""

    left: tuple[Piece, ...]
    right: tuple[Piece, ...]
    by: str
    """`words` or `lines`; empty: nothing is marked, for they are the same, or too long to be compared."""


def mark(left: str, right: str) -> Marked:
    """Mark in each of two texts what the other has not."""
    if left == right:
        return Marked(_plain(left), _plain(right), "")
    if len(left) + len(right) <= _MOST_CHARS:
        words = _WORDS.findall(left), _WORDS.findall(right)
        if found := _compared(*words, left, right):
            return Marked(*found, "words")
        lines = left.splitlines(keepends=True), right.splitlines(keepends=True)
        if found := _compared(*lines, left, right):
            return Marked(*found, "lines")
    return Marked(_plain(left), _plain(right), "")


def _plain(text: str) -> tuple[Piece, ...]:
    return (Piece(text, False),) if text else ()


def _compared(
    left: Sequence[str], right: Sequence[str], whole_left: str, whole_right: str
) -> tuple[tuple[Piece, ...], tuple[Piece, ...]] | None:
    """The pieces of both sides; None where that would take too long, or the tokens are not all of the text."""
    if "".join(left) != whole_left or "".join(right) != whole_right:
        return None
    ones, others = [word.strip() for word in left], [word.strip() for word in right]
    head = _shared(ones, others)
    tail = _shared(ones[head:][::-1], others[head:][::-1])
    middle = ones[head : len(ones) - tail], others[head : len(others) - tail]
    if _pairs(*middle) > _MOST_PAIRS:
        return None
    matcher = SequenceMatcher(None, *middle, autojunk=False)
    same_left, same_right = bytearray(len(left)), bytearray(len(right))
    for same, length in ((same_left, len(left)), (same_right, len(right))):
        same[:head] = b"\1" * head
        same[length - tail :] = b"\1" * tail
    for block in matcher.get_matching_blocks():
        same_left[head + block.a : head + block.a + block.size] = b"\1" * block.size
        same_right[head + block.b : head + block.b + block.size] = b"\1" * block.size
    return _pieces(left, same_left), _pieces(right, same_right)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _pairs(one: Sequence[str], other: Sequence[str]) -> int:
    here, there = Counter(one), Counter(other)
    return sum(count * there[word] for word, count in here.items())


def _pieces(tokens: Sequence[str], same: bytearray) -> tuple[Piece, ...]:
    """Tokens put together as long as they are of one kind; space before a marked word is not marked."""
    pieces: list[tuple[list[str], bool]] = []
    for token, equal in zip(tokens, same, strict=True):
        if pieces and pieces[-1][1] is not bool(equal):
            pieces[-1][0].append(token)
            continue
        space = token[: len(token) - len(token.lstrip())]
        if not equal and space and pieces:
            pieces[-1][0].append(space)
            token = token[len(space) :]
        pieces.append(([token], not equal))
    return tuple(Piece("".join(texts), marked) for texts, marked in pieces if any(texts))
