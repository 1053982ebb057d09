"""Which bodies of requests can be rewritten for a model that is to be asked otherwise."""

from __future__ import annotations

from typing import Final

from proxy.wire.brackets import too_many_brackets

__all__ = ["LONGEST_BODY", "rewritable"]

LONGEST_BODY: Final = 1 << 20
"""Bytes of a body that is rewritten."""


def rewritable(size: int, encoding: str | None, body: bytes | bytearray = b"", beyond: int = 0) -> bool:
    """Whether a body of `size` bytes can be rewritten: not where it is compressed, long, or a crowd of brackets.

    It depends on the request alone, and not on who is to answer: what cannot be rewritten is no evidence in either arm.
    `body` is what is here of it, and `beyond` how many lists and objects are behind that.
    """
    return size <= LONGEST_BODY and encoding in (None, "identity") and not too_many_brackets(body, beyond)
