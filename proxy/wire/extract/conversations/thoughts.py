"""Thoughts that stand in the text, as models without a field for them write them: `<think>…</think>` and its kin.

Some chat templates put the opening tag into the prompt: then the answer has only the closing one, and all before it is
a thought. An answer that never closes its tag has not begun to speak. A tag that is quoted, or in a block of code, is
spoken about, and so is one in the middle of a sentence that nobody closes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

__all__ = ["Fences", "split_thoughts"]

_HINTS: Final = ("hink>", "HINK]", "hinking>", "hink▷", "HINK>", "HINKING>", "thought|>")
"""One of these is in whatever has thoughts."""
_PAIRS: Final = (
    (r"<(think|thinking|seed:think)>", "</{}>"),
    (r"\[(THINK)\]", "[/{}]"),
    (r"◁(think)▷", "◁/{}▷"),
    (r"<\|begin_of_(thought)\|>", "<|end_of_{}|>"),
)
_OPENING: Final = re.compile(rf"(?<![`'\"“‘])(?:{'|'.join(opening for opening, _ in _PAIRS)})", re.IGNORECASE)
_CLOSING: Final = r"(?:</(?:think|thinking|seed:think)>|\[/THINK\]|◁/think▷)"
_LONE: Final = re.compile(rf"(?<![`'\"“‘ ]){_CLOSING}|(?<![`'\"“‘]){_CLOSING}(?! \w)", re.IGNORECASE)
_MOST_TAGS: Final = 2000
"""That are looked for in one text. What is behind them counts as said."""
_FENCE: Final = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
"""Where a block of code begins or ends."""


class Fences:
    """The blocks of code in a text, found once: places are asked for by the hundred thousand."""

    def __init__(self, text: str) -> None:
        self._places = [found.start() for found in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []

    def around(self, place: int) -> int | None:
        """Where the block of code begins that `place` is in; None where it is in none."""
        before = bisect_left(self._places, place - 2)  # a fence is three characters, and has to end before it
        return self._places[before - 1] if before % 2 else None


def split_thoughts(text: str) -> tuple[str | None, str]:
    """What was thought (None: nothing), and what was said; a text without thoughts is as it was."""
    if "hink" not in text and "HINK" not in text and "thought|" not in text:
        return None, text
    if not any(hint in text for hint in _HINTS):
        return None, text
    thoughts: list[str] = []
    lone = _LONE.search(text)
    first = _OPENING.search(text)
    if (
        lone is not None
        and (first is None or lone.start() < first.start())
        and Fences(text).around(lone.start()) is None
    ):
        thoughts.append(text[: lone.start()])
        text = text[lone.end() :]
    spoken = _without(text, thoughts)
    if not thoughts:
        return None, text
    return "\n\n".join(filter(None, map(str.strip, thoughts))) or None, spoken.strip()


def _without(text: str, thoughts: list[str]) -> str:
    """The text without its thoughts, which go to `thoughts`."""
    said: list[str] = []
    fences = Fences(text)
    unclosed: set[str] = set()
    at, begun = 0, False
    for _ in range(_MOST_TAGS):
        if (opening := _OPENING.search(text, at)) is None:
            break
        place = next(number for number, name in enumerate(opening.groups()) if name is not None)
        closing = re.escape(_PAIRS[place][1].format(opening[place + 1])).lower()
        end = None
        if closing not in unclosed and (end := re.compile(closing, re.IGNORECASE).search(text, opening.end())) is None:
            unclosed.add(closing)  # nor is there one further on
        begun = begun or bool(text[at : opening.start()].strip())
        if fences.around(opening.start()) is not None or (end is None and begun):
            said.append(text[at : opening.end()])
            at, begun = opening.end(), True
            continue
        said.append(text[at : opening.start()])
        thoughts.append(text[opening.end() : end.start() if end else None])
        at = end.end() if end else len(text)
    said.append(text[at:])
    return "".join(said)
