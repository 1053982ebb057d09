"""Runs of events that differ in one growing text, made one event before anything is parsed.

A streamed answer is hundreds of events that repeat everything but a word. Where two neighbours are equal up to one JSON
string, and that string is one that its shape appends (so that "a" then "b" means the same as "ab"), what stands between
the two words can be cut out of the bytes: the rest is one valid event with the whole text. That is a split and a join
in C instead of an event, a JSON document and a few dictionaries for every word.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from proxy.wire.extract.values import items, kind_of, mapping

__all__ = ["split_events", "without_repeats"]

_GROWING: Final = re.compile(
    rb'"(content|text|reasoning_content|reasoning|refusal|thinking|partial_json)": ?"((?:[^"\\\n]|\\[^\n])*)"'
)
_LEAD: Final = re.compile(rb"(?:event: ?[^\n]*\n)?data: ?(?=\{)")
_INSIDES: Final = re.compile(rb'[^"\\]*(?:\\[^\n][^"\\]*)*')
"""The insides of JSON strings, one a line."""
_GAP: Final = b"\n\n"
_BLOCK: Final = 16
_MAX_MISSES: Final = 12
"""Events without a like neighbour, until the stream counts as one that has no runs."""
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def split_events(body: bytes) -> list[bytes]:
    """`body` between its gaps. A search for single newlines is twice as fast, where every event is one line."""
    if not body.startswith(b"data:"):
        return body.split(_GAP)
    lines = body.split(b"\n")
    return lines[::2] if len(lines) % 2 and not any(lines[1::2]) else body.split(_GAP)


def without_repeats(events: list[bytes]) -> list[bytes]:
    """Server-sent events that say the same as `events`, with runs of text as one; `events` itself where none are.

    A chunk that is no valid JSON can make its whole run invalid: whoever cannot read an event goes back to `events`.
    """
    kept: list[bytes] = []
    at = misses = 0
    while at < len(events) - 1 and misses < _MAX_MISSES:
        frame = _frame(events[at], events[at + 1])
        if frame is None:
            kept.append(events[at])
            at += 1
            misses += 1
            continue
        texts = _texts(events, at, *frame)
        if _are_insides(texts):
            before, after = frame
            kept.append(b"".join((before, *texts, after)))
        else:  # what looked like the end of a text is inside of it
            kept += events[at : at + len(texts)]
        at += len(texts)
    return events if len(kept) == at else kept + events[at:]


def _frame(event: bytes, following: bytes) -> tuple[bytes, bytes] | None:
    """What stands around the text of `event`, where the following one may be more of the same."""
    found = _GROWING.search(event)
    if found is None:
        return None
    before, after = event[: found.start(2)], event[found.end(2) :]
    if following.startswith(before) and _only_grows(before, found[1], after):
        return before, after
    return None


def _texts(events: list[bytes], at: int, before: bytes, after: bytes) -> list[bytes]:
    """The texts of the events from `at` on that are all `before` + text + `after`; the first one is."""
    start, stop, between = len(before), -len(after), after + _GAP + before
    texts: list[bytes] = []
    while True:  # block by block, which are put together again to see whether all of it was so
        block = events[at : at + _BLOCK]
        inner = [event[start:stop] for event in block]
        if _GAP.join(block) != b"".join((before, between.join(inner), after)):
            break
        texts += inner
        at += _BLOCK
    for event in block:
        if not (event.startswith(before) and event.endswith(after)):
            break
        texts.append(event[start:stop])
    return texts


def _are_insides(texts: list[bytes]) -> bool:
    """Whether all of `texts` are insides of JSON strings, and characters by themselves."""
    lines = b"\n".join(texts)
    if not lines.isascii():
        try:
            lines.decode()
        except UnicodeDecodeError:
            return False
    if b'"' not in lines and b"\\" not in lines:
        return True  # nearly every run
    return _INSIDES.fullmatch(lines) is not None


def _only_grows(before: bytes, name: bytes, after: bytes) -> bool:
    """Whether an event like this one adds its text under `name` and nothing else, however often it comes."""
    lead = _LEAD.match(before)
    if lead is None or b"\\" in before or b"\\" in after or b"\n" in after:
        return False
    key = b'"%b"' % name
    if before.count(key) + after.count(key) != 1:
        return False
    try:
        event = orjson.loads(before[lead.end() :] + after)
    except orjson.JSONDecodeError:
        return False
    return _appended(event, name.decode())


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
