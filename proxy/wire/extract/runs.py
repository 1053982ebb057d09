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

__all__ = ["without_repeats"]

_GROWING: Final = re.compile(
    rb'"(content|text|reasoning_content|reasoning|refusal|thinking|partial_json)": ?"((?:[^"\\\n]|\\[^\n])*)"'
)
_LEAD: Final = re.compile(rb"(?:event: ?[^\n]*\n)?data: ?(?=\{)")
_INSIDES: Final = re.compile(rb'[^"\\]*(?:\\[^\n][^"\\]*)*')
"""The insides of JSON strings, one a line."""
_GAP: Final = b"\n\n"
_MAX_MISSES: Final = 12
"""Events without a like neighbour, until the stream counts as one that has no runs."""
_DELTAS: Final = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def without_repeats(body: bytes) -> bytes:
    """Server-sent events that say the same as `body`, with runs of text as one event; `body` itself where none are.

    A chunk that is no valid JSON can make its whole run invalid: whoever cannot read an event goes back to `body`.
    """
    events = body.split(_GAP)
    kept: list[bytes] = []
    at = misses = 0
    while at < len(events) - 1 and misses < _MAX_MISSES:
        frame = _frame(events[at], events[at + 1])
        if frame is None:
            kept.append(events[at])
            at += 1
            misses += 1
            continue
        before, after = frame
        end = at + 1
        while end < len(events) and events[end].startswith(before) and events[end].endswith(after):
            end += 1
        kept += _joined(events[at:end], before, after)
        at = end
    return body if len(kept) == at else _GAP.join(kept + events[at:])


def _frame(event: bytes, following: bytes) -> tuple[bytes, bytes] | None:
    """What stands around the text of `event`, where the following one may be more of the same."""
    found = _GROWING.search(event)
    if found is None:
        return None
    before, after = event[: found.start(2)], event[found.end(2) :]
    if following.startswith(before) and _only_grows(before, found[1], after):
        return before, after
    return None


def _joined(events: list[bytes], before: bytes, after: bytes) -> list[bytes]:
    """`events`, which are all `before` + text + `after`, as one."""
    texts = [event[len(before) : len(event) - len(after)] for event in events]
    if not _INSIDES.fullmatch(b"\n".join(texts)):
        return events  # what looked like the end of the text is inside of it
    return [b"".join((before, *texts, after))]


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
