"""Runs of events that differ in one growing text, made one event before anything is parsed.

A streamed answer is hundreds of events that repeat everything but a word. Where neighbours are equal up to one JSON
string, and that string is one that its shape appends (so that "a" then "b" means the same as "ab"), the texts can be
cut out of the bytes and put into one event: a few comparisons in C instead of an event, a JSON document and some
dictionaries for every word.

The events one by one are what a stream says, and a run has to say the same, whatever the bytes are. So each event of a
run is compared to its last byte, and its text has to be the inside of a JSON string by itself; what is not so, or is no
JSON in the end, stays as it came.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any, Final, NamedTuple

import orjson

from proxy.wire.extract.values import items, kind_of, mapping

__all__ = ["TextRun", "joined", "split_events"]

_GROWING: Final = re.compile(
    rb'"(content|text|reasoning_content|reasoning|refusal|thinking|partial_json)": ?"((?:[^"\\\n]|\\[^\n])*)"'
)
_LEAD: Final = re.compile(rb"(?:event: ?(?!(?i:error)\n)[\w.-]+\n)?data: ?(?=\{)")
_INSIDES: Final = re.compile(rb'[^"\\]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*)*')
"""The insides of JSON strings, one a line."""
_GAP: Final = b"\n\n"
_ALIKE: Final = len(b"data: {")
"""What a look at the beginnings of two events costs nothing: most that are not alike differ there."""
_NEWLINE: Final = ord("\n")
_BACKSLASH: Final = ord("\\")
_QUOTE: Final = ord('"')
# Whether bytes are in others costs Python five times as long as whether a number is.
_MAX_MISSES: Final = 12
"""Events without a like neighbour, until the stream counts as one that has no runs."""
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class TextRun(NamedTuple):
    """Neighbours of a stream as one event."""

    value: dict[str, Any]
    """Their JSON object, with all of the text."""
    size: int
    """How many they are."""
    silent: int
    """How many of them come before the first that has a part of the text; all but the last, where none has."""


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
    at = misses = 0
    last = len(events) - 1
    while at < last and misses < _MAX_MISSES:
        event, following = events[at], events[at + 1]
        if event[:_ALIKE] == following[:_ALIKE] and (found := _GROWING.search(event)) is not None:
            start, end = found.span(2)
            before, after = event[:start], event[end:]
            if following.startswith(before) and following.endswith(after):
                texts = _texts(events, at, before, after)
                value = _value(before, found[1], texts, after)
                if value is not None:
                    silent = 0
                    while not texts[silent] and silent < len(texts) - 1:
                        silent += 1
                    kept.append(TextRun(value, len(texts), silent))
                else:
                    kept += events[at : at + len(texts)]
                at += len(texts)
                continue
        kept.append(event)
        at += 1
        misses += 1
    kept += events[at:]
    return kept


def _texts(events: list[bytes], at: int, before: bytes, after: bytes) -> list[bytes]:
    """The texts of the events from `at` on that are all `before` + text + `after`; the first one is."""
    start, stop, shortest = len(before), -len(after), len(before) + len(after)
    texts: list[bytes] = []
    for index in range(at, len(events)):
        event = events[index]
        if not (event.startswith(before) and event.endswith(after) and len(event) >= shortest):
            break
        texts.append(event[start:stop])
    return texts


def _value(before: bytes, name: bytes, texts: list[bytes], after: bytes) -> dict[str, Any] | None:
    """The event of all `texts`; None where it may not say what its events do."""
    lead = _LEAD.match(before)
    frame = before + after
    if lead is None or _BACKSLASH in frame or frame.count(b'"%b"' % name) != 1:
        return None
    if frame.lower().find(b'"error') >= 0:  # in any of its spellings: which event is the error counts
        return None
    text = b"".join(texts)
    if not _are_insides(texts, text):
        return None
    try:
        event = orjson.loads(b"".join((before[lead.end() :], text, after)))
    except orjson.JSONDecodeError:
        return None
    return event if _appended(event, name.decode()) else None


def _are_insides(texts: list[bytes], whole: bytes) -> bool:
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


def _appended(event: dict[str, Any], key: str) -> bool:
    """Whether the shape that `event` belongs to appends the string under `key`, its only news."""
    choices = items(event.get("choices"))
    if len(choices) == 1:
        choice = mapping(choices[0])
        if choice.get("logprobs"):
            return False
        return mapping(choice["delta"]).keys() == {key} if "delta" in choice else key == "text" and key in choice
    delta = mapping(event.get("delta"))
    known = _DELTAS.get(kind_of(delta)) == key and delta.keys() == {"type", key}
    return known and kind_of(event) == "content_block_delta"
