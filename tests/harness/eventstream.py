"""Frames of AWS's binary event stream, made by the book, for tests that read them."""

import base64
import json
import struct
from typing import Any
from zlib import crc32

__all__ = ["chunk", "converse", "exception", "frame", "header", "text_header"]


def frame(headers: bytes, payload: bytes) -> bytes:
    """One frame around headers that are written already."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    before = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return before + struct.pack(">I", crc32(before))


def header(name: str, kind: int, value: bytes) -> bytes:
    """One header whose value is written already."""
    return bytes([len(name)]) + name.encode() + bytes([kind]) + value


def text_header(name: str, value: str) -> bytes:
    """A header that is a text."""
    return header(name, 7, struct.pack(">H", len(value.encode())) + value.encode())


def _message(kind: str, name: str, value: str, payload: Any) -> bytes:
    headers = (text_header(f":{name}", value), text_header(":content-type", "application/json"),
               text_header(":message-type", kind))  # fmt: skip
    return frame(b"".join(headers), json.dumps(payload).encode())


def converse(kind: str, fields: dict[str, Any]) -> bytes:
    """An event of Converse, padded as Bedrock pads them."""
    return _message("event", "event-type", kind, {**fields, "p": "abcdefgh"})


def chunk(event: Any) -> bytes:
    """A chunk of InvokeModel around a model's own event."""
    return _message("event", "event-type", "chunk",
                    {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abc"})  # fmt: skip


def exception(kind: str, message: str) -> bytes:
    """An exception in the middle of a stream."""
    return _message("exception", "exception-type", kind, {"message": message})
