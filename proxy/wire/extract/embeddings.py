"""Embeddings: OpenAI's (`…/embeddings`) and Ollama's (`/api/embed`, `/api/embeddings`).

Text in, vectors out; a vector is no answer text.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract.completions import prompt_text
from proxy.wire.extract.model import Answer, Ask
from proxy.wire.extract.values import count, mapping, text

__all__ = ["SUFFIXES", "answer", "ask", "fits"]

SUFFIXES: Final = ("/embeddings", "/api/embed")


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has something to embed."""
    return isinstance(request.get("input") or request.get("prompt"), str | list)


def ask(request: dict[str, Any]) -> Ask:
    """The text to embed."""
    return Ask(query=prompt_text(request.get("input") or request.get("prompt")))


def answer(response: dict[str, Any]) -> Answer:
    """The usage; there is no text."""
    prompt_tokens = count(mapping(response.get("usage")).get("prompt_tokens"))
    if prompt_tokens is None:
        prompt_tokens = count(response.get("prompt_eval_count"))
    return Answer(prompt_tokens=prompt_tokens, provider_id=text(response.get("id")))
