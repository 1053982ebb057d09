"""Text that came in pieces: members of a document, or lines, that say one thing together.

What the events of a stream add up to is one text where their shape is known. Where it is not, or where its parts stay
apart, texts in the same place of successive elements are put behind one another, and what is found in the whole is cut
out of each.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from proxy.wire.extract.values import REDACTED
from proxy.wire.redaction.texts import Texts, joined
from proxy.wire.redaction.views import unescaped

__all__ = ["may_be_torn", "mend_lines", "mend_members", "mend_strings", "without_ends"]

_LAST: Final = 2048
"""Bytes before a cut in which a text may not be whole."""
_KINDS: Final = frozenset({"object", "type", "role", "id", "model", "finish_reason", "status"})
"""Members that say what something is: they come whole, or are ours."""
_STRING: Final = re.compile(r'"((?>(?:[^"\\\r\n]++|\\[^\r\n])*))"?')
"""A JSON string; one that breaks off ends with its line."""
_NAMES: Final = re.compile(r"\s*:")
_PART: Final = re.compile(r'"text"\s*:\s*"')
"""A part of a message: whoever reads the record gets them in one."""
_SEVERAL: Final = re.compile(r"\}\s*+[^\s\[\]{},:\"]*+\{")
"""Where one document ends and another one begins."""


class _Leaf(NamedTuple):
    """A text in a document, and where."""

    holder: Any
    key: Any
    text: str


def without_ends(document: Any, stream: bytes, chars: int) -> Any:
    """`document` without the last `chars` characters of each text that may still have been growing when its `stream`
    was cut: that stands nowhere in it as a whole, or only shortly before the cut."""
    early = stream[:-_LAST].decode("utf-8", "replace")
    whole = {unescaped(match[1]) for match in _STRING.finditer(early)}
    root = [document]
    leaves: list[tuple[tuple[Any, ...], _Leaf]] = []
    _collect(root, (), leaves)
    for _, (holder, key, text) in leaves:
        if key not in _KINDS and text not in whole:
            holder[key] = text[:-chars]
    return root[0]


def may_be_torn(text: str) -> bool:
    """Whether one text may stand in `text` in pieces: parts of a message, or strings of something else than one JSON
    object."""
    if text.lstrip("\ufeff \t\r\n")[:1] != "{":
        return text.count('"') > 2
    return len(_PART.findall(text)) > 1 or _SEVERAL.search(text) is not None


def mend_members(document: Any, texts: Texts, *, anywhere: bool = False, only: str | None = None) -> Any:
    """`document` without matches that are torn over its texts: those in the same place but for indices, and, with
    `anywhere`, all of them in their order; of members of that name `only`."""
    root = [document]
    leaves: list[tuple[tuple[Any, ...], _Leaf]] = []
    _collect(root, (), leaves)
    by_place: dict[tuple[Any, ...], list[_Leaf]] = {}
    for place, leaf in leaves:
        if only is not None and leaf.key != only:
            continue
        by_place.setdefault(place, []).append(leaf)
    changed = False
    for group in by_place.values():
        changed |= _mend(group, texts)
    if anywhere and len(by_place) > 1:
        fresh: list[tuple[tuple[Any, ...], _Leaf]] = []
        _collect(root, (), fresh)
        _mend([leaf for _, leaf in fresh], texts)
    return root[0]


def mend_lines(text: str, texts: Texts) -> str:
    """`text` without matches that are torn over what its lines say behind their names (`data:` and the like)."""
    lines = text.split("\n")
    heads = [line[: len(line) - len(_said(line))] for line in lines]
    parts = _without_torn([_said(line) for line in lines], texts)
    return "\n".join(head + part for head, part in zip(heads, parts, strict=True))


def mend_strings(text: str, texts: Texts) -> str:
    """`text`, which is no JSON but may hold some (lines with a name, documents without a line between them), without
    matches that are torn over its strings: those of one name, and all of them in their order."""
    pieces: list[Any] = []
    """What stands between the strings at even places, what they say at odd ones."""
    raw: list[str] = []
    by_name: dict[str, list[_Leaf]] = {}
    done, name = 0, ""
    for match in _STRING.finditer(text):
        said = unescaped(match[1])
        if _NAMES.match(text, match.end()):
            name = said
            continue
        pieces += text[done : match.start()], said
        raw += "", match[0]
        by_name.setdefault(name, []).append(_Leaf(pieces, len(pieces) - 1, said))
        done = match.end()
    changed = [_mend(group, texts) for group in by_name.values()]
    changed.append(_mend([_Leaf(pieces, at, pieces[at]) for at in range(1, len(pieces), 2)], texts))
    if not any(changed):
        return text
    before = {leaf.key: leaf.text for group in by_name.values() for leaf in group}
    for at in range(1, len(pieces), 2):
        pieces[at] = raw[at] if pieces[at] == before[at] else json.dumps(pieces[at], ensure_ascii=False)
    return "".join((*pieces, text[done:]))


def _said(line: str) -> str:
    name, colon, value = line.partition(":")
    return value.removeprefix(" ") if colon and name.isalpha() and len(name) <= 10 else line


def _collect(value: Any, place: tuple[Any, ...], leaves: list[tuple[tuple[Any, ...], _Leaf]]) -> None:
    """All texts in `value`, in order. Without recursion: a hostile document is deep."""
    stack: list[tuple[Any, Any, tuple[Any, ...]]] = [(value, key, place) for key in reversed(range(len(value)))]
    while stack:
        holder, key, where = stack.pop()
        found = holder[key]
        if isinstance(found, str):
            leaves.append((where, _Leaf(holder, key, found)))
        elif isinstance(found, list):
            stack += [(found, index, where) for index in reversed(range(len(found)))]
        elif isinstance(found, dict):
            stack += [(found, name, (*where, name)) for name in reversed(found)]


def _mend(group: Sequence[_Leaf], texts: Texts) -> bool:
    if len(group) < 2:
        return False
    parts = [leaf.text for leaf in group]
    mended = _without_torn(parts, texts)
    for leaf, part in zip(group, mended, strict=True):
        leaf.holder[leaf.key] = part
    return mended != parts


def _without_torn(parts: list[str], texts: Texts) -> list[str]:
    """`parts` without the matches in all of them together that reach over a seam."""
    whole = "".join(parts)
    if not texts.covers(whole):
        return parts
    ends = list(accumulate(map(len, parts)))
    cuts: list[list[tuple[int, int, str]]] = [[] for _ in parts]
    for start, end in joined(texts.spans(whole)):
        first, last = bisect_right(ends, start), bisect_left(ends, end)
        for part in range(first, last + 1) if last > first else ():
            before = ends[part] - len(parts[part])
            mark = REDACTED if part == first else ""
            cuts[part].append((max(start - before, 0), min(end - before, len(parts[part])), mark))
    return [_without(part, cut) if cut else part for part, cut in zip(parts, cuts, strict=True)]


def _without(part: str, cuts: list[tuple[int, int, str]]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, mark in cuts:
        pieces += part[done:start], mark
        done = end
    return "".join((*pieces, part[done:]))
