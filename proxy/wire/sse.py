"""Server-sent events, decoded incrementally as the WHATWG standard reads them.

Any re-chunking of the same bytes gives the same events. One deviation, on purpose: `finish` hands out the event
that was still open when the stream ended, where a browser would discard it, because a log wants the last words
of a stream that was cut.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ServerEvent", "SseDecoder"]

_BOM: Final = b"\xef\xbb\xbf"


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
        self._name = ""
        self._data: list[bytes] = []
        self._id: str | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes."""
        buffer = self._tail + chunk
        if self._at_start:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                self._tail = buffer
                return []
            buffer = buffer.removeprefix(_BOM)
            self._at_start = False
        # A CR at the very end may be half of a CRLF: it waits for the next byte.
        held = b""
        if buffer.endswith(b"\r"):
            buffer, held = buffer[:-1], b"\r"
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = buffer.split(b"\n")
        self._tail = rest + held
        return self._events(lines)

    def finish(self) -> list[ServerEvent]:
        """The event still open at the end of the stream, if any."""
        line, self._tail = self._tail.removesuffix(b"\r"), b""
        return self._events([line, b""])

    def _events(self, lines: list[bytes]) -> list[ServerEvent]:
        events = []
        for line in lines:
            if line.startswith(b"data:"):  # nearly every line of a model's stream
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line:
                self._field(line)
            else:
                if self._data:
                    events.append(ServerEvent(self._name, b"\n".join(self._data), self._id))
                    self._data = []
                self._name = ""
        return events

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
