"""The API shapes that are understood, in one table: where each is served, how it is recognised, and who reads it.

`dispatch` finds the shape of an exchange here, by path and request; `stream` finds that of a stream, by its events. A
new shape is a module and a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from proxy.wire.extract import (
    bedrock,
    chat,
    cohere,
    cohere_v1,
    completions,
    dify,
    embeddings,
    gemini,
    hosted,
    invoke,
    kserve,
    llama_cpp,
    messages,
    ollama,
    responses,
    scores,
    sglang,
    tgi,
)
from proxy.wire.extract.conversations import bedrock as bedrock_talk
from proxy.wire.extract.conversations import chat as chat_talk
from proxy.wire.extract.conversations import cohere as cohere_talk
from proxy.wire.extract.conversations import gemini as gemini_talk
from proxy.wire.extract.conversations import messages as messages_talk
from proxy.wire.extract.conversations import ollama as ollama_talk
from proxy.wire.extract.conversations import responses as responses_talk
from proxy.wire.extract.conversations.draft import Reader
from proxy.wire.extract.conversations.plain import dify as dify_talk
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import Answer, Ask, Kind, StreamShape

__all__ = ["SHAPES", "STREAMS", "Shape", "served_at"]


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

    @property
    def converse(self) -> Reader:
        """From a request and its answer to the typed conversation: any JSON objects, and nothing raised."""
        return _reader(self.ask, self.answer)


# The order matters where one suffix ends in another (/chat/completions, /api/generate), and where an event or a request
# of one shape could pass for one of another: the first that takes it has it.
SHAPES: Final = (
    Shape(Kind.CHAT, chat.SUFFIXES, chat.fits, chat.ask, chat.answer, chat.STREAM),
    Shape(Kind.COMPLETIONS, ("/fim/completions",), completions.fits, completions.ask, chat.answer),
    Shape(Kind.COMPLETIONS, completions.SUFFIXES, completions.fits, completions.ask, completions.answer,
          completions.STREAM),
    Shape(Kind.RESPONSES, responses.SUFFIXES, responses.fits, responses.ask, responses.answer, responses.STREAM),
    Shape(Kind.MESSAGES, messages.SUFFIXES, messages.fits, messages.ask, messages.answer, messages.STREAM),
    Shape(Kind.EMBEDDINGS, embeddings.SUFFIXES, embeddings.fits, embeddings.ask, embeddings.answer),
    Shape(Kind.OLLAMA, ollama.SUFFIXES, ollama.fits, ollama.ask, ollama.answer, ollama.STREAM),
    Shape(Kind.MESSAGES, hosted.SUFFIXES, hosted.fits_messages, messages.ask, messages.answer),
    Shape(Kind.GEMINI, gemini.SUFFIXES, gemini.fits, gemini.ask, gemini.answer, gemini.STREAM),
    Shape(Kind.BEDROCK, bedrock.SUFFIXES, bedrock.fits, bedrock.ask, bedrock.answer, bedrock.STREAM),
    Shape(Kind.COHERE, cohere.SUFFIXES, cohere.fits, cohere.ask, cohere.answer, cohere.STREAM),
    Shape(Kind.COHERE, cohere_v1.SUFFIXES, cohere_v1.fits, cohere_v1.ask, cohere_v1.answer, cohere_v1.STREAM),
    Shape(Kind.BEDROCK, invoke.SUFFIXES, invoke.fits, invoke.ask, invoke.answer, invoke.STREAM),
    Shape(Kind.CHAT, hosted.SUFFIXES, hosted.fits_chat, chat.ask, chat.answer),
    Shape(Kind.TGI, tgi.SUFFIXES, tgi.fits, tgi.ask, tgi.answer, tgi.STREAM, paths=re.compile(r"\A\Z")),
    Shape(Kind.SGLANG, sglang.SUFFIXES, sglang.fits, sglang.ask, sglang.answer, sglang.STREAM),
    Shape(Kind.KSERVE, kserve.SUFFIXES, kserve.fits, kserve.ask, kserve.answer, kserve.STREAM),
    Shape(Kind.LLAMA_CPP, llama_cpp.SUFFIXES, llama_cpp.fits, llama_cpp.ask, llama_cpp.answer, llama_cpp.STREAM),
    Shape(Kind.DIFY, dify.SUFFIXES, dify.fits, dify.ask, dify.answer, dify.STREAM),
    Shape(Kind.RERANK, scores.RERANK, scores.fits_rerank, scores.ask_rerank, scores.answer),
    Shape(Kind.MODERATIONS, scores.MODERATIONS, scores.fits_moderation, scores.ask_moderation, scores.answer),
)  # fmt: skip


_READERS: Final[dict[Any, Reader]] = {
    chat.ask: chat_talk.converse,
    responses.ask: responses_talk.converse,
    messages.ask: messages_talk.converse,
    ollama.ask: ollama_talk.converse,
    gemini.ask: gemini_talk.converse,
    bedrock.ask: bedrock_talk.converse,
    invoke.ask: bedrock_talk.converse_invoked,
    cohere.ask: cohere_talk.converse,
    cohere_v1.ask: cohere_talk.converse_v1,
    dify.ask: dify_talk(dify.ask, dify.answer),
}
"""Who reads the conversation of a request that `ask` understands. Whoever is not here has a prompt and a text."""


@lru_cache(maxsize=64)
def _reader(ask: Callable[[dict[str, Any]], Ask], answer: Callable[[dict[str, Any]], Answer]) -> Reader:
    return _READERS.get(ask) or plain(ask, answer)


@lru_cache(maxsize=256)
def served_at(path: str) -> tuple[Shape, ...]:
    """The shapes that may be served at `path`."""
    return tuple(shape for shape in SHAPES if shape.serves(path))


STREAMS: Final = tuple(shape.stream for shape in SHAPES if shape.stream is not None)
