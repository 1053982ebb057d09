"""What an exchange says: query, response, model, tokens, errors.

`apis` knows each API shape, one module each; `shapes` is the list of them. `dispatch` finds the shape of an exchange
and lets it read, `stream` puts the chunks of a streamed response together first. `conversations` are what is taught.
"""

from proxy.wire.extract.conversations.plain import logged
from proxy.wire.extract.dispatch import converse, extract
from proxy.wire.extract.model import (
    CapturedExchange,
    Extraction,
    ParsedRequest,
    ParsedResponse,
    Pointers,
    Shape,
    Streamed,
    StreamShape,
)
from proxy.wire.extract.shapes import KINDS, SHAPES
from proxy.wire.extract.stream import read_stream

__all__ = [
    "KINDS",
    "SHAPES",
    "CapturedExchange",
    "Extraction",
    "ParsedRequest",
    "ParsedResponse",
    "Pointers",
    "Shape",
    "StreamShape",
    "Streamed",
    "converse",
    "extract",
    "logged",
    "read_stream",
]
