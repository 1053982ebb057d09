"""Which JSON is parsed where nothing may wait: not a crowd of lists and objects, which take a microsecond each."""

from __future__ import annotations

from typing import Final

__all__ = ["brackets_in", "too_many_brackets"]

_MOST: Final = 16_000
"""Lists and objects of a body. A request of nothing but tools has half as many; one with more names nobody."""


def brackets_in(body: bytes | bytearray, start: int = 0) -> int:
    """How many lists and objects begin in a body from `start` on. Those in strings count, too: it may be JSON again."""
    return body.count(b"[", start) + body.count(b"{", start)


def too_many_brackets(body: bytes | bytearray, beyond: int = 0) -> bool:
    """Whether a body has more lists and objects than that, with the `beyond` that are behind what is here of it."""
    return len(body) + beyond > _MOST and brackets_in(body) + beyond > _MOST
