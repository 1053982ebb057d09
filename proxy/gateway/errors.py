"""Answers that the gateway gives itself, each with its own status and a body that says what to do.

Everything else a client receives comes from the model. The body has the shape that OpenAI's SDKs print.
"""

from __future__ import annotations

from typing import Final

import orjson

__all__ = ["BadResponseError", "RejectedError", "answer"]

_REASONS: Final = {
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}


_HEAD: Final = b"\r\n".join((
    b"HTTP/1.1 %d %b",
    b"content-type: application/json",
    b"x-content-type-options: nosniff",
    b"content-length: %d",
    b"%b\r\n",
))  # fmt: skip


class RejectedError(Exception):
    """A request that is not forwarded; it is answered with `status` and its connection is closed."""

    def __init__(self, status: int, message: str, *, headers: bytes = b"", code: str = "bad_request") -> None:
        """`headers` are whole lines with CRLF; `code` is for programs."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


class BadResponseError(Exception):
    """What the upstream sent is no unambiguous HTTP/1 response, so nothing of it is forwarded from here on."""


def answer(
    status: int, code: str, message: str, *, headers: bytes = b"", close: bool, head_only: bool = False
) -> bytes:
    """A whole response: `code` is for programs, `message` for people; `headers` are whole lines with CRLF."""
    body = orjson.dumps({"error": {"message": message, "type": "ratchet_gateway_error", "code": code}})
    added = headers + (b"connection: close\r\n" if close else b"")
    head = _HEAD % (status, _REASONS[status], len(body), added)
    return head if head_only else head + body
