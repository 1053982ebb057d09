"""Runs of events that differ in one growing text, made one event before anything is parsed.

A streamed answer is hundreds of events that repeat everything but a word. Where neighbours are equal up to one JSON
string, and that string is one that its shape appends (so that "a" then "b" means the same as "ab"), the texts can be
cut out of the bytes and put into one event: a few comparisons in C instead of an event, a JSON document and some
dictionaries for every word. Some members change beside the text, without a meaning: padding, the event's number, the
time. Of each of them the first counts, or none.

The events one by one are what a stream says, and a run has to say the same, whatever the bytes are. So each event of a
run is compared to its last byte, its text has to be the inside of a JSON string by itself, and what changes beside it a
number, or letters and digits; what is not so, or is no JSON in the end, stays as it came.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final, NamedTuple

import orjson

from proxy.wire.extract.alike import GROWING, AlikeEvents, changing_frame_of, cut, frame_of
from proxy.wire.extract.apis import chat, completions, messages, responses
from proxy.wire.extract.model import StreamShape
from proxy.wire.extract.values import items, kind_of, mapping

__all__ = ["TextRun", "joined", "split_events"]

_LEAD: Final = re.compile(rb"(?:event: ?(?!(?i:error)\n)[\w.-]+\n)?data: ?(?=\{)")
_INSIDES: Final = re.compile(rb'[^"\\]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*)*')
"""The insides of JSON strings, one a line."""
_ERROR: Final = re.compile(rb'"errors?"')
"""What makes whoever reads the events look for one, be it a text."""
_GAP: Final = b"\n\n"
_ALIKE: Final = len(b"data: {")
"""What a look at the beginnings of two events costs nothing: most that are not alike differ there."""
_NEWLINE: Final = ord("\n")
_BACKSLASH: Final = ord("\\")
_QUOTE: Final = ord('"')
# Whether bytes are in others costs Python five times as long as whether a number is.
_MAX_MISSES: Final = 12
"""Events without a like neighbour, until the stream counts as one that has no runs."""
_MAX_CONSTANT: Final = 2
"""Of these, in which nothing but the text is known to change, until nobody looks for that any more."""
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class TextRun(NamedTuple):
    """Neighbours of a stream as one event."""

    value: dict[str, Any]
    """Their JSON object, with all of the text."""
    size: int
    """How many they are."""
    silent: int
    """How many of them come before the first that has a part of the text; all but the last, where none has."""
    shape: StreamShape
    """The one that appends the text. In a stream of another shape they are no run."""


def split_events(body: bytes) -> tuple[list[bytes], bytes]:
    """`body` between its gaps, and what stands behind the last one. Where every event is one line, which is found in
    half the time, events keep the newline that ends them."""
    if body.startswith(b"data:"):
        lines = BytesIO(body).readlines()
        gaps = lines[1::2]
        if gaps.count(b"\n") == len(gaps):
            rest = lines.pop() if len(lines) % 2 else b""
            return lines[::2], rest
    events = body.split(_GAP)
    rest = events.pop()
    return events, rest


def joined(events: list[bytes]) -> list[bytes | TextRun]:
    """The same events, with runs of text as one."""
    kept: list[bytes | TextRun] = []
    at = misses = constant = 0
    last = len(events) - 1
    while at < last and misses < _MAX_MISSES:
        event, following = events[at], events[at + 1]
        if event[:_ALIKE] == following[:_ALIKE] and (text := GROWING.search(event)) is not None:
            frame = frame_of(event, following, text)
            if frame is None and misses and constant < _MAX_CONSTANT:  # the first is often another than the rest
                frame = changing_frame_of(event, following, text)
                constant += frame is None
            if frame is not None:
                columns, looked_at = cut(frame, events, at)
                size = len(columns[0])
                misses += size < looked_at
                if size > 1:
                    run = _run(frame, columns)
                    if run is not None:
                        kept.append(run)
                    else:
                        kept += events[at : at + size]
                    at += size
                    continue
        kept.append(event)
        at += 1
        misses += 1
    kept += events[at:]
    return kept


def _run(frame: AlikeEvents, columns: list[list[bytes]]) -> TextRun | None:
    """The run of events that have `columns` in the holes of `frame`; None where it may not say what they do."""
    parts, _, names, grows = frame
    lead = _LEAD.match(parts[0])
    common = b"".join(parts)
    if lead is None or _BACKSLASH in common or common.lower().find(b'"error') >= 0:
        return None  # an error in any of its spellings: which event is the error counts
    for name in names:
        if common.count(b'"%b"' % name) != 1:
            return None
    texts = columns[grows]
    text = b"".join(texts)
    if not _are_insides(texts, text) or (text.find(b"error") >= 0 and _ERROR.search(b'"%b"' % b'"'.join(texts))):
        return None
    whole = parts[0][lead.end() :]
    for hole, column in enumerate(columns):
        whole += (text if hole == grows else column[0]) + parts[hole + 1]
    try:
        event = orjson.loads(whole)
    except orjson.JSONDecodeError:
        return None
    shape = _appends(event, names[grows].decode())
    if shape is None:
        return None
    for hole, name in enumerate(names):
        if hole != grows and not _are_plain(columns[hole], event.get(name.decode())):
            return None
    silent = 0
    while not texts[silent] and silent < len(texts) - 1:
        silent += 1
    return TextRun(event, len(texts), silent, shape)


def _are_insides(texts: Sequence[bytes], whole: bytes) -> bool:
    """Whether all of `texts`, which are `whole` together, are insides of JSON strings, and characters by themselves.
    (What else makes JSON of `whole` makes it of each.)"""
    if _NEWLINE in whole:
        return False
    if whole.isascii():
        if _BACKSLASH not in whole:
            return _QUOTE not in whole
        lines = b"\n".join(texts)
    else:
        lines = b"\n".join(texts)
        try:
            lines.decode()
        except UnicodeDecodeError:
            return False
    rest = lines.replace(rb"\\", b"").replace(rb"\n", b"").replace(rb"\"", b"")  # nearly every escape
    if _BACKSLASH not in rest:
        return _QUOTE not in rest
    return _INSIDES.fullmatch(lines) is not None


def _are_plain(values: Sequence[bytes], first: Any) -> bool:
    """Whether all of `values` are letters and digits where the first one is a text, but an empty one, or all of them
    whole numbers where it is a number."""
    whole = b"".join(values)
    if isinstance(first, str):
        return first != "" and whole.isalnum() and whole.find(b"error") < 0
    if type(first) is not int or not whole.isdigit():
        return False
    try:
        orjson.loads(b"[%b]" % b",".join(values))
    except orjson.JSONDecodeError:
        return False
    return True


def _appends(event: dict[str, Any], key: str) -> StreamShape | None:
    """The shape that `event` belongs to, if it appends the string under `key`, its only news."""
    choices = items(event.get("choices"))
    if len(choices) == 1:
        choice = mapping(choices[0])
        if choice.get("logprobs"):
            return None
        if "delta" in choice:
            return chat.SHAPE.stream if _is_news(mapping(choice["delta"]), key) else None
        return completions.SHAPE.stream if key == "text" and key in choice else None
    kind = kind_of(event)
    if kind == "content_block_delta":
        delta = mapping(event.get("delta"))
        known = _DELTAS.get(kind_of(delta)) == key and delta.keys() == {"type", key}
        return messages.SHAPE.stream if known else None
    return responses.SHAPE.stream if key == "delta" and key in event and kind in responses.GROWING else None


def _is_news(delta: dict[str, Any], key: str) -> bool:
    """Whether `delta`, one of chat's, says something under `key` and nothing else that each event could say anew: it
    may repeat the role, and what is null."""
    if len(delta) == 1 and key in delta:
        return True
    role = delta.get("role")
    if not (role is None or isinstance(role, str)):
        return False
    if key in delta:
        return _is_bare(delta, key, "role")
    calls = items(delta.get("tool_calls"))
    if key != "arguments" or len(calls) != 1:
        return False
    call = mapping(calls[0])
    function = mapping(call.get("function"))
    bare = _is_bare(delta, "tool_calls", "role") and _is_bare(call, "index", "function", "type")
    return bare and call.get("type") in (None, "function") and key in function and _is_bare(function, key)


def _is_bare(fields: dict[str, Any], *names: str) -> bool:
    """Whether whatever `fields` have beside `names` is null."""
    return all(value is None for name, value in fields.items() if name not in names)
