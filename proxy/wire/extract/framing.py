"""From the bytes of a stream to its events, whatever its Content-Type says: server-sent events, or JSON line by line.

Servers name their streams text/plain, application/json or nothing at all, so a stream is also known by its beginning.
They end events with one newline where the standard wants two: a data line that is a JSON value by itself is an event by
itself, where the lines together are no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from proxy.wire.eventstream import begins_frames
from proxy.wire.extract.failures import is_error
from proxy.wire.extract.frames import read_frames
from proxy.wire.extract.model import StreamShape
from proxy.wire.extract.runs import TextRun, joined, split_events
from proxy.wire.headers import is_event_stream, is_frames, is_ndjson
from proxy.wire.jsonarray import begins_array, read_array
from proxy.wire.lenient import read_event, text_of
from proxy.wire.sse import SseDecoder

__all__ = ["ARRAY", "Framed", "Framing", "apart", "framing_of"]

_HEAD: Final = 4096
_BEGINS: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?:(?:data|event|id|retry)?:)")
_SILENCE: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?>(?:[ \t]*[\r\n]|:[^\r\n]*)*)")
"""What may stand before the first event, however long: comments, and lines without anything."""
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)?:|(?:data|event|id|retry)\Z")
_SAYS: Final = re.compile(rb"(?:data|event):")
_JSON_DATA: Final = re.compile(rb"data:\s*[{\[]")
_DATA_LINE: Final = re.compile(rb"(?:(?<=[\r\n])|\A(?:\xef\xbb\xbf)?)data: ?([^\r\n]*)(?:\r\n|\r|\n|\Z)")
_LINE: Final = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_ERROR: Final = re.compile(rb'"errors?"(?!\s*:\s*null)')
"""What an error in an event looks like from outside."""
_DONE: Final = (b"data: [DONE]", b"data: [DONE]\n")
_NOTHING: Final = (b"", b"\n")
_CR: Final = ord("\r")
_PINGS: Final = frozenset({b"", b"ping", b"pong", b"heartbeat", b"keep-alive", b"keepalive", b"null"})
_BEGINNINGS: Final = frozenset(bytes((byte,)) for byte in b'{["-0123456789tfnNI \t\r\n\xef\xfe\xff\0')
"""Bytes that JSON may begin with, in any encoding."""
_MAX_UNREAD: Final = 1000
"""So many events without sense get the tolerant reading, which takes ten times as long as the strict one."""
_BLANK: Final = b" \t\r\n"
_MARK: Final = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Framed:
    """What the bytes of a stream hold."""

    values: list[Any] = field(default_factory=list)
    """The JSON values of its events; halves of characters are left in texts where `halves` says so."""
    done: bool = False
    """`[DONE]` was among them."""
    error: Any = None
    """What an event named `error` carried: a JSON value, or words."""
    plain: list[str] = field(default_factory=list)
    """The data of events that are no JSON."""
    unread: int = 0
    """How many events or lines could not be read."""
    torn: bool = False
    """The last event broke off."""
    halves: bool = False
    """Some events were not strict JSON."""
    errors: bool = True
    """There may be errors among the values; nearly always there are none, and nobody has to look."""
    runs: list[StreamShape] = field(default_factory=list)
    """The shapes of those of the values that are several events as one: no other may take them so (see `apart`)."""
    lines: list[bytes] = field(default_factory=list)
    """Its events as they came."""
    before: list[int] = field(default_factory=list)
    """For each of the values that are objects how many were before it, had each event been read by itself; of several
    events as one the first that says something counts. Empty where each was."""
    solid: int = 0
    """So many of `lines`, from the first one on, are such objects and nothing else, each of them one line, with a blank
    one behind it."""


class Framing(NamedTuple):
    """A way to put events into bytes."""

    read: Callable[[bytes], Framed]
    """The whole stream."""
    scan: Callable[[bytes, int], Iterator[tuple[int, Any]]]
    """One JSON value (None: no JSON) after another, each with the offset behind it, after so many objects that are
    skipped unread; an event may come twice."""


def framing_of(body: bytes, content_type: str) -> Framing | None:
    """How `body` holds events; None where it is no stream."""
    if body.startswith((b"data:", b"event:")) and is_event_stream(content_type):
        return EVENTS  # nearly every stream; as frames, its first would be of a gigabyte
    if is_frames(content_type) or begins_frames(body):
        return FRAMES
    if begins_array(body):
        return ARRAY
    first = body[:_HEAD].removeprefix(_MARK).lstrip(_BLANK)[:1]
    if first == b"{" and (is_ndjson(content_type) or _is_lines(body)):
        return LINES
    if is_event_stream(content_type) or _is_events(body):
        return EVENTS
    return LINES if is_ndjson(content_type) else None


def _is_events(body: bytes) -> bool:
    """Whether the beginning of `body` is fields of server-sent events and nothing else."""
    start = _SILENCE.match(body).end()  # type: ignore[union-attr]  # it matches the empty text
    if _BEGINS.match(body, start) is None:
        return False
    lines = body[start : start + _HEAD].splitlines()
    if len(body) - start > _HEAD:
        lines.pop()
    says = False
    for line in filter(None, lines):
        if _JSON_DATA.match(line):
            return True
        if _FIELD.match(line) is None:
            return False
        says = says or _SAYS.match(line) is not None
    return says


def _is_lines(body: bytes) -> bool:
    """Whether `body` begins with a line that is a JSON object, and another one follows."""
    lines = (line for found in _LINE.finditer(body) if (line := found[0].removeprefix(_MARK).strip(_BLANK)))
    first, second = next(lines, b""), next(lines, b"")
    return second[:1] == b"{" and isinstance(_value(first), dict)


def _read_events(body: bytes) -> Framed:
    if _CR in body:
        return _settled(_decode(Framed(), body, last=True))
    events, rest = split_events(body)
    found = _events(joined(events), rest, events)
    if found.runs and found.unread + len(found.plain) >= _MAX_UNREAD:
        return apart(body)  # which of them get the tolerant reading is told by reading each
    return _settled(found)


def apart(body: bytes) -> Framed:
    """Server-sent events as `EVENTS` reads them, but each by itself."""
    events, rest = split_events(body)
    return _settled(_events([*events], rest, events))


def _events(events: list[bytes | TextRun], rest: bytes, lines: list[bytes]) -> Framed:
    """What stands between the gaps of a stream: nearly always one JSON object, with a name before it or none.
    `lines` are the same without runs."""
    found = Framed(lines=lines)
    values, before = found.values, found.before
    raw: list[bytes] = [rest]
    objects, solid = 0, -1
    for event in events:
        if isinstance(event, TextRun):
            values.append(event.value)
            found.runs.append(event.shape)
            before.append(objects + event.silent)
            objects += event.size
            continue
        raw.append(event)
        data = event
        if event.startswith(b"event: "):
            name, _, data = event.partition(b"\n")
            if name[7:].strip().lower() == b"error":
                data = b""
        if data.startswith(b"data: {"):
            try:
                values.append(orjson.loads(data[6:]))
                before.append(objects)
                objects += 1
                continue
            except orjson.JSONDecodeError:
                pass
        solid = objects if solid < 0 else solid
        if event in _DONE:
            found.done = True
        elif event not in _NOTHING and (event[:1] != b":" or b"\n" in event[:-1]):  # nor a comment
            objects = _decode_object(found, event + b"\n\n", objects)
    if lines and lines[0].endswith(b"\n"):  # else they have no ends, and may be several lines
        found.solid = objects if solid < 0 else solid
    if rest:
        _decode_object(found, rest, objects, last=True)
    text = b"\n".join(raw)
    found.errors = text.find(b'"error') >= 0 and _ERROR.search(text) is not None
    return found


def _decode_object(found: Framed, part: bytes, objects: int, *, last: bool = False) -> int:
    """`_decode`, where so many objects were before; how many there are now."""
    known = len(found.values)
    _decode(found, part, last=last)
    for value in found.values[known:]:
        if isinstance(value, dict):
            found.before.append(objects)
            objects += 1
    return objects


def _decode(found: Framed, part: bytes, *, last: bool = False) -> Framed:
    """Whatever events there are in a part of a stream, the `last` of which may have been broken off."""
    decoder = SseDecoder()
    for name, data, _ in decoder.feed(part):
        _add(found, _plainly(name), data)
    strange = decoder.strange
    broken_off = last and not part.endswith((b"\n", b"\r"))
    for name, data, _ in decoder.finish():
        _add(found, _plainly(name), data, last=broken_off)
    found.unread += strange
    if decoder.strange > strange:
        found.torn = True
    return found


def _plainly(name: str) -> str:
    """The name of an event; `Error` and the like are errors too."""
    return "error" if name.strip().lower() == "error" else name


def _settled(found: Framed) -> Framed:
    """Words alone are the answer of a server that streams no JSON; among JSON they are something else that got in."""
    if found.values:
        found.unread += len(found.plain)
    elif found.plain:
        found.values.append("".join(found.plain))
    return found


def _add(found: Framed, name: str, data: bytes, *, last: bool = False) -> None:
    """One event, in whatever way it can be read; `last` where it may have been broken off."""
    if not data and name != "error":
        return
    if data == b"[DONE]" and name != "error":
        found.done = True
        return
    value = _value(data, tolerant=found.unread + len(found.plain) < _MAX_UNREAD)
    if value is not None:
        _take(found, name, value)
        return
    lines = data.split(b"\n")
    if len(lines) > 1 and any(isinstance(_value(line), dict) for line in lines):
        for line in lines[:-1]:
            _add(found, "", line)
        _add(found, name, lines[-1], last=last)
    elif name == "error":
        found.error = text_of(data).strip() or "error"
    elif (word := data.strip()).upper() == b"[DONE]":
        found.done = True
    elif word.lower() not in _PINGS and name != "ping":
        if data[:1] not in (b"{", b"["):
            found.plain.append(text_of(data))
        elif last:
            found.torn = True
        else:
            found.unread += 1


def _take(found: Framed, name: str, value: Any) -> None:
    found.halves = True
    within = value.get("error") if isinstance(value, dict) and name == "error" else None
    if name == "error":
        found.error = within if is_error(within) else value
    if name != "error" or is_error(within):
        found.values.append(value)


def _value(data: bytes, *, tolerant: bool = True) -> Any:
    """The JSON value that `data` is; None where it is none, or null."""
    if data[:1] not in _BEGINNINGS or data == b"[DONE]":
        return None
    try:
        return read_event(data) if tolerant else orjson.loads(data)
    except ValueError:
        return None


def _scan_events(body: bytes, skip: int) -> Iterator[tuple[int, Any]]:
    """Data lines by themselves; then events of several lines, for whoever has not found what it looks for."""
    for end, data in _data_lines(body):
        if skip and data.startswith(b"{"):
            skip -= 1
        else:
            yield end, _value(data)
    decoder = SseDecoder()
    for line in _LINE.finditer(body):
        for event in decoder.feed(line[0]):
            yield line.end(), _value(event.data)
    for event in decoder.finish():
        yield len(body), _value(event.data)


def _data_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """What each line of data says, behind the offset of its end."""
    if _CR in body:
        for found in _DATA_LINE.finditer(body):
            yield found.end(), found[1]
        return
    end = 0
    for line in BytesIO(body):
        end += len(line)
        line = line.removeprefix(_MARK) if end == len(line) else line
        if line.startswith(b"data:"):
            data = line[5:-1] if line.endswith(b"\n") else line[5:]
            yield end, data.removeprefix(b" ")


def _read_lines(body: bytes) -> Framed:
    found = Framed(errors=_ERROR.search(body) is not None)
    lines = body.removeprefix(_MARK).split(b"\n")
    tail = lines.pop()
    for line in lines:
        try:
            found.values.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            _add(found, "", line)
    _add(found, "", tail, last=True)
    found.unread += len(found.plain)
    return found


def _scan_lines(body: bytes, skip: int) -> Iterator[tuple[int, Any]]:
    for line in _LINE.finditer(body):
        data = line[0].removeprefix(_MARK)
        if skip and data.startswith(b"{"):
            skip -= 1
        else:
            yield line.end(), _value(data)


def _read_frames(body: bytes) -> Framed:
    events, unread, torn = read_frames(body)
    return Framed([value for _, value in events], unread=unread, torn=torn, halves=True)


def _scan_frames(body: bytes, skip: int) -> Iterator[tuple[int, Any]]:
    return islice(read_frames(body).events, skip, None)


def _read_array(body: bytes) -> Framed:
    elements, whole = read_array(body)
    return Framed([value for _, value in elements], torn=not whole, halves=True)


def _scan_array(body: bytes, skip: int) -> Iterator[tuple[int, Any]]:
    return islice(read_array(body)[0], skip, None)


FRAMES: Final = Framing(_read_frames, _scan_frames)
ARRAY: Final = Framing(_read_array, _scan_array)
EVENTS: Final = Framing(_read_events, _scan_events)
LINES: Final = Framing(_read_lines, _scan_lines)
