"""Streamed responses, put together again: the shape is read off the events themselves.

Whoever holds only the bytes and their media type (redaction, before the spool) gets the same JSON as extraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from proxy.wire.extract import chat, completions, kserve, messages, ollama, responses
from proxy.wire.extract.runs import without_repeats
from proxy.wire.extract.values import items, kind_of, mapping
from proxy.wire.headers import is_event_stream, is_ndjson
from proxy.wire.ndjson import NdjsonDecoder
from proxy.wire.sse import SseDecoder

__all__ = ["is_stream", "reassemble"]

_Join = Callable[[Iterable[dict[str, Any]]], dict[str, Any]]
_ANTHROPIC: Final = ("message_start", "content_block_start", "content_block_delta", "message_delta")


def is_stream(content_type: str) -> bool:
    """Whether a body of this type is a stream of events."""
    return is_event_stream(content_type) or is_ndjson(content_type)


def reassemble(body: bytes, content_type: str) -> dict[str, Any] | None:
    """The JSON that the unstreamed response would have been, from a whole or cut stream; None for unknown events."""
    events = _events(body, content_type)
    join = next((found for event in events if (found := _joiner(event))), None)
    if join is not None:
        return join(events)
    errors = [event for event in events if event.get("error")]
    return errors[-1] if errors and len(errors) == len(events) else None


def _events(body: bytes, content_type: str) -> list[dict[str, Any]]:
    if is_ndjson(content_type):
        lines = NdjsonDecoder()
        return [value for value in lines.feed(body) + lines.finish() if isinstance(value, dict)]
    short = without_repeats(body)
    events, unread = _sse_events(short)
    return _sse_events(body)[0] if unread and short is not body else events


def _sse_events(body: bytes) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects in a stream of server-sent events, and how many could not be read."""
    decoder = SseDecoder()
    events, unread = [], 0
    for event in decoder.feed(body) + decoder.finish():
        if event.data.startswith(b"{"):  # not the [DONE] that OpenAI ends with
            try:
                events.append(orjson.loads(event.data))
            except orjson.JSONDecodeError:
                unread += 1  # cut in the middle
    return events, unread


def _joiner(event: dict[str, Any]) -> _Join | None:
    """Which shape `event` belongs to; None where it does not tell."""
    kind = kind_of(event)
    if kind.startswith("response."):
        return responses.join
    if kind in _ANTHROPIC:
        return messages.join
    for choice in map(mapping, items(event.get("choices"))):
        return chat.join if "delta" in choice else completions.join
    if "done" in event and ("message" in event or "response" in event):
        return ollama.join
    return kserve.join if "text_output" in event else None
