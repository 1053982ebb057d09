"""SGLang's own API (`/generate`): a text or token ids in, a text and what is known of its making out.

In a stream each event usually holds all the text so far; servers told to do so send the new piece only. Which it is
shows in the stream as a whole: either every text begins with the one before it, or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis.completions import prompt_text
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, mapping, text

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a text, or token ids."""
    return isinstance(request.get("text"), str | list) or isinstance(request.get("input_ids"), list)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The text, or the token ids as JSON."""
    given = request.get("text") or request.get("input_ids")
    wanted = mapping(request.get("sampling_params")).get("json_schema")
    return ParsedRequest(query=prompt_text(given), json_requested=bool(wanted))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text, why it stopped, and the tokens. An abort is no answer."""
    info = mapping(response.get("meta_info"))
    finish = _finish(info)
    aborted = finish == "abort"
    return ParsedResponse(
        text=text(response.get("text")) if info else None,
        prompt_tokens=count(info.get("prompt_tokens")),
        completion_tokens=count(info.get("completion_tokens")),
        cache_read_tokens=count(info.get("cached_tokens")),
        reasoning_tokens=count(info.get("reasoning_tokens")),
        finish_reason=finish,
        provider_id=text(info.get("id")),
        error=(text(mapping(info.get("finish_reason")).get("message")) or finish) if aborted else None,
    )


def _finish(info: dict[str, Any]) -> str | None:
    reason = info.get("finish_reason")
    return text(reason) or text(mapping(reason).get("type"))


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the events add up to: the last one of the first answer, with all its text."""
    whole: dict[str, Any] = {}
    texts: list[str] = []
    for event in events:
        if count(event.get("index")):
            continue  # of several answers to one question the first is taken
        whole |= event
        if (found := text(event.get("text"))) is not None:
            texts.append(found)
    if texts:
        grows = all(later.startswith(earlier) for earlier, later in pairwise(texts))
        whole["text"] = texts[-1] if grows else "".join(texts)
    return whole


def _matches(event: dict[str, Any]) -> bool:
    return isinstance(event.get("meta_info"), dict) and ("text" in event or "output_ids" in event)


def _is_last(event: dict[str, Any]) -> bool:
    return _finish(mapping(event.get("meta_info"))) is not None


def _has_content(event: dict[str, Any]) -> bool:
    return bool(event.get("text") or event.get("output_ids"))


KIND: Final = Kind(name="sglang", code=14, meaning="SGLang generate", operation="text_completion", trainable=True)
SHAPE: Final[Shape] = Shape(
    name="SGLang's own",
    kind=KIND,
    suffixes=("/generate",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
