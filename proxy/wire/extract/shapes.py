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
from proxy.wire.extract.model import Kind, ParsedRequest, ParsedResponse, StreamShape

__all__ = ["SHAPES", "STREAMS", "Shape", "served_at"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One API: all of `fits`, `parse_request` and `parse_response` take any JSON object, and raise nothing."""

    kind: Kind
    suffixes: tuple[str, ...]
    """How its paths end."""
    fits: Callable[[dict[str, Any]], bool]
    """Whether a request is one of its own."""
    parse_request: Callable[[dict[str, Any]], ParsedRequest]
    parse_response: Callable[[dict[str, Any]], ParsedResponse]
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
        return _reader(self.parse_request, self.parse_response)


# The order matters where one suffix ends in another (/chat/completions, /api/generate), and where an event or a request
# of one shape could pass for one of another: the first that takes it has it.
SHAPES: Final = (
    Shape(Kind.CHAT, chat.SUFFIXES, chat.fits, chat.parse_request, chat.parse_response, chat.STREAM),
    Shape(Kind.COMPLETIONS, ("/fim/completions",), completions.fits, completions.parse_request, chat.parse_response),
    Shape(Kind.COMPLETIONS, completions.SUFFIXES, completions.fits, completions.parse_request,
          completions.parse_response,
          completions.STREAM),
    Shape(Kind.RESPONSES, responses.SUFFIXES, responses.fits, responses.parse_request, responses.parse_response,
          responses.STREAM),
    Shape(Kind.MESSAGES, messages.SUFFIXES, messages.fits, messages.parse_request, messages.parse_response,
          messages.STREAM),
    Shape(Kind.EMBEDDINGS, embeddings.SUFFIXES, embeddings.fits, embeddings.parse_request, embeddings.parse_response),
    Shape(Kind.OLLAMA, ollama.SUFFIXES, ollama.fits, ollama.parse_request, ollama.parse_response, ollama.STREAM),
    Shape(Kind.MESSAGES, hosted.SUFFIXES, hosted.fits_messages, messages.parse_request, messages.parse_response),
    Shape(Kind.GEMINI, gemini.SUFFIXES, gemini.fits, gemini.parse_request, gemini.parse_response, gemini.STREAM),
    Shape(Kind.BEDROCK, bedrock.SUFFIXES, bedrock.fits, bedrock.parse_request, bedrock.parse_response, bedrock.STREAM),
    Shape(Kind.COHERE, cohere.SUFFIXES, cohere.fits, cohere.parse_request, cohere.parse_response, cohere.STREAM),
    Shape(Kind.COHERE, cohere_v1.SUFFIXES, cohere_v1.fits, cohere_v1.parse_request, cohere_v1.parse_response,
          cohere_v1.STREAM),
    Shape(Kind.BEDROCK, invoke.SUFFIXES, invoke.fits, invoke.parse_request, invoke.parse_response, invoke.STREAM),
    Shape(Kind.CHAT, hosted.SUFFIXES, hosted.fits_chat, chat.parse_request, chat.parse_response),
    Shape(Kind.TGI, tgi.SUFFIXES, tgi.fits, tgi.parse_request, tgi.parse_response, tgi.STREAM,
          paths=re.compile(r"\A\Z")),
    Shape(Kind.SGLANG, sglang.SUFFIXES, sglang.fits, sglang.parse_request, sglang.parse_response, sglang.STREAM),
    Shape(Kind.KSERVE, kserve.SUFFIXES, kserve.fits, kserve.parse_request, kserve.parse_response, kserve.STREAM),
    Shape(Kind.LLAMA_CPP, llama_cpp.SUFFIXES, llama_cpp.fits, llama_cpp.parse_request, llama_cpp.parse_response,
          llama_cpp.STREAM),
    Shape(Kind.DIFY, dify.SUFFIXES, dify.fits, dify.parse_request, dify.parse_response, dify.STREAM),
    Shape(Kind.RERANK, scores.RERANK, scores.fits_rerank, scores.ask_rerank, scores.parse_response),
    Shape(Kind.MODERATIONS, scores.MODERATIONS, scores.fits_moderation, scores.ask_moderation, scores.parse_response),
)  # fmt: skip


_READERS: Final[dict[Any, Reader]] = {
    chat.parse_request: chat_talk.converse,
    responses.parse_request: responses_talk.converse,
    messages.parse_request: messages_talk.converse,
    ollama.parse_request: ollama_talk.converse,
    gemini.parse_request: gemini_talk.converse,
    bedrock.parse_request: bedrock_talk.converse,
    invoke.parse_request: bedrock_talk.converse_invoked,
    cohere.parse_request: cohere_talk.converse,
    cohere_v1.parse_request: cohere_talk.converse_v1,
    dify.parse_request: dify_talk(dify.parse_request, dify.parse_response),
}
"""Who reads the conversation of a request that `parse_request` understands. Whoever is not here has a prompt and a
text."""


@lru_cache(maxsize=64)
def _reader(
    parse_request: Callable[[dict[str, Any]], ParsedRequest], parse_response: Callable[[dict[str, Any]], ParsedResponse]
) -> Reader:
    return _READERS.get(parse_request) or plain(parse_request, parse_response)


@lru_cache(maxsize=256)
def served_at(path: str) -> tuple[Shape, ...]:
    """The shapes that may be served at `path`."""
    return tuple(shape for shape in SHAPES if shape.serves(path))


STREAMS: Final = tuple(shape.stream for shape in SHAPES if shape.stream is not None)
