"""llama.cpp's own API: `/completion` (also as `/completions`) and `/infill`.

OpenAI's `/completions` has the same path and the same prompt; the answer tells them apart: here it is `content`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis.completions import prompt_text
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, lines, mapping, sum_of, text

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_STOPS: Final = {"stopped_eos": "eos", "stopped_limit": "limit", "stopped_word": "word"}
"""How versions before `stop_type` said why they stopped."""


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a prompt, or something to be filled in."""
    return isinstance(request.get("prompt"), (str, list, dict)) or isinstance(request.get("input_prefix"), str)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The prompt; of a text to be filled in what stands before the gap."""
    prompt = request.get("prompt")
    given = text(mapping(prompt).get("prompt_string")) or prompt_text(prompt)
    query = lines([text(request.get("input_prefix")), given]) or None
    return ParsedRequest(query=query, json_requested=isinstance(request.get("json_schema"), dict))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The content, why it stopped, and the tokens."""
    ended = "stop" in response or "tokens_predicted" in response
    timings = mapping(response.get("timings"))
    reused = timings.get("cache_n")
    read, wrote = count(response.get("tokens_evaluated")), count(response.get("tokens_predicted"))
    return ParsedResponse(
        text=text(response.get("content")) if ended else None,
        prompt_tokens=sum_of((timings.get("prompt_n"), reused)) if read is None else read,
        completion_tokens=count(timings.get("predicted_n")) if wrote is None else wrote,
        cache_read_tokens=count(reused),
        finish_reason=_stop(response),
    )


def _stop(response: dict[str, Any]) -> str | None:
    kind = text(response.get("stop_type"))
    if kind and kind != "none":
        return kind
    return next((reason for key, reason in _STOPS.items() if response.get(key) is True), None)


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the events add up to: the last one, with all the content."""
    whole: dict[str, Any] = {}
    pieces: list[str] = []
    for event in events:
        whole |= event
        pieces.append(text(event.get("content")) or "")
    return whole | {"content": "".join(pieces)}


def _matches(event: dict[str, Any]) -> bool:
    return isinstance(event.get("content"), str) and isinstance(event.get("stop"), bool)


def _is_last(event: dict[str, Any]) -> bool:
    return event.get("stop") is True


def _has_content(event: dict[str, Any]) -> bool:
    return bool(event.get("content"))


KIND: Final = Kind(
    name="llama.cpp", code=13, meaning="llama.cpp completion", operation="text_completion", trainable=True
)
SHAPE: Final[Shape] = Shape(
    name="llama.cpp's own",
    kind=KIND,
    suffixes=("/completion", "/completions", "/infill"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
