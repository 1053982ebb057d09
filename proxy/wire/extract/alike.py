"""What neighbours in a stream have in common: the same bytes around a growing text, and around what changes beside it.

Nothing is parsed here. That each event of those that are cut is the common parts and what stands in the holes between
them, to its last byte, is all that is promised: what that means is told by whoever knows JSON.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["GROWING", "AlikeEvents", "changing_frame_of", "cut", "frame_of"]

GROWING: Final = re.compile(
    rb'"(content|text|reasoning_content|reasoning|refusal|thinking|partial_json|arguments|delta)": ?'
    rb'"((?:[^"\\\n]|\\[^\n])*)"'
)
_CHANGING: Final = re.compile(rb'"(sequence_number|created|obfuscation|p)": ?"?([0-9A-Za-z]*)"?[,}]')
"""Members that change beside the text: numbers, and padding (OpenAI's `obfuscation`, Mistral's `p`)."""
_FEW: Final = 16
"""Events that are cut before all that may be of a run are: most that is none ends among them."""


class AlikeEvents(NamedTuple):
    """What the events of a run have in common."""

    parts: list[bytes]
    """Their bytes, around the holes."""
    marks: list[bytes]
    """The ends of the parts between the holes: the name of a member, in one event that of no other."""
    names: list[bytes]
    """The member whose value stands in each hole."""
    grows: int
    """Which of the holes is the text's."""


def frame_of(event: bytes, following: bytes, text: re.Match[bytes]) -> AlikeEvents | None:
    """What `event` and the one behind it have in common, if that is all but the text."""
    start, end = text.span(2)
    before, after = event[:start], event[end:]
    if following.startswith(before) and following.endswith(after):
        return AlikeEvents([before, after], [], [text[1]], 0)
    return None


def changing_frame_of(event: bytes, following: bytes, text: re.Match[bytes]) -> AlikeEvents | None:
    """What they may have in common, if more than the text changes; None where nothing else does.

    An event that names one of what changes twice is not looked at: it could have a hundred thousand holes.
    """
    changes: list[re.Match[bytes]] = []
    known: set[bytes] = set()
    for change in _CHANGING.finditer(event):
        if change[1] in known:
            return None
        known.add(change[1])
        if following.find(change[0]) < 0:
            changes.append(change)
    if not changes:
        return None
    parts: list[bytes] = []
    marks: list[bytes] = []
    names: list[bytes] = []
    grows = at = 0
    for hole in sorted((text, *changes), key=re.Match.start):
        if hole is text:
            grows = len(names)
        parts.append(event[at : hole.start(2)])
        marks.append(event[hole.start() : hole.start(2)])
        names.append(hole[1])
        at = hole.end(2)
    return AlikeEvents([*parts, event[at:]], marks[1:], names, grows)


def cut(frame: AlikeEvents, events: list[bytes], at: int) -> tuple[list[list[bytes]], int]:
    """What stands in the holes, hole by hole, in the events from `at` on before the first that is another; and how many
    events were looked at. The one at `at` is no other."""
    parts, marks = frame.parts, frame.marks
    if not marks:
        rests = _rests(events, at, parts[0], parts[-1])
        return [rests], len(rests)
    rests = _rests(events[at : at + _FEW], 0, parts[0], parts[-1])
    columns = _columns(rests, parts[1:-1], marks)
    if len(columns[0]) == _FEW:
        rests = _rests(events, at, parts[0], parts[-1])
        columns = _columns(rests, parts[1:-1], marks)
    return columns, len(rests)


def _rests(events: list[bytes], at: int, first: bytes, last: bytes) -> list[bytes]:
    """What stands between `first` and `last` in the events from `at` on that are so; the first one is."""
    start, stop, shortest = len(first), -len(last), len(first) + len(last)
    rests: list[bytes] = []
    for index in range(at, len(events)):
        event = events[index]
        if not (event.startswith(first) and event.endswith(last) and len(event) >= shortest):
            break
        rests.append(event[start:stop])
    return rests


def _columns(rests: list[bytes], parts: list[bytes], marks: list[bytes]) -> list[list[bytes]]:
    """What stands around `parts` in each of `rests`, up to the first that has not all of them.

    A part is long, and its mark is found sooner: where that is in all of them what the part begins with is compared
    in all of them at once.
    """
    columns: list[list[bytes]] = []
    for part, mark in zip(parts, marks, strict=True):
        beginning = part[: -len(mark)]
        stop = -len(beginning)
        pieces = [rest.partition(mark) for rest in rests]
        before = [piece for piece, _, _ in pieces]
        found = [piece for _, piece, _ in pieces]
        column = [piece[:stop] for piece in before]
        if found.count(mark) < len(rests) or beginning.join((*column, b"")) != b"".join(before):
            pieces = _up_to(part, rests)
            column = [piece for piece, _, _ in pieces]
        columns.append(column)
        rests = [rest for _, _, rest in pieces]
    return [*(column[: len(rests)] for column in columns), rests]


def _up_to(part: bytes, rests: list[bytes]) -> list[tuple[bytes, bytes, bytes]]:
    """Those of `rests` before the first that has no `part`, each parted there."""
    parted: list[tuple[bytes, bytes, bytes]] = []
    for rest in rests:
        pieces = rest.partition(part)
        if not pieces[1]:
            break
        parted.append(pieces)
    return parted
