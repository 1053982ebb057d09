"""Bedrock's binary frames as the events that they stand for.

A frame of Converse becomes an object with one field, named for the event's type. A `chunk` of InvokeModel is the
model's own event in base64, and becomes that. An exception becomes an error as others write it, whatever the API.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

from proxy.wire.eventstream import EventMessage, EventStreamDecoder
from proxy.wire.extract.values import items, mapping, text
from proxy.wire.lenient import MAX_VALUES, read_event

__all__ = ["FrameEvents", "read_frames"]


class FrameEvents(NamedTuple):
    """What the frames of a stream say."""

    events: list[tuple[int, dict[str, Any]]]
    """One event after another, each behind the offset of its end."""
    unread: int
    """How many frames could not be read; of those behind a damaged one nobody knows."""
    torn: bool
    """The last frame broke off."""


def read_frames(body: bytes) -> FrameEvents:
    """The events of a whole or cut stream of frames."""
    decoder = EventStreamDecoder()
    reader = _Reader()
    events = []
    unread = 0
    for frame in decoder.feed(body):
        try:
            events.append((frame.end, _event(frame, reader)))
        except ValueError:
            unread += 1
    decoder.finish()
    return FrameEvents(events, unread + (decoder.trouble is not None and not decoder.cut), decoder.cut)


class _Reader:
    """Reads the JSON of frames, as long as all of it together is no crowd."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def read(self, data: bytes) -> dict[str, Any]:
        """The object in `data`. Raises ValueError."""
        self._left -= data.count(b",") + data.count(b"[") + data.count(b"{")
        if self._left < 0:
            raise ValueError("more values than are read")
        return mapping(read_event(data))


def _event(frame: EventMessage, reader: _Reader) -> dict[str, Any]:
    """What a frame says. Raises ValueError where its payload cannot be read."""
    kind = frame.headers.get(":message-type")
    if kind == "error":
        return _error(frame.headers.get(":error-code"), frame.headers.get(":error-message"))
    fields = reader.read(frame.payload) if frame.payload else {}
    if kind == "exception":
        return _error(frame.headers.get(":exception-type"), fields.get("message") or fields.get("Message"))
    if frame.headers.get(":event-type") == "chunk":
        return _as_delta(reader.read(base64.b64decode(text(fields.get("bytes")) or "", validate=True)))
    return {str(frame.headers.get(":event-type")): {key: value for key, value in fields.items() if key != "p"}}


def _error(kind: Any, message: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": text(kind) or "exception", "message": text(message) or text(kind)}}


def _as_delta(event: dict[str, Any]) -> dict[str, Any]:
    """Mistral's models stream choices with whole messages, each of them a piece: they are deltas."""
    choices = [mapping(choice) for choice in items(event.get("choices"))]
    if not any("message" in choice and "delta" not in choice for choice in choices):
        return event
    return event | {"choices": [
        {"index": choice.get("index"), "delta": choice.get("message"), "finish_reason": choice.get("stop_reason")}
        for choice in choices
    ]}  # fmt: skip
