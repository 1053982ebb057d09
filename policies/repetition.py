"""Does a text say the same again and again? What a model does that has begun to loop: it does not stop by itself.

The end of the text is cut into words, or into characters where nothing is spaced, and its runs of four such pieces are
counted. Text that repeats itself has few different ones.

Nearly no text does, and of nearly every other that shows sooner: each different word but the last three begins a run of
its own, so that it is enough to find many different words. `_is_varied` reads characters one by one for that, which
takes 40 % of the time of splitting where it is compiled, and far more of it where it is not.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["repeats"]

_PIECES: Final = 240
"""How many are looked at."""
_MIN_PIECES: Final = 40
_GRAM: Final = 4
_DISTINCT_SHARE: Final = 0.4
"""Text that repeats itself has fewer distinct four-word runs than this share; prose has 0.95 and more."""
_WORD_CHARS: Final = 15


def repeats(text: str) -> bool:
    """Whether the end of the text says the same again and again: in words, or in characters where nothing is spaced."""
    tail = text[-_PIECES * _WORD_CHARS :]
    if len(tail) < _MIN_PIECES:
        return False
    return not (_COMPILED and _is_varied(tail)) and _has_few_runs(tail)


def _has_few_runs(tail: str) -> bool:
    pieces: str | list[str] = tail.split()[-_PIECES:]
    if len(tail) > _WORD_CHARS * len(pieces):
        pieces = tail[-_PIECES:]
    grams = len(pieces) - _GRAM + 1
    enough = _DISTINCT_SHARE * grams
    if grams < _MIN_PIECES or len(set(pieces)) - _GRAM + 1 >= enough:
        return False
    distinct = len(set(zip(*(pieces[start : start + grams] for start in range(_GRAM)), strict=True)))
    return distinct < enough


def _is_varied(tail: str) -> bool:
    """True only where `_has_few_runs` is false of words: they are few, or enough of them are different. Words of one
    mark count as the same, and what is still unread counts as words of one letter, all the same."""
    length: i64 = len(tail)
    at: i64 = length
    words: i64 = 0
    distinct: i64 = 0
    mark: i64 = 0
    most: i64 = 0
    seen = [False] * 256
    while at > 0 and words < _PIECES:
        at -= 1
        char: i64 = ord(tail[at])
        if 32 < char < 0x85 or 0xA0 < char < 0x1680 or char > 0x3000 or not (char == 32 or tail[at].isspace()):
            mark = (mark * 37 + char) & 0xFFFFFF | 0x1000000
        elif mark:
            words += 1
            if not seen[mark & 0xFF]:
                seen[mark & 0xFF] = True
                distinct += 1
                most = words + (at + 1 >> 1)
                if most > _PIECES:
                    most = _PIECES
                if _are_enough(distinct, most) and words * _WORD_CHARS >= length:
                    return True
            mark = 0
    if mark and words < _PIECES:
        words += 1
    return words * _WORD_CHARS >= length and (words - _GRAM + 1 < _MIN_PIECES or _are_enough(distinct, words))


def _are_enough(distinct: i64, words: i64) -> bool:
    """More than _DISTINCT_SHARE, in whole numbers."""
    return 5 * (distinct - _GRAM + 1) > 2 * (words - _GRAM + 1)


_COMPILED: Final = not isinstance(_is_varied, FunctionType)
