"""IBM watsonx.ai's own text generation: `/ml/v1/text/generation` and `/generation_stream`, also of deployments.

A prompt in, a list of one result out. Its chat speaks OpenAI's words under a path of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis import chat
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.failures import bad_finish
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, items, mapping, text

__all__ = ["CHAT", "KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_COUNTS: Final = ("input_token_count", "generated_token_count")
_UNFINISHED: Final = "not_finished"
_LIMITS: Final = frozenset({"token_limit", "time_limit"})


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a prompt; one to a deployment may have the variables of its template instead."""
    return isinstance(request.get("input"), str) or isinstance(request.get("parameters"), dict)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The prompt."""
    return ParsedRequest(query=text(request.get("input")), model=text(request.get("model_id")))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The first result's text, why it stopped, and the tokens."""
    result = _result(response)
    stop = (text(result.get("stop_reason")) or "").lower() or None
    return ParsedResponse(
        text=text(result.get("generated_text")),
        prompt_tokens=count(result.get("input_token_count")),
        completion_tokens=count(result.get("generated_token_count")),
        finish_reason=None if stop == _UNFINISHED else "length" if stop in _LIMITS else stop,
        model=text(response.get("model_id")),
        error=bad_finish(stop),
    )


def _result(response: dict[str, Any]) -> dict[str, Any]:
    return mapping(next(iter(items(response.get("results"))), None))


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the events add up to: their texts together, and the highest counts."""
    whole: dict[str, Any] = {}
    last: dict[str, Any] = {}
    pieces: list[str] = []
    for event in events:
        whole |= event
        result = _result(event)
        counts = {name: max(count(result.get(name)) or 0, last.get(name, 0)) for name in _COUNTS}
        last |= result | counts
        pieces.append(text(result.get("generated_text")) or "")
    return whole | {"results": [last | {"generated_text": "".join(pieces)}]}


def _matches(event: dict[str, Any]) -> bool:
    result = _result(event)
    return isinstance(result.get("generated_text"), str) and "stop_reason" in result


def _is_last(event: dict[str, Any]) -> bool:
    stop = text(_result(event).get("stop_reason"))
    return stop is not None and stop.lower() != _UNFINISHED


def _has_content(event: dict[str, Any]) -> bool:
    return bool(_result(event).get("generated_text"))


KIND: Final = Kind(
    name="watsonx",
    code=19,
    meaning="watsonx.ai",
    operation="text_completion",
    provider="ibm.watsonx.ai",
    trainable=True,
)
SHAPE: Final[Shape] = Shape(
    name="IBM watsonx.ai's text generation",
    kind=KIND,
    suffixes=("/text/generation", "/text/generation_stream"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
CHAT: Final[Shape] = replace(
    chat.SHAPE, name="watsonx.ai's chat", suffixes=("/text/chat", "/text/chat_stream"), stream=None
)
"""Chat completions, whose streams it has."""
