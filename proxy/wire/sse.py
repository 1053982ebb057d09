"""Server-sent events, decoded incrementally as the WHATWG standard reads them.

Any re-chunking of the same bytes gives the same events. Two deviations, on purpose: `finish` hands out the event that
was still open when the stream ended, where a browser would discard it, because a log wants the last words of a stream
that was cut; and an event named `error` is one even without data.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["ServerEvent", "SseDecoder"]

_BOM: Final = b"\xef\xbb\xbf"
_OTHERS: Final = (b"", b"id", b"retry")
_FIELD_NAME: Final = re.compile(rb"(?!error\b)[a-z][a-z_-]*")
"""What could be a field of a later standard, which is ignored."""


class ServerEvent(NamedTuple):
    """One dispatched event. `data` is its data lines joined by LF, undecoded; `name` is "" where none was given.

    A tuple because a stream has thousands, and a frozen dataclass takes three times as long to make.
    """

    name: str
    data: bytes
    id: str | None = None


class SseDecoder:
    """Turns the bytes of an event stream into events: `feed` as they come, `finish` at the end."""

    def __init__(self) -> None:
        self._tail = b""
        self._at_start = True
        self._after_cr = False
        self.strange = 0
        """How many lines were neither comments nor fields: something else that got into the stream."""
        self._name = ""
        self._data: list[bytes] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the other half of a CRLF
            self._after_cr = False
        buffer = self._tail + chunk
        if self._at_start:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._tail = buffer
                return []
            buffer = buffer.removeprefix(_BOM)
            self._at_start = False
        if b"\r" in buffer:
            self._after_cr = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._tail = buffer.split(b"\n")
        return self._events(lines)

    def finish(self) -> list[ServerEvent]:
        """The event still open at the end of the stream, if any."""
        line, self._tail = self._tail, b""
        return self._events([line, b""])

    def _events(self, lines: list[bytes]) -> list[ServerEvent]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):  # nearly every line of a model's stream
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line:
                self._field(line)
            else:
                if self._data or self._name == "error":
                    events.append(ServerEvent(self._name, b"\n".join(self._data), self._id))
                    self._data = []
                self._name = ""
        return events

    def _field(self, line: bytes) -> None:
        field, colon, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
        elif field == b"error" and colon:  # llama.cpp says so what went wrong
            self._name = "error"
            self._data.append(value)
        elif field.strip() not in _OTHERS and not (colon and _FIELD_NAME.fullmatch(field)):
            self.strange += 1
