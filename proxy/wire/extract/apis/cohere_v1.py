"""Cohere's first chat API (`/v1/chat`): a message, and the history beside it. Also Cohere's models behind Bedrock.

A stream ends with the whole response.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy.wire.extract.apis.chat import wants_json
from proxy.wire.extract.apis.cohere import KIND, failure, tokens_of
from proxy.wire.extract.conversations import cohere as conversation
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import compact, count, items, last_user_text, lines, mapping, text, tool_call, turn

__all__ = ["SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_ROLES: Final = {"chatbot": "assistant"}
_FRAME: Final = frozenset({"event_type", "is_finished", "response"})


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a message of its own."""
    return isinstance(request.get("message"), str)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The message, behind the preamble and the history as a conversation."""
    messages = []
    if preamble := text(request.get("preamble")):
        messages.append(turn("system", [preamble]))
    for past in map(mapping, items(request.get("chat_history"))):
        role = (text(past.get("role")) or "user").lower()
        results = [compact(result) for result in items(past.get("tool_results"))]
        messages.append(turn(_ROLES.get(role, role), [text(past.get("message")), *results, *_calls(past)]))
    message = text(request.get("message"))
    found = [compact(result) for result in items(request.get("tool_results"))]
    messages.append(turn("tool" if found and not message else "user", [message, *found]))
    return ParsedRequest(
        query=message or last_user_text(messages), messages=messages, json_requested=wants_json(request)
    )


def _calls(fields: dict[str, Any]) -> list[str]:
    calls = [mapping(call) for call in items(fields.get("tool_calls"))]
    return [tool_call(call.get("name"), call.get("parameters")) for call in calls]


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text with its calls, and the usage."""
    finish = text(response.get("finish_reason"))
    tokens = tokens_of(mapping(response.get("meta")))
    spoken, calls = text(response.get("text")), _calls(response)
    return ParsedResponse(
        text=None if spoken is None else lines([spoken, *calls]),
        words=spoken if calls else None,
        prompt_tokens=count(tokens.get("input_tokens")),
        completion_tokens=count(tokens.get("output_tokens")),
        finish_reason=finish,
        provider_id=text(response.get("generation_id")) or text(response.get("response_id")),
        refused=finish == "ERROR_TOXIC",
        error=failure(finish),
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The v1 response: the last event holds it; of a cut stream the texts are put together."""
    whole: dict[str, Any] = {}
    pieces: list[str] = []
    for event in events:
        kind = event.get("event_type")
        if kind == "text-generation":
            pieces.append(text(event.get("text")) or "")
        elif kind == "stream-end":
            whole |= mapping(event.get("response"))
            whole |= {key: value for key, value in event.items() if key not in _FRAME and value is not None}
        else:
            whole |= {key: event[key] for key in ("generation_id", "tool_calls", "error") if event.get(key)}
    return {"text": "".join(pieces)} | whole


def _matches(event: dict[str, Any]) -> bool:
    return "event_type" in event and "is_finished" in event


def _is_last(event: dict[str, Any]) -> bool:
    return event.get("event_type") == "stream-end"


def _has_content(event: dict[str, Any]) -> bool:
    kind = event.get("event_type")
    return bool(event.get("text") or event.get("tool_calls") or kind == "tool-calls-chunk")


SHAPE: Final[Shape] = Shape(
    name="Cohere's first chat",
    kind=KIND,
    suffixes=("/v1/chat",),
    turns=("chat_history",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse_v1,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
