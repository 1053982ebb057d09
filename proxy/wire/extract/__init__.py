"""What an exchange says: query, answer, model, tokens, errors. One file per API shape.

A shape offers `SUFFIXES` and `fits` (to be recognised), `ask` (request → Ask), `answer` (response → Answer) and, where
it streams, `STREAM`, a StreamShape: how to know its events, its end and its first word, and how to join them.
`dispatch` composes them.
"""

from proxy.wire.extract.dispatch import extract
from proxy.wire.extract.model import Answer, Ask, CapturedExchange, Extraction, Kind, Pointers
from proxy.wire.extract.stream import is_stream, reassemble

__all__ = ["Answer", "Ask", "CapturedExchange", "Extraction", "Kind", "Pointers", "extract", "is_stream", "reassemble"]
