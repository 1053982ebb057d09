"""How an answer behaves, whatever it says: does it decline, break off, call what nobody offered, change the language?

Five facts of an answer, as bits that a store can keep. They are no scores: an application may want short answers, or
refusals. But a model that does something of it much more often than the one before is another model than was meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from typing import Final

__all__ = ["Behaviour", "behaviour_words", "of_defects"]


class Behaviour(IntFlag):
    """Of one answer; the integer is what the store keeps. No bit at all: it was looked at, and nothing was found."""

    NONE = 0
    DECLINED = 1
    """It declines the request, by its words or by its provider's mark."""
    MALFORMED = 2
    """A tool call that nobody could run, a tool that was not offered, or no JSON where JSON was asked for."""
    TRUNCATED = 4
    """A limit cut it."""
    LANGUAGES = 8
    """The languages of question and answer are both known."""
    OTHER_LANGUAGE = 16
    """They differ."""


_OF_DEFECT: Final = {
    "refusal": Behaviour.DECLINED.value,
    "malformed": Behaviour.MALFORMED.value,
    "invalid_json": Behaviour.MALFORMED.value,
    "truncated": Behaviour.TRUNCATED.value,
}
"""By the defects of the format check (`policies.scoring`); the others are no behaviour."""
_SHOWN: Final = tuple(flag for flag in Behaviour if flag is not Behaviour.LANGUAGES)


def of_defects(defects: Iterable[str]) -> int:
    """The bits of the defects that the format check has found."""
    bits = 0
    for defect in defects:
        bits |= _OF_DEFECT.get(defect, 0)
    return bits


def behaviour_words(bits: int) -> list[str]:
    """What was found, in words; that both languages are known is nothing to tell."""
    return [flag.name.lower() for flag in _SHOWN if bits & flag.value and flag.name]
