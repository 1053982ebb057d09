"""Amazon Bedrock's InvokeModel (`/model/…/invoke`) for the makers whose bodies are no API of their own elsewhere.

The body is the model's: Llama's `generation`, Titan's `results`, Mistral's `outputs`, Cohere's `generations` or `text`,
Claude 2's `completion`, DeepSeek's `choices`, and Nova's, which is Converse. Whoever speaks chat completions or
Anthropic's Messages there is read as such. The last event of a stream has the tokens as Bedrock counted them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.conversation import Conversation
from proxy.wire.extract.apis import bedrock, cohere_v1, completions
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, items, kind_of, mapping, text

__all__ = ["SHAPE", "SUFFIXES", "fits", "is_converse", "merge_chunks", "parse_request", "parse_response"]

SUFFIXES: Final[tuple[str, ...]] = ("/invoke", "/invoke-with-response-stream")
_METRICS: Final = "amazon-bedrock-invocationMetrics"
_REFUSALS: Final = frozenset({"CONTENT_FILTERED", "content_filtered", "content_filter"})
_TEXTS: Final = {"generation": "stop_reason", "completion": "stop_reason", "outputText": "completionReason"}
"""Where the text stands, in answers and in events, and the reason to stop beside it."""
_LISTS: Final = {
    "results": ("outputText", "completionReason"),
    "outputs": ("text", "stop_reason"),
    "generations": ("text", "finish_reason"),
}
"""The same, in the first object of a list."""
_READ: Final = ("prompt_token_count", "inputTextTokenCount")
_WROTE: Final = ("generation_token_count", "totalOutputTextTokenCount")


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a prompt, a message, or Converse's form."""
    asked = request.get("prompt", request.get("inputText", request.get("message")))
    return isinstance(asked, str) or is_converse(request)


def is_converse(request: dict[str, Any]) -> bool:
    """Whether the messages are in Converse's form: parts that have no type."""
    messages = [mapping(message) for message in items(request.get("messages"))]
    parts = [mapping(part) for message in messages for part in items(message.get("content"))]
    return bool(parts) and not any(kind_of(part) for part in parts)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The prompt, or the conversation."""
    if "messages" in request:
        return bedrock.parse_request(request)
    if "message" in request:
        return cohere_v1.parse_request(request)
    return ParsedRequest(query=text(request.get("prompt", request.get("inputText"))))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text under its maker's name for it, why it stopped, and the tokens."""
    found = _native(response)
    metrics = mapping(response.get(_METRICS))
    if found.prompt_tokens is None:
        found.prompt_tokens = count(metrics.get("inputTokenCount"))
    if found.completion_tokens is None:
        found.completion_tokens = count(metrics.get("outputTokenCount"))
    found.refused |= found.finish_reason in _REFUSALS
    return found


def _native(response: dict[str, Any]) -> ParsedResponse:
    if "output" in response:
        return bedrock.parse_response(response)
    if "choices" in response:
        found = completions.parse_response(response)
        found.finish_reason = found.finish_reason or text(_first(response, "choices").get("stop_reason"))
        return found
    for key, (name, reason) in _LISTS.items():
        if key in response:
            first = _first(response, key)
            return _answer(response, text(first.get(name)), first.get(reason), first.get("tokenCount"))
    for key, reason in _TEXTS.items():
        if key in response:
            return _answer(response, text(response[key]), response.get(reason), None)
    return cohere_v1.parse_response(response)


def _first(response: dict[str, Any], key: str) -> dict[str, Any]:
    return next((mapping(item) for item in items(response[key])), {})


def _answer(response: dict[str, Any], spoken: str | None, reason: Any, wrote: Any) -> ParsedResponse:
    return ParsedResponse(
        text=spoken,
        prompt_tokens=next((n for key in _READ if (n := count(response.get(key))) is not None), None),
        completion_tokens=next((n for key in _WROTE if (n := count(response.get(key))) is not None), count(wrote)),
        finish_reason=text(reason),
        provider_id=text(response.get("id")),
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the events add up to: of each field the last word, but texts are put together."""
    whole: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    lists: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for event in events:
        for key, value in event.items():
            if key in _TEXTS and isinstance(value, str):
                texts.setdefault(key, []).append(value)
            elif key in _LISTS:
                _grow(lists.setdefault(key, ({}, [])), mapping(next(iter(items(value)), None)), _LISTS[key][0])
            elif value is not None:
                whole[key] = value
    whole |= {key: "".join(pieces) for key, pieces in texts.items()}
    return whole | {key: [head | {_LISTS[key][0]: "".join(pieces)}] for key, (head, pieces) in lists.items()}


def _grow(known: tuple[dict[str, Any], list[str]], item: dict[str, Any], name: str) -> None:
    head, pieces = known
    head |= {key: value for key, value in item.items() if value is not None}
    pieces.append(text(item.get(name)) or "")


def _matches(event: dict[str, Any]) -> bool:
    beside = any(isinstance(event.get(key), str) and reason in event for key, reason in _TEXTS.items())
    return beside or _METRICS in event or any("stop_reason" in mapping(item) for item in items(event.get("outputs")))


def _is_last(event: dict[str, Any]) -> bool:
    if any(event.get(reason) for reason in _TEXTS.values()) or _METRICS in event:
        return True
    return any(mapping(item).get(reason) for key, (_, reason) in _LISTS.items() for item in items(event.get(key)))


def _has_content(event: dict[str, Any]) -> bool:
    if any(event.get(key) for key in _TEXTS):
        return True
    return any(mapping(item).get(name) for key, (name, _) in _LISTS.items() for item in items(event.get(key)))


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The body in the form of its maker: Converse's, Cohere's, or a prompt."""
    if "messages" in request:
        return bedrock.SHAPE.converse(request, response)
    return (cohere_v1.SHAPE.converse if "message" in request else _prompt)(request, response)


_prompt: Final = plain(parse_request, parse_response)

SHAPE: Final[Shape] = Shape(
    name="Bedrock with the bodies of Llama, Titan, Nova, Mistral, Cohere, DeepSeek, Claude 2",
    kind=bedrock.KIND,
    suffixes=SUFFIXES,
    turns=("messages", "chat_history"),
    answers=("choices",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
