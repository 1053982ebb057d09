"""Reading JSON that may be anything: each helper takes any value and gives the wanted type, or nothing.

Also the two conventions that all shapes share: how content parts become text, and how tool calls do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from proxy.wire.lenient import crowded, read_json

__all__ = [
    "REDACTED",
    "compact",
    "content_text",
    "count",
    "has_words",
    "items",
    "json_in",
    "kind_of",
    "last_user_text",
    "lines",
    "mapping",
    "sum_of",
    "text",
    "tool_call",
    "turn",
]  # fmt: skip

REDACTED: Final = "[redacted]"
"""What redaction puts in the place of what must not be written down."""
_MAX_COUNT: Final = 2**31 - 1
_PLACEHOLDERS: Final = {
    "image_url": "[image]", "input_image": "[image]", "image": "[image]", "image_file": "[image]",
    "input_audio": "[audio]", "audio": "[audio]", "audio_url": "[audio]", "video_url": "[video]",
    "file": "[file]", "input_file": "[file]", "document": "[file]",
}  # fmt: skip


def mapping(value: Any) -> dict[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """`value` where it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """`value` where it is a string."""
    return value if isinstance(value, str) else None


def count(value: Any) -> int | None:
    """`value` where it is a whole number from 0 to 2³¹ − 1, also written as `10.0` or `"10"`."""
    if type(value) is not int:
        written = isinstance(value, str) and len(value) <= 10 and value.isascii() and value.isdigit()
        if not written and not (isinstance(value, float) and value.is_integer()):
            return None
        value = int(value)
    return value if 0 <= value <= _MAX_COUNT else None


def sum_of(values: Iterable[Any]) -> int | None:
    """The sum of those `values` that are counts; None where none is."""
    counts = [number for value in values if (number := count(value)) is not None]
    return count(sum(counts)) if counts else None


def kind_of(fields: dict[str, Any]) -> str:
    """The `type` of a tagged object; "" where it has none."""
    return text(fields.get("type")) or ""


def compact(value: Any) -> str:
    """`value` as JSON text without spaces; a stand-in where it is nested deeper than orjson writes (254)."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return "[nested too deeply]"


def content_text(content: Any, *, separator: str = "\n") -> str | None:
    """The text of a message's content: a string, or parts of which other media become `[image]` and so on."""
    if isinstance(content, str):
        return content
    parts = [part for value in items(content) if (part := _part_text(value)) is not None]
    return separator.join(parts) if parts else None


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    fields = mapping(part)
    for key in ("text", "refusal"):
        if (found := text(fields.get(key))) is not None:
            return found
    return _PLACEHOLDERS.get(kind_of(fields))


def json_in(given: str) -> Any:
    """The JSON value that a text holds; the text itself where it holds none (it may be cut, or free text), or more than
    is read."""
    if crowded(given):
        return given
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError:
        pass
    try:
        return read_json(given.encode("utf-8", "surrogatepass"))
    except ValueError:
        return given


_LABELS: Final = frozenset({"type", "index", "id", "role", "format"})


def has_words(value: Any) -> bool:
    """Whether a part of a delta holds any words, and not only the place for them."""
    if isinstance(value, dict):
        return any(has_words(part) for key, part in value.items() if key not in _LABELS)
    if isinstance(value, list):
        return any(has_words(part) for part in value)
    return value not in (None, "", False)


def tool_call(name: Any, arguments: Any) -> str:
    """A call as chat templates commonly write it; `arguments` is JSON text or a value."""
    if isinstance(arguments, str):
        arguments = json_in(arguments)
    return f"<tool_call>{compact({'name': text(name) or '', 'arguments': arguments})}</tool_call>"


def lines(pieces: Iterable[str | None]) -> str:
    """The non-empty `pieces`, each on a line of its own."""
    return "\n".join(piece for piece in pieces if piece)


def turn(role: Any, content: Iterable[str | None]) -> dict[str, str]:
    """One message of a conversation; the non-empty pieces of `content` on lines of their own."""
    return {"role": text(role) or "user", "content": lines(content)}


def last_user_text(messages: list[dict[str, str]]) -> str | None:
    """The content of the last user turn, else of the last turn."""
    for message in reversed(messages):
        if message["role"] == "user" and message["content"]:
            return message["content"]
    return messages[-1]["content"] or None if messages else None
