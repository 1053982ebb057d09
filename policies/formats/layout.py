"""How the lines of one file are made to load with one schema.

Readers of whole files (pyarrow, and `datasets`, which is built on it) give every field of a file one type, and
`datasets` takes it from the first 10 MB. Two things would break that:

* A content that is text in one line and a list of parts in another. Either all lines of a file are written `in_parts`,
  or those with pictures are left out (`generator_config.attachments`). Parts are for models that see: some chat
  templates for words alone fail on them, others (Llama 3) write them as they are printed, which would be learnt.
* Keys that first come late: a `weight`, a call, `tools`, another tool. So in a large file lines of every `shape` that
  it has stand at its head, the oldest of each (at most HEADS), before all others. `datasets` then sees that these
  objects have no fixed keys, and keeps them as JSON.

Tools whose schemas give one property different types (`"string"` here, `["string", "null"]` there), and in TRL's
formats arguments that do, load with `datasets` from version 5 on; bare `pyarrow.json` has no type for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from policies.formats.table import FORMATS

__all__ = ["HEADS", "has_parts", "in_parts", "shape"]

HEADS: Final = 256
"""Shapes that the head of a file shows at most."""
_SPOKEN: Final = frozenset(name for form in FORMATS.values() for name in form.message_fields)
_WHOLE: Final = ("request", "response")  # of NVIDIA's form
_DEPTH: Final = 4  # of a tool: function/parameters/properties, and which properties there are


def in_parts(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same line, with every message's content as a list of parts."""
    return {key: _spoken_in_parts(key, value) for key, value in body.items()}


def _spoken_in_parts(key: str, value: Any) -> Any:
    if key == "request" and isinstance(value, Mapping):
        return in_parts(value)
    return [_parted(message) for message in value] if key in _SPOKEN and isinstance(value, list) else value


def has_parts(body: Mapping[str, Any]) -> bool:
    """Whether a message's content is a list of parts."""
    said = [message for key in _SPOKEN if isinstance(value := body.get(key), list) for message in value]
    return any(isinstance(message, Mapping) and isinstance(message.get("content"), list) for message in said)


def shape(body: Mapping[str, Any]) -> int:
    """63-bit hash of the keys that a line, its messages and its tools have; texts and arguments do not count."""
    return _hashed(_outlined(body))


def _outlined(body: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """What `shape` looks at."""
    return frozenset([(key, _outlined_member(key, value)) for key, value in body.items()])


def _outlined_member(key: str, value: Any) -> Any:
    if isinstance(value, list):
        if key in _SPOKEN:
            return frozenset(map(_keys, value))
        if key == "tools":
            return frozenset([_outline(tool, _DEPTH) for tool in value])
    return _outlined(value) if key in _WHOLE and isinstance(value, Mapping) else ""


@lru_cache(maxsize=64)
def _hashed(outlined: frozenset[tuple[str, Any]]) -> int:
    text = repr(_sorted(outlined)).encode("utf-8", "replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def _sorted(outlined: Any) -> Any:
    """Sets as lists in an order that is the same in every process."""
    if isinstance(outlined, frozenset):
        return sorted(map(_sorted, outlined), key=repr)
    return tuple(map(_sorted, outlined)) if isinstance(outlined, tuple) else outlined


def _keys(message: Any) -> tuple[str, ...]:
    if not isinstance(message, dict):
        return ()
    content = message.get("content")
    if not isinstance(content, list):
        return tuple(message)
    return (*message, *sorted({str(part.get("type")) for part in content if isinstance(part, Mapping)}))


def _parted(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else dict(message)


def _outline(value: Any, depth: int) -> str:
    if depth == 0 or not isinstance(value, Mapping):
        return ""
    return f"{{{','.join([key + _outline(value[key], depth - 1) for key in sorted(value)])}}}"
