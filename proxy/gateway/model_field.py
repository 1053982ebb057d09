"""Swap the model name in a JSON body and touch nothing else.

The body is not parsed and written again, which would change spaces, escapes, number formats and key order. A
scanner walks the tokens of the top level, finds the value of `"model"` and splices the new name in. It works on
the beginning of a body, too, so a body that is still streaming in can be rewritten once that field has arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

__all__ = ["replace_model"]

_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]:,]', re.DOTALL)


def replace_model(body: bytes, model: str) -> bytes:
    """`body` with the value of each top-level `"model"` string replaced; unchanged where there is none."""
    name = orjson.dumps(model)
    pieces: list[bytes] = []
    position = 0
    for start, end in _model_values(body):
        pieces += (body[position:start], name)
        position = end
    return b"".join((*pieces, body[position:])) if pieces else body


def _model_values(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the top-level `"model"` strings stand, quotes included."""
    if not body.lstrip(b" \t\r\n\xef\xbb\xbf").startswith(b"{"):
        return
    depth = 0
    previous: re.Match[bytes] | None = None
    is_model = False
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == 34:  # a string
            if depth == 1 and is_model:
                yield token.span()
            is_model = False
        elif first == 58:  # a colon: what was before it is a key
            is_model = depth == 1 and previous is not None and _is_model(previous[0])
        else:
            is_model = False
            if first in b"{[":
                depth += 1
            elif first in b"}]":
                depth -= 1
                if not depth:
                    return
        previous = token


def _is_model(key: bytes) -> bool:
    if b"\\" not in key:
        return key == b'"model"'
    try:
        return bool(orjson.loads(key) == "model")
    except orjson.JSONDecodeError:
        return False
