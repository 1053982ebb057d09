"""Hugging Face's text-generation-inference: `/generate`, `/generate_stream`, and `/`, which answers either way.

A stream has one token an event. Special tokens (an end of text) are no words of the answer, and the last event holds
the whole text, which is then the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, items, mapping, text

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has one text as its inputs (KServe's are a list of tensors)."""
    return isinstance(request.get("inputs"), str)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The inputs."""
    grammar = mapping(mapping(request.get("parameters")).get("grammar"))
    return ParsedRequest(
        query=text(request.get("inputs")), json_requested=grammar.get("type") in ("json", "json_schema")
    )


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The generated text, and the tokens where details were asked for."""
    details = mapping(response.get("details"))
    read = count(details.get("input_length"))
    return ParsedResponse(
        text=text(response.get("generated_text")),
        prompt_tokens=read if read is not None else len(items(details.get("prefill"))) or None,
        completion_tokens=count(details.get("generated_tokens")),
        finish_reason=text(details.get("finish_reason")),
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the tokens add up to."""
    pieces: list[str] = []
    whole: dict[str, Any] = {}
    for event in events:
        pieces.append(_spoken(event))
        whole |= {key: event[key] for key in ("generated_text", "details", "error", "error_type") if event.get(key)}
    return {"generated_text": "".join(pieces)} | whole


def _spoken(event: dict[str, Any]) -> str:
    token = mapping(event.get("token"))
    return "" if token.get("special") is True else text(token.get("text")) or ""


def _matches(event: dict[str, Any]) -> bool:
    return isinstance(mapping(event.get("token")).get("text"), str)


def _is_last(event: dict[str, Any]) -> bool:
    return isinstance(event.get("generated_text"), str)


def _has_content(event: dict[str, Any]) -> bool:
    return bool(_spoken(event))


KIND: Final = Kind(
    name="tgi", code=12, meaning="text-generation-inference", operation="text_completion", trainable=True
)
SHAPE: Final[Shape] = Shape(
    name="text-generation-inference, also at `/`",
    kind=KIND,
    suffixes=("/generate", "/generate_stream"),
    paths=re.compile(r"\A\Z"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
