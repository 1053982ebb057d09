"""Which bodies of requests can be rewritten for a model that is to be asked otherwise."""

from __future__ import annotations

from typing import Final

__all__ = ["LONGEST_BODY", "rewritable"]

LONGEST_BODY: Final = 1 << 20
"""Bytes of a body that is rewritten."""
_MOST_BRACKETS: Final = 16_000
"""Lists and objects in it: as many as are parsed to find a user."""


def rewritable(size: int, encoding: str | None, body: bytes | bytearray = b"") -> bool:
    """Whether a body of `size` bytes can be rewritten: not where it is compressed, long, or a crowd of brackets.

    It depends on the request alone, and not on who is to answer: what cannot be rewritten is no evidence in either arm.
    `body` is what has come of it.
    """
    if size > LONGEST_BODY or encoding not in (None, "identity"):
        return False
    return len(body) <= 2 * _MOST_BRACKETS or body.count(b"[") + body.count(b"{") <= _MOST_BRACKETS
