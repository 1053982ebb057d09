"""A JSON array as a stream: its elements one by one, also of an array that was cut.

Google's APIs stream so where nobody asks for server-sent events: `[` at once, an object whenever there is one, `]` at
the end.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from proxy.wire.lenient import text_of

__all__ = ["begins_array", "read_array"]

_BETWEEN: Final = re.compile(r"[\s,]*")
_DECODER: Final = json.JSONDecoder(strict=False)


def begins_array(body: bytes) -> bool:
    """Whether `body` begins as an array of objects does."""
    head = body[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[:1] == b"[" and head[1:].lstrip()[:1] in (b"{", b"")


def read_array(body: bytes) -> tuple[list[tuple[int, Any]], bool]:
    """The elements that are whole, each behind the offset of its end, and whether the array is: closed, and read."""
    text = text_of(body)
    at = _skip(text, text.find("[") + 1)
    elements: list[tuple[int, Any]] = []
    end = len(text[:at].encode("utf-8", "surrogatepass"))
    while at < len(text) and text[at] != "]":
        try:
            value, after = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError):
            return elements, False
        end += len(text[at:after].encode("utf-8", "surrogatepass"))
        elements.append((end, value))
        at = _skip(text, after)
        end += at - after  # white space and commas are a byte each
    return elements, text[at:].strip() == "]"


def _skip(text: str, at: int) -> int:
    """Where the next element, or the array's end, begins."""
    found = _BETWEEN.match(text, at)
    assert found is not None  # it matches the empty text
    return found.end()
