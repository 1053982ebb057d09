"""When an answer's first content came: the byte of it that extraction found, and when the gateway saw that byte.

The gateway takes no answer apart; it only notes when which bytes came (`mk`: pairs of a number of bytes that had come
before, and µs after the request). Its bytes are those of the wire, extraction's are decoded ones: where the body was
encoded, the first piece that lets so many bytes be decoded is looked for by bisection. At most `_MOST_MARKS` count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from proxy.wire.decode import UnknownEncodingError, decode

__all__ = ["arrival_us"]

_MOST_MARKS: Final = 1024

Marks = Sequence[Sequence[int]]
"""Pairs: as they are made, or as JSON has them."""


def arrival_us(needed: int, marks: Marks, head_us: int | None, body: bytes, encoding: str | None) -> int | None:
    """When the `needed`-th byte of the answer was there, µs after the request.

    What came before the first mark came with the head, at `head_us`. `body` is the answer as it was captured,
    `encoding` what was undone before its bytes were counted.
    """
    if not marks:
        return head_us
    known = marks[:_MOST_MARKS]
    ends = [mark[0] for mark in known]
    """Of each piece: where the next one begins. The first came with the head, the last has no mark behind it."""
    if encoding is None or not _decoded(body, encoding, needed):
        piece = bisect_left(ends, needed)
    else:
        piece = bisect_left(ends, needed, key=lambda end: _decoded(body[:end], encoding, needed))
    return head_us if piece == 0 else known[piece - 1][1]


def _decoded(body: bytes, encoding: str, limit: int) -> int:
    """How many bytes, up to `limit`, can be decoded of `body`: none where it is too short, or not so encoded."""
    try:
        return len(decode(body, encoding, limit))
    except UnknownEncodingError:
        return 0
