"""Exchanges of any API shape, told in a line: what went over the wire, and what is understood of it."""

import json
from typing import Any

from proxy.wire.extract import CapturedExchange, Extraction, extract

__all__ = ["FRAMES", "NDJSON", "SSE", "call", "facts", "sse", "streamed", "upto"]

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
FRAMES = "application/vnd.amazon.eventstream"


def call(target: str, request: Any, response: Any, *, status: int = 200) -> Extraction:
    """An exchange whose answer is JSON."""
    asked, said = json.dumps(request).encode(), json.dumps(response).encode()
    return extract(
        CapturedExchange(target=target, status=status, request=asked, response=said, response_type="application/json")
    )


def streamed(target: str, request: Any, body: bytes, content_type: str = SSE) -> Extraction:
    """An exchange whose answer is a stream."""
    return extract(CapturedExchange(target=target, request=json.dumps(request).encode(), response=body,
                                    response_type=content_type))  # fmt: skip


def sse(*events: Any, named: bool = False, space: bool = True, done: bool = False) -> bytes:
    """Server-sent events around JSON values; `named` by their type."""
    lead = "data: " if space else "data:"
    lines = [f"event: {event['type']}\n" if named else "" for event in events]
    body = "".join(f"{line}{lead}{json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True))
    return body.encode() + (b"data: [DONE]\n\n" if done else b"")


def upto(events: bytes) -> int:
    """Where the last of these server-sent events can be read: before the empty line behind it."""
    return len(events) - 1


def facts(found: Extraction) -> dict[str, Any]:
    """What an answer says, however it came."""
    names = ("kind", "response", "model", "prompt_tokens", "completion_tokens", "cache_read_tokens",
             "cache_write_tokens", "reasoning_tokens", "finish_reason", "provider_id",
             "refused", "error", "failed")  # fmt: skip
    return {name: getattr(found, name) for name in names}
