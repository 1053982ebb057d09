"""What answers with numbers about texts: rerankers and scorers, and moderations. There are no words to learn from.

Cohere, Jina, Voyage, vLLM, SGLang, llama.cpp and text-embeddings-inference all call it `…/rerank`; vLLM also `…/score`.
"""

from __future__ import annotations

from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis.completions import prompt_text
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape
from proxy.wire.extract.values import content_text, count, items, last_user_text, mapping, text, turn

__all__ = ["MODERATIONS", "RERANK", "parse_response"]

_TEXTS: Final = ("documents", "texts", "passages", "text_2", "items")


def _fits_rerank(request: dict[str, Any]) -> bool:
    """Whether the request has a query, and texts to compare with it."""
    return _query(request) is not None and any(key in request for key in _TEXTS)


def _parse_rerank(request: dict[str, Any]) -> ParsedRequest:
    """The query."""
    return ParsedRequest(query=_query(request))


def _query(request: dict[str, Any]) -> str | None:
    asked = next((request[key] for key in ("query", "queries", "text_1") if key in request), None)
    return prompt_text(asked) or text(mapping(asked).get("text"))


def _fits_moderation(request: dict[str, Any]) -> bool:
    """Whether the request has something to look at."""
    return isinstance(request.get("input"), str | list)


def _parse_moderation(request: dict[str, Any]) -> ParsedRequest:
    """The text to look at: a text, several, parts, or a conversation."""
    given = request.get("input")
    turns = [mapping(part) for part in items(given) if "role" in mapping(part)]
    if turns:
        return ParsedRequest(
            query=last_user_text([turn(part.get("role"), [content_text(part.get("content"))]) for part in turns])
        )
    return ParsedRequest(query=content_text(given) or prompt_text(given))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The usage; there is no text."""
    usage = mapping(response.get("usage"))
    billed = mapping(mapping(response.get("meta")).get("tokens"))
    read = (usage.get("prompt_tokens"), usage.get("total_tokens"), billed.get("input_tokens"))
    return ParsedResponse(
        prompt_tokens=next((found for value in read if (found := count(value)) is not None), None),
        provider_id=text(response.get("id")),
    )


RERANK: Final[Shape] = Shape(
    name="Rerankers and scorers of Cohere, Jina, vLLM and others",
    kind=Kind(name="rerank", code=16, meaning="Rerank", operation=None, trainable=False),
    suffixes=("/rerank", "/score"),
    fits=_fits_rerank,
    parse_request=_parse_rerank,
    parse_response=parse_response,
    converse=plain(_parse_rerank, parse_response),
)
MODERATIONS: Final[Shape] = Shape(
    name="OpenAI and Mistral moderations",
    kind=Kind(name="moderations", code=17, meaning="Moderations", operation=None, trainable=False),
    suffixes=("/moderations",),
    fits=_fits_moderation,
    parse_request=_parse_moderation,
    parse_response=parse_response,
    converse=plain(_parse_moderation, parse_response),
)
