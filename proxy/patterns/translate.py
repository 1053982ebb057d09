r"""From Python's regular expressions to RE2's, with the same meaning or one that matches more, never less.

In Python `\w`, `\d`, `\s` and `\b` know all of Unicode, in RE2 ASCII only; `$` and `\Z` mean something else, and so do
flags. So the pattern is parsed by Python's own parser and written anew. Classes are exact. A word boundary is exact on
the side that the pattern itself describes; what stands on the other side counts as no part of a word where it is not
ASCII. So `\bRené\b` is found in `(René)`, not in `XRené`, and also in `日René`, which Python passes over.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

__all__ = ["parsed", "translated"]

_parser: Final[Any] = import_module("re._parser")
"""Private by name, and the same since Python 3.11 (`sre_parse` before): there is no other reader of this syntax."""
_ASCII, _IGNORECASE, _MULTILINE, _DOTALL = int(re.A), int(re.I), int(re.M), int(re.S)
_LAST: Final = 0x34000
"""Behind this code point there are no letters and digits: what holds for it holds for all that follow."""
_END: Final = 0x10FFFF
_MAX: Final = int(_parser.MAXREPEAT)
_SPACES: Final = r"\t-\r\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_CLASSES: Final = {
    "CATEGORY_DIGIT": (r"\p{Nd}", "0-9", r"\d"),
    "CATEGORY_NOT_DIGIT": (r"\P{Nd}", r"\x{0}-/:-\x{10ffff}", r"\D"),
    "CATEGORY_SPACE": (_SPACES, r"\t-\r ", r"\s"),
    "CATEGORY_WORD": (r"\p{L}\p{N}_", "0-9A-Za-z_", r"\w"),
    "CATEGORY_NOT_SPACE": (None, None, r"\S"),
    "CATEGORY_NOT_WORD": (None, None, r"\W"),
}
"""What stands in a set for a class: in RE2's words (for Unicode, for ASCII; None: none), in Python's."""
_AROUND: Final = "looks around: (?=…), (?!…), (?<=…) and (?<!…) cannot be searched for in linear time; write what " \
                 "stands around the match into the pattern, or leave it out"  # fmt: skip
_BACK: Final = "refers back to a group: (?P=name), \\1 and the like cannot be searched for in linear time; " \
               "write the alternatives out"  # fmt: skip
_REFUSED: Final = {"ASSERT": _AROUND, "ASSERT_NOT": _AROUND, "FAILURE": _AROUND, "GROUPREF": _BACK,
                   "GROUPREF_IGNORE": _BACK, "GROUPREF_EXISTS": _BACK}  # fmt: skip
_CHARS: Final = ("LITERAL", "NOT_LITERAL", "IN", "ANY")
_REPEATS: Final = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")

Items = Sequence[tuple[Any, Any]]
Ranges = tuple[tuple[int, int], ...]


def parsed(pattern: str) -> tuple[Items, int]:
    """The items of `pattern` and its flags, as Python reads it. Raises re.error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        re.compile(pattern)
        tree = _parser.parse(pattern)
    return list(tree), int(tree.state.flags)


def translated(pattern: str) -> str:
    """`pattern` in RE2's syntax. Raises re.error where it is no regular expression, ValueError with a reason that
    follows `the pattern …` where RE2 cannot do what it asks for."""
    items, flags = parsed(pattern)
    text = _sequence(items, flags)
    return f"(?i:{text})" if flags & _IGNORECASE else text


def _sequence(items: Items, flags: int, *, front: bool = False, back: bool = False) -> str:
    r"""Items behind one another; `front` and `back`: with a word boundary there.

    RE2's `\b` knows ASCII only, so a boundary is written beside the character that stands at it: see `_split`.
    """
    for at, item in enumerate(items):
        if _is_boundary(item) and not flags & _ASCII:
            left, right = items[:at], items[at + 1 :]
            if not right:
                return _sequence(left, flags, front=front, back=True)
            return _sequence(left, flags, front=front and at > 0) + _sequence(right, flags, front=True, back=back)
    if not items or not (front or back):
        return "".join(_item(item, flags) for item in items)
    if len(items) == 1:
        return _edged(items[0], flags, front=front, back=back)
    if front:
        return _begun(items[0], items[1:], flags, back=back)
    rest, last = items[:-1], items[-1]
    if str(last[0]) == "AT" or _low(last) == 0:
        with_last = "".join(_item(item, flags) for item in rest) + _edged(_once(last), flags, back=True)
        return f"(?:{with_last}|{_sequence(rest, flags, back=True)}{_item(last, flags) if _low(last) else ''})"
    return "".join(_item(item, flags) for item in rest) + _edged(last, flags, back=True)


def _begun(first: tuple[Any, Any], rest: Items, flags: int, *, back: bool) -> str:
    if str(first[0]) == "AT":
        return _item(first, flags) + _sequence(rest, flags, front=True, back=back)
    text = _edged(_once(first), flags, front=True) + _sequence(rest, flags, back=back)
    return text if _low(first) else f"(?:{text}|{_sequence(rest, flags, front=True, back=back)})"


def _edged(item: tuple[Any, Any], flags: int, *, front: bool = False, back: bool = False) -> str:
    """One item, with a word boundary at its front, its back, or both. What may be empty has none then."""
    name, value = str(item[0]), item[1]
    if name in _CHARS:
        return _split(name, value, flags, front=front, back=back)
    if name in ("SUBPATTERN", "ATOMIC_GROUP"):
        inner, own = (value[3], (flags | int(value[1])) & ~int(value[2])) if name == "SUBPATTERN" else (value, flags)
        return _group(_sequence(inner, own, front=front, back=back), flags, own)
    if name == "BRANCH":
        return f"(?:{'|'.join(_sequence(each, flags, front=front, back=back) for each in value[1])})"
    if name not in _REPEATS:
        return _item(item, flags)
    low, high, inner = int(value[0]), int(value[1]), value[2]
    if low == 0:
        return f"(?:{_edged((name, (1, high, inner)), flags, front=front, back=back)})?" if high else ""
    edges = front + back
    ends = [_sequence(inner, flags, front=front, back=back and edges == 1), _sequence(inner, flags, back=back)]
    if edges == 1:
        fewer = _repeat(name, low - 1, _minus(high, 1), inner, flags)
        return ends[0] + fewer if front else fewer + ends[0]
    both = _sequence(inner, flags, front=True, back=True)
    if high == 1:
        return both
    several = ends[0] + _repeat(name, max(0, low - 2), _minus(high, 2), inner, flags) + ends[1]
    return several if low >= 2 else f"(?:{several}|{both})"


def _is_boundary(item: tuple[Any, Any]) -> bool:
    return str(item[0]) == "AT" and str(item[1]) == "AT_BOUNDARY"


def _low(item: tuple[Any, Any]) -> int:
    """How often an item is there at least."""
    return int(item[1][0]) if str(item[0]) in _REPEATS else 1


def _once(item: tuple[Any, Any]) -> tuple[Any, Any]:
    """An item that may be left out as one that is there."""
    if _low(item):
        return item
    _, high, inner = item[1]
    return item[0], (1, max(1, high), inner)


def _minus(high: int, less: int) -> int:
    return high if high == _MAX else high - less


def _split(name: str, value: Any, flags: int, *, front: bool, back: bool) -> str:
    """One character of a set, with a boundary beside it: a letter that is not ASCII is none for RE2, so that there is
    no boundary for RE2 where Python sees one; beside what is of no word, anything may be one."""
    parts = []
    for ranges, mark in zip(_parts_of(_source(name, value, flags)), (r"\b", r"\B", ""), strict=True):
        if ranges:
            parts.append((mark if front else "") + _ranges_text(ranges) + (mark if back else ""))
    return f"(?:{'|'.join(parts) or _ranges_text(())})"


def _item(item: tuple[Any, Any], flags: int) -> str:
    """One item. Raises ValueError."""
    name, value = str(item[0]), item[1]
    if name in _REFUSED:
        raise ValueError(_REFUSED[name])
    if name in _CHARS:
        return _one(name, value, flags)
    if name in _REPEATS:
        return _repeat(name, int(value[0]), int(value[1]), value[2], flags)
    if name == "BRANCH":
        return f"(?:{'|'.join(_sequence(items, flags) for items in value[1])})"
    if name == "SUBPATTERN":
        _, added, removed, items = value
        own = (flags | int(added)) & ~int(removed)
        return _group(_sequence(items, own), flags, own)
    if name == "ATOMIC_GROUP":
        return _group(_sequence(value, flags), flags, flags)
    return _at(str(value), flags)


def _group(text: str, outer: int, flags: int) -> str:
    changed = (outer ^ flags) & _IGNORECASE
    mark = "" if not changed else "i" if flags & _IGNORECASE else "-i"
    return f"(?{mark}:{text})"


def _repeat(name: str, low: int, high: int, items: Items, flags: int) -> str:
    text = f"(?:{_sequence(items, flags)})"
    most = "" if int(high) == _MAX else str(high)
    times = {(0, ""): "*", (1, ""): "+", (0, "1"): "?"}.get((int(low), most), f"{{{low},{most}}}")
    return text + times + ("?" if name == "MIN_REPEAT" else "")


def _at(name: str, flags: int) -> str:
    many = flags & _MULTILINE
    if name == "AT_NON_BOUNDARY" and not flags & _ASCII:
        raise ValueError(r"has a \B, which RE2 knows for ASCII only; put (?a) before the pattern if that is enough")
    return {
        "AT_BEGINNING": "(?m:^)" if many else r"\A",
        "AT_BEGINNING_STRING": r"\A",
        "AT_END": "(?m:$)" if many else r"\n?\z",
        "AT_END_STRING": r"\z",
        "AT_BOUNDARY": r"\b",
        "AT_NON_BOUNDARY": r"\B",
    }[name]


def _one(name: str, value: Any, flags: int) -> str:
    """A set of characters, or one."""
    if name == "LITERAL":
        return _char(value)
    if name == "NOT_LITERAL":
        return f"[^{_char(value)}]"
    if name == "ANY":
        return "(?s:.)" if flags & _DOTALL else r"[^\n]"
    negated = bool(value) and str(value[0][0]) == "NEGATE"
    parts = [_member(str(code), what, flags) for code, what in value[negated:]]
    if None in parts or (negated and flags & _ASCII):
        return _ranges_text(_ranges(_source(name, value, flags)))
    return f"[{'^' if negated else ''}{''.join(filter(None, parts))}]"


def _member(code: str, value: Any, flags: int) -> str | None:
    if code == "LITERAL":
        return _char(value)
    if code == "RANGE":
        return f"{_char(value[0])}-{_char(value[1])}"
    return _CLASSES[str(value)][1 if flags & _ASCII else 0]


def _char(code: int) -> str:
    char = chr(code)
    return char if char.isascii() and char.isalnum() else rf"\x{{{code:x}}}"


def _source(name: str, value: Any, flags: int) -> str:
    """A set in Python's syntax, to ask Python what is in it."""
    if name in ("LITERAL", "NOT_LITERAL"):
        return f"[{'^' if name == 'NOT_LITERAL' else ''}\\U{value:08x}]"
    if name == "ANY":
        return r"[\s\S]" if flags & _DOTALL else r"[^\n]"
    parts = []
    for code, what in value:
        match str(code):
            case "NEGATE":
                parts.append("^")
            case "LITERAL":
                parts.append(f"\\U{what:08x}")
            case "RANGE":
                parts.append(f"\\U{what[0]:08x}-\\U{what[1]:08x}")
            case _:
                parts.append(_CLASSES[str(what)][2])
    return f"(?{'a' if flags & _ASCII else 'u'}:[{''.join(parts)}])"


@lru_cache(maxsize=256)
def _parts_of(source: str) -> tuple[Ranges, Ranges, Ranges]:
    """A set's characters: of words and ASCII, of words and not ASCII, all others."""
    return (
        _ranges(rf"(?=(?a:\w)){source}"),
        _ranges(rf"(?![\x00-\x7f])(?=\w){source}"),
        _ranges(rf"(?!\w){source}"),
    )


@lru_cache(maxsize=256)
def _ranges(source: str) -> Ranges:
    """The characters that a pattern of one character matches, as ranges of code points."""
    found = [(match.start(), match.end() - 1) for match in re.finditer(f"(?:{source})+", _all_characters())]
    if found and found[-1][1] == _LAST:
        found[-1] = (found[-1][0], _END)
    return tuple(found)


@lru_cache(maxsize=1)
def _all_characters() -> str:
    return "".join(map(chr, range(_LAST + 1)))


def _ranges_text(ranges: Iterable[tuple[int, int]]) -> str:
    inside = "".join(_char(low) if low == high else f"{_char(low)}-{_char(high)}" for low, high in ranges)
    return f"[{inside}]" if inside else r"[^\x{0}-\x{10ffff}]"
