"""The tags of a record: what the configured headers and fields of its request say, as name and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.config.serving import CaptureConfig
from proxy.printable import printable
from proxy.wire.extract.values import REDACTED
from proxy.wire.pointer import MISSING, JsonPointer

__all__ = ["MAX_TAG_CHARS", "TagReader"]

MAX_TAG_CHARS: Final = 64


class TagReader:
    """Reads the tags of requests. A header's is called as the header is, in lower case; a field's as its pointer, with
    dots: `/metadata/plan` gives `metadata.plan`."""

    def __init__(self, capture: CaptureConfig) -> None:
        """Raises ValueError for a pointer that is none."""
        self._headers = tuple(name.lower() for name in capture.tag_headers)
        self._fields = tuple((".".join(p.tokens), p) for p in map(JsonPointer, capture.tag_fields))

    def of(self, headers: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str] | None:
        """The tags by name; None where there are none. What redaction has cut into is none."""
        if not self._headers and not self._fields:
            return None
        found = {name: headers.get(name) for name in self._headers}
        found |= {name: _text(pointer.find(fields)) for name, pointer in self._fields}
        return {name: value for name, text in found.items() if (value := _value(text))} or None


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value is not MISSING and isinstance(value, str | int | float) else None


def _value(text: str | None) -> str | None:
    if not text or REDACTED in text:
        return None
    return " ".join(printable(text).split())[:MAX_TAG_CHARS] or None
