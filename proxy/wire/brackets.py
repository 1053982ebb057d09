"""Which JSON is parsed where nothing may wait: not a crowd of lists and objects, which take a microsecond each."""

from __future__ import annotations

from typing import Final

__all__ = ["too_many_brackets"]

_MOST: Final = 16_000
"""Lists and objects of a body. A request of nothing but tools has half as many; one with more names nobody."""


def too_many_brackets(body: bytes | bytearray) -> bool:
    """Whether a body has more lists and objects than that. Those in strings count, too: it may be JSON again."""
    return len(body) > 2 * _MOST and body.count(b"[") + body.count(b"{") > _MOST
