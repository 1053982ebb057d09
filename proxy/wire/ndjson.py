"""Newline-delimited JSON, decoded incrementally: Ollama's streams and their like.

A line that is no JSON is skipped: the log takes what can be read, and the raw body is kept beside it.
"""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["NdjsonDecoder"]


class NdjsonDecoder:
    """Turns bytes into the JSON values of its lines: `feed` as they come, `finish` at the end."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, chunk: bytes) -> list[Any]:
        """The values of the lines that `chunk` completes."""
        *lines, self._tail = (self._tail + chunk).split(b"\n")
        return _values(lines)

    def finish(self) -> list[Any]:
        """The value of a last line without its newline, if it is a whole one."""
        lines, self._tail = [self._tail], b""
        return _values(lines)


def _values(lines: list[bytes]) -> list[Any]:
    values = []
    for line in lines:
        if line and not line.isspace():
            try:
                values.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue
    return values
