"""Embeddings: OpenAI's (`…/embeddings`), Ollama's, text-embeddings-inference's, Cohere's and Gemini's.

Text in, vectors out; a vector is no answer text.
"""

from __future__ import annotations

from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis.completions import prompt_text
from proxy.wire.extract.apis.gemini import parts_text
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape
from proxy.wire.extract.values import count, items, lines, mapping, text

__all__ = ["KIND", "SHAPE", "fits", "parse_request", "parse_response"]

_NAMES: Final = ("input", "prompt", "inputs", "texts")


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has something to embed."""
    return isinstance(_given(request), str | list) or "content" in request or "requests" in request


def _given(request: dict[str, Any]) -> Any:
    return next((request[name] for name in _NAMES if request.get(name)), None)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The text to embed."""
    if (given := _given(request)) is not None:
        return ParsedRequest(query=prompt_text(given))
    contents = [request.get("content"), *(mapping(one).get("content") for one in items(request.get("requests")))]
    return ParsedRequest(query=lines(map(parts_text, contents)) or None)


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The usage; there is no text."""
    prompt_tokens = count(mapping(response.get("usage")).get("prompt_tokens"))
    if prompt_tokens is None:
        prompt_tokens = count(response.get("prompt_eval_count"))
    return ParsedResponse(prompt_tokens=prompt_tokens, provider_id=text(response.get("id")))


KIND: Final = Kind(
    name="embeddings", code=3, meaning="Embeddings", operation="embeddings", provider="openai", trainable=False
)
SHAPE: Final[Shape] = Shape(
    name="Embeddings of OpenAI, Ollama, text-embeddings-inference, Cohere and Gemini",
    kind=KIND,
    suffixes=("/embeddings", "/embed", "/embed_all", "/embed_sparse", ":embedContent", ":batchEmbedContents"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
)
