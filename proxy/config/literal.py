"""A value as it would be written in the configuration file: for messages, the example and the reference."""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["show"]

_MOST_BITS: Final = 1024


def show(value: Any, limit: int | None = 60) -> str:
    """`value` as it would be written in the file, cut to `limit` characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = _quoted(value)
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(show(item, limit) for item in value)}]"
    elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
        text = hex(value)  # Python writes no decimal number of that length
    else:
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def _quoted(value: str) -> str:
    """As TOML quotes it: a regular expression is written as it is, between single quotes."""
    if "\\" not in value and '"' not in value:
        return f'"{value}"'
    return f"'{value}'" if "'" not in value and value.isprintable() else json.dumps(value, ensure_ascii=False)
