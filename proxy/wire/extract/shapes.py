"""The API shapes that are understood, in one table: where each is served, how it is recognised, and who reads it.

`dispatch` finds the shape of an exchange here, by path and request; `stream` finds that of a stream, by its events. A
new shape is a module and a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from proxy.wire.extract import chat, completions, embeddings, kserve, messages, ollama, responses
from proxy.wire.extract.model import Answer, Ask, Kind, StreamShape

__all__ = ["SHAPES", "STREAMS", "Shape"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One API: all of `fits`, `ask` and `answer` take any JSON object, and raise nothing."""

    kind: Kind
    suffixes: tuple[str, ...]
    """How its paths end."""
    fits: Callable[[dict[str, Any]], bool]
    """Whether a request is one of its own."""
    ask: Callable[[dict[str, Any]], Ask]
    answer: Callable[[dict[str, Any]], Answer]
    stream: StreamShape | None = None
    """How its streams are read; None where it has none of its own."""
    paths: re.Pattern[str] | None = None
    """Searched for in a path (without query and last slash) that has none of the suffixes."""

    def serves(self, path: str) -> bool:
        """Whether it may be served at `path`."""
        return path.endswith(self.suffixes) or (self.paths is not None and self.paths.search(path) is not None)


# The order matters where one suffix ends in another (/chat/completions, /api/generate), and where an event or a request
# of one shape could pass for one of another: the first that takes it has it.
SHAPES: Final = (
    Shape(Kind.CHAT, chat.SUFFIXES, chat.fits, chat.ask, chat.answer, chat.STREAM),
    Shape(Kind.COMPLETIONS, completions.SUFFIXES, completions.fits, completions.ask, completions.answer,
          completions.STREAM),
    Shape(Kind.RESPONSES, responses.SUFFIXES, responses.fits, responses.ask, responses.answer, responses.STREAM),
    Shape(Kind.MESSAGES, messages.SUFFIXES, messages.fits, messages.ask, messages.answer, messages.STREAM),
    Shape(Kind.EMBEDDINGS, embeddings.SUFFIXES, embeddings.fits, embeddings.ask, embeddings.answer),
    Shape(Kind.OLLAMA, ollama.SUFFIXES, ollama.fits, ollama.ask, ollama.answer, ollama.STREAM),
    Shape(Kind.KSERVE, kserve.SUFFIXES, kserve.fits, kserve.ask, kserve.answer, kserve.STREAM),
)  # fmt: skip

STREAMS: Final = tuple(shape.stream for shape in SHAPES if shape.stream is not None)
