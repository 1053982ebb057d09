"""Streamed responses, put together again: the shape is read off the events themselves.

Whoever holds only the bytes and their media type (redaction, before the spool) gets the same JSON as extraction, and
the same facts: whether it came to its end, what failed, what could not be read, and when the first word was there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from proxy.wire.extract.failures import error_of, error_text, lone_error_of, only_error_of
from proxy.wire.extract.framing import ARRAY, Framed, Framing, apart, framing_of
from proxy.wire.extract.generic import merged
from proxy.wire.extract.model import Streamed, StreamShape
from proxy.wire.extract.shapes import STREAMS
from proxy.wire.extract.values import items, mapping
from proxy.wire.lenient import crowded, mended

__all__ = ["read_array", "read_stream"]

_MAX_SILENT: Final = 1000
_MAX_LINES: Final = 60_000
"""Of a stream that is read: each may be an event. A megabyte of real ones has some fifteen thousand."""
_HALF: Final = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])")
"""Half a character, whose other half may stand in the next element."""


def read_stream(body: bytes, content_type: str, *, cut: bool = False) -> Streamed | None:
    """A whole or cut stream as the JSON that the unstreamed response would have been; None for what is no stream.

    `cut` says that the copy ends before the stream did: an event that breaks off there is no fault of its own.
    """
    framing = framing_of(body, content_type)
    if framing is None:
        return None
    if crowded(body) or (len(body) > _MAX_LINES and body.count(b"\n") + body.count(b"\r") > _MAX_LINES):
        return Streamed(unread=True)
    found = framing.read(body)
    events = _objects(found)
    shape = _shape_of(events)
    if any(run is not shape for run in found.runs):
        found = apart(body)  # in a stream of another shape its texts are not appended
        events = _objects(found)
    if shape is None and framing is ARRAY:
        return None
    read = _joined(events, shape) if shape is not None else _unknown(found, events)
    _note_error(read, found, events if found.errors else _edges(events), shape)
    read.unread = found.unread > 0 or (found.torn and not cut)
    if shape is not None:
        read.whole = _whole(shape, found, read.document, events)
        read.first_content = _first_content(shape, framing, body, events, found)
    elif not found.values:
        read.whole = False
    if found.halves:
        read.document, read.merged = mended(read.document), mended(read.merged)
    return read


def read_array(values: Sequence[Any], body: bytes) -> Streamed | None:
    """A stream that came as one JSON array, `body`, with `values` in it; None where it is no such thing."""
    events = [value for value in values if isinstance(value, dict)]
    shape = _shape_of(events)
    if shape is None or len(events) < len(values):
        return None
    halves = _HALF.search(body) is not None
    if halves:
        events = ARRAY.read(body).values
    read = _joined(events, shape)
    if halves:
        read.document = mended(read.document)
    _note_error(read, Framed(), events, shape)
    read.whole = _whole(shape, Framed(), read.document, events)
    read.first_content = _first_content(shape, ARRAY, body, events, Framed())
    return read


def _objects(found: Framed) -> list[dict[str, Any]]:
    return [value for value in found.values if isinstance(value, dict)]


def _shape_of(events: Iterable[dict[str, Any]]) -> StreamShape | None:
    """The shape of the first event that any shape recognises; it is among the first ones, or there is none."""
    first = islice(events, _MAX_SILENT)
    return next((shape for event in first for shape in STREAMS if shape.matches(event)), None)


def _joined(events: list[dict[str, Any]], shape: StreamShape) -> Streamed:
    return Streamed(document=shape.merge_chunks(events))


def _unknown(found: Framed, events: list[dict[str, Any]]) -> Streamed:
    """Events that nobody knows; where they are nothing but errors, the last is what the response would have been."""
    if events and all(map(only_error_of, events)):
        return Streamed(document=events[-1])
    return Streamed(merged=merged(found.values))


def _note_error(read: Streamed, found: Framed, events: Iterable[dict[str, Any]], shape: StreamShape | None) -> None:
    """The first error that an event holds or is named for, in words; the document says it too."""
    error = next((error for event in events if (error := _error_in(event, shape)) is not None), found.error)
    if error is None:
        return
    read.error = error_text(error)
    if read.document is None and read.merged is None:
        read.document = {"error": error}
    elif isinstance(read.document, dict) and error is not read.document and not read.document.get("error"):
        read.document["error"] = error


def _edges(events: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Where an error stands that does not call itself one: in place of an answer, or where one breaks off."""
    return (*events[:1], *events[-1:])


def _error_in(event: dict[str, Any], shape: StreamShape | None) -> Any:
    if shape is None:
        return only_error_of(event)
    if (error := error_of(event)) is not None or shape.matches(event):
        return error
    return lone_error_of(event)


def _whole(shape: StreamShape, found: Framed, document: dict[str, Any], events: list[dict[str, Any]]) -> bool | None:
    if shape.is_last is None:
        return None
    done = shape.done and found.done and bool(document.get("choices"))
    return done or (any(map(shape.is_last, reversed(events))) and _all_end(document, shape))


def _all_end(document: dict[str, Any], shape: StreamShape) -> bool:
    """Whether each of several answers to one question has come to its end, of which one has."""
    if shape.several is None:
        return True
    name, mark = shape.several
    several = items(document.get(name))
    return len(several) < 2 or all(mapping(one).get(mark) for one in several)


def _first_content(
    shape: StreamShape, framing: Framing, body: bytes, events: list[dict[str, Any]], found: Framed
) -> int | None:
    """How many bytes there were when the first event that speaks was there; of `events` some may be several as one."""
    speaks = shape.has_content
    silent = next((index for index, event in enumerate(events) if speaks(event)), None)
    if silent is None:
        return None
    silent = found.before[silent] if found.before else silent
    if silent < found.solid:
        return sum(map(len, found.lines[: silent + 1])) + silent  # a newline behind each
    scanned = framing.scan(body, silent)  # each of those before it was at least one object in the bytes
    return next((end for end, value in scanned if isinstance(value, dict) and speaks(value)), len(body))
