"""JSON pointers (RFC 6901): `/choices/0/message/content` into a parsed JSON value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["MISSING", "JsonPointer", "first_found"]

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class _Missing:
    """The type of MISSING."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a pointer finds where there is nothing; None is a JSON value."""


class JsonPointer:
    """A parsed pointer. Raises ValueError where `text` is none."""

    __slots__ = ("text", "tokens")

    def __init__(self, text: str) -> None:
        if text and not text.startswith("/"):
            raise ValueError(f"{text!r} is not a JSON pointer: it starts with a slash, e.g. /output/0/text (RFC 6901)")
        if re.search(r"~(?![01])", text):
            raise ValueError(f"{text!r} is not a JSON pointer: ~ is written ~0, and / inside a name ~1 (RFC 6901)")
        self.text = text
        self.tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])

    def find(self, document: Any) -> Any:
        """What the pointer points at in `document`, or MISSING."""
        value = document
        for token in self.tokens:
            if isinstance(value, dict):
                value = value.get(token, MISSING)
            elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
                value = value[int(token)]
            else:
                return MISSING
        return value

    def __repr__(self) -> str:
        return f"JsonPointer({self.text!r})"


def first_found(pointers: Iterable[JsonPointer], document: Any) -> Any:
    """What the first pointer that finds anything but null finds, or MISSING."""
    for pointer in pointers:
        found = pointer.find(document)
        if found is not MISSING and found is not None:
            return found
    return MISSING
