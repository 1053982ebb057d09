"""What an exchange says: query, answer, model, tokens, errors. One file per API shape.

A shape offers `SUFFIXES` and `fits` (to be recognised), `parse_request`, `parse_response` and, where it streams,
`STREAM`, a StreamShape: how to know its events, its end and its first word, and how to merge them into one response.
Its typed conversation (what is taught) has a reader in `conversations`.
`dispatch` composes them.
"""

from proxy.wire.extract.conversations.plain import told
from proxy.wire.extract.dispatch import converse, extract
from proxy.wire.extract.model import (
    CapturedExchange,
    Extraction,
    Kind,
    ParsedRequest,
    ParsedResponse,
    Pointers,
    Streamed,
    StreamShape,
)
from proxy.wire.extract.shapes import SHAPES, Shape
from proxy.wire.extract.stream import read_stream

__all__ = [
    "SHAPES",
    "CapturedExchange",
    "Extraction",
    "Kind",
    "ParsedRequest",
    "ParsedResponse",
    "Pointers",
    "Shape",
    "StreamShape",
    "Streamed",
    "converse",
    "extract",
    "read_stream",
    "told",
]  # fmt: skip
