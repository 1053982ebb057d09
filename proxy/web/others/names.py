"""What a score of another system's client means here: its name decides, then its value. Pure.

Those systems keep anything under a score: a user's thumb, an annotator's grade, how long the answer was. What a name
means only the operator knows, so only names in `feedback.thumb_names` are thumbs, and only those in
`feedback.score_names` are quality scores; `hallucination: true` is neither. What does not count is kept as a comment
with its name. What a program or a judge says is never anybody's thumb.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import orjson

from proxy.config.model import FeedbackConfig

__all__ = ["Names", "as_note", "as_text", "score_of", "thumb_of"]

_UP: Final = frozenset({"up", "thumbsup", "thumbup", "upvote", "positive", "like", "liked", "good", "true", "👍"})
_DOWN: Final = frozenset({"down", "thumbsdown", "thumbdown", "downvote", "negative", "dislike", "disliked", "bad",
                          "false", "👎"})  # fmt: skip
_GOOD: Final = 0.5
"""A number of a thumb's name is good from here on, of 0 to 1."""
_LONGEST_WORD: Final = 40


@dataclass(frozen=True, slots=True)
class Names:
    """Which names of scores count, and as what."""

    thumbs: frozenset[str]
    scores: frozenset[str]

    @classmethod
    def of(cls, config: FeedbackConfig) -> Self:
        """As configured."""
        return cls(_folded(config.thumb_names), _folded(config.score_names))

    def counts(self, name: str) -> bool:
        """Whether anything under that name could count."""
        return name.casefold() in self.thumbs | self.scores

    def meaning(self, name: str, value: Any, *, person: bool = True) -> dict[str, Any]:
        """What a score says in our words: `{"feedback": 1 | -1}`, `{"quality_score": 0 to 1}`, or nothing that counts.

        `value` is a boolean, a number, a word, or None; `person`: a user or an annotator gave it, not a program. A name
        that is in both lists is a quality score.
        """
        key = name.casefold()
        if not person or value is None:
            return {}
        if key in self.scores:
            score = score_of(value)
            return {} if score is None else {"quality_score": score}
        thumb = thumb_of(value) if key in self.thumbs else None
        return {} if thumb is None else {"feedback": thumb}

    def change(self, value: Any) -> dict[str, Any]:
        """What a changed value says of a vote whose name is not told again: both, of which what it said before counts
        (`Vote.amends`)."""
        thumb, score = thumb_of(value), score_of(value)
        said = {"feedback": thumb, "quality_score": score}
        return {name: one for name, one in said.items() if one is not None}


def thumb_of(value: Any) -> int | None:
    """1 or -1; None where the value is no thumb: another number than -1 and 0 to 1, another word."""
    if isinstance(value, bool):
        return 1 if value else -1
    if isinstance(value, int | float):
        if value == -1:
            return -1
        return (1 if value >= _GOOD else -1) if 0 <= value <= 1 else None
    if isinstance(value, str) and len(value) <= _LONGEST_WORD:
        word = "".join(letter for letter in value.casefold() if letter not in " _-")
        return 1 if word in _UP else -1 if word in _DOWN else None
    return None


def score_of(value: Any) -> float | None:
    """0 to 1; None where it is none."""
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    return None


def as_text(value: Any) -> str | None:
    """Some words of it for a comment; None for what says nothing."""
    match value:
        case None | "":
            return None
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}" if math.isfinite(value) else None
        case str():
            return value
        case _:
            try:
                return orjson.dumps(value).decode()
            except TypeError:  # a number or a depth that JSON's readers take, and nobody writes
                return None


def as_note(name: str, value: Any, words: Any, *, by: str | None = None) -> str | None:
    """The comment in which a score is kept that does not count: `verdict: good — because …`, and who says so, if it is
    no person (`by`); None where there is nothing to say."""
    said, words = as_text(value), as_text(words)
    if said is None and words is None:
        return None
    head = name if by is None else f"{name} ({by})"
    head = head if said is None else f"{head}: {said}"
    return head if words is None else f"{head} — {words}"


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)
