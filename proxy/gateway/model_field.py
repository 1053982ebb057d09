"""Swap the model name in a JSON body and touch nothing else.

The body is not parsed and written again, which would change spaces, escapes, number formats and key order. A
scanner finds the values of `"model"`, and the new name is spliced in; a body that is still streaming in can be
rewritten once that field has arrived.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from proxy.users.top_level import TopLevel

__all__ = ["replace_model"]


def replace_model(body: bytes, model: str, spans: Sequence[tuple[int, int]] | None = None) -> bytes:
    """`body` with the value of each top-level `"model"` string replaced; unchanged where there is none.

    `spans` is where they stand, if something has looked through its beginning already.
    """
    if spans is None:
        scanner = TopLevel({})
        scanner.feed(body)
        spans = scanner.spans
    if not spans:
        return body
    name = orjson.dumps(model)
    pieces: list[bytes] = []
    position = 0
    for start, end in spans:
        pieces += (body[position:start], name)
        position = end
    return b"".join((*pieces, body[position:]))
