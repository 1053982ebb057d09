"""Small facts about header values that several rooms need: media types and hop-by-hop names.

Values are latin-1 text as they came; names are lower case.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["HOP_BY_HOP", "charset", "is_event_stream", "is_frames", "is_json", "is_ndjson", "media_type"]

HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    "proxy-authenticate", "proxy-authorization",
})  # fmt: skip
"""Names that concern one connection only (RFC 9110 §7.6.1); what `Connection` lists comes on top."""

_CHARSET: Final = re.compile(r""";\s*charset\s*=\s*["']?([\w.:+-]+)""", re.IGNORECASE)
_NDJSON: Final = frozenset({
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
    "application/jsonlines", "application/stream+json",
})  # fmt: skip


@lru_cache(maxsize=256)
def media_type(content_type: str) -> str:
    """`type/subtype` in lower case without parameters; "" where there is none."""
    return content_type.partition(";")[0].strip().lower()


def charset(content_type: str) -> str | None:
    """The charset parameter in lower case, or None."""
    found = _CHARSET.search(content_type)
    return found[1].lower() if found else None


def is_json(content_type: str) -> bool:
    """Whether a body of this type is one JSON text (`application/json`, `text/json`, any `+json`)."""
    kind = media_type(content_type)
    return kind in ("application/json", "text/json") or (kind.endswith("+json") and kind not in _NDJSON)


def is_ndjson(content_type: str) -> bool:
    """Whether a body of this type is one JSON text a line."""
    return media_type(content_type) in _NDJSON


def is_frames(content_type: str) -> bool:
    """Whether a body of this type is a stream of AWS's binary frames."""
    return media_type(content_type) == "application/vnd.amazon.eventstream"


def is_event_stream(content_type: str) -> bool:
    """Whether a body of this type is a stream of server-sent events."""
    return media_type(content_type) == "text/event-stream"
