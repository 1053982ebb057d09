"""Spans and events as plain values, and the ids by which the two find each other.

The trace of a record is its id: 16 bytes, as a trace's. Where its client has sent a `traceparent`, it is the client's
trace, and the client's span is the parent. The span's id is the last eight bytes of the record's. So what is sent twice
is the same span, and an event finds its span without a table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.store.tables.values import RecordView

__all__ = ["EventFacts", "Place", "SpanFacts", "Value", "hexadecimal", "place_of"]

Value = str | bool | int | float | Sequence[str]
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a span stands."""

    trace_id: int
    span_id: int
    parent_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanFacts:
    """A span. Instants are Unix nanoseconds."""

    name: str
    place: Place
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """An event: a log record with a name."""

    at_ns: int
    place: Place | None
    """Of the span that it is about; None where that is not known."""
    attributes: Mapping[str, Value] = field(default_factory=dict)


def place_of(record_id: str, view: RecordView | None) -> Place:
    """Of the record's span; `view` is what is still there of the record."""
    mine = Place(int(record_id, 16), int(record_id[16:], 16))
    sent = view.body.request_headers.get("traceparent", "") if view is not None and view.body is not None else ""
    found = _TRACEPARENT.fullmatch(sent.strip())
    if found is None or not int(found[1], 16) or not int(found[2], 16) or sent.startswith("ff"):
        return mine
    return Place(int(found[1], 16), mine.span_id, int(found[2], 16))


def hexadecimal(hashed: int) -> str:
    """A stored hash, as records show it."""
    return f"{hashed & 0xFFFF_FFFF_FFFF_FFFF:016x}"
