"""Cohere's chat as of its second version (`/v2/chat`).

The plan that a model makes before it calls tools (`tool_plan`) is its reasoning, and no part of the answer. Tokens are
those that the model read and wrote, not those that were billed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis.chat import wants_json
from proxy.wire.extract.conversations import cohere as conversation
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import (
    compact,
    content_text,
    count,
    items,
    kind_of,
    last_user_text,
    lines,
    mapping,
    text,
    tool_call,
    turn,
)

__all__ = ["KIND", "SHAPE", "failure", "fits", "merge_chunks", "parse_request", "parse_response", "tokens_of"]

_FAILURES: Final = frozenset({"ERROR", "TIMEOUT", "ERROR_LIMIT"})
_CITATIONS: Final = "citation-start"
_EVENTS: Final = frozenset({
    "message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start",
    "tool-call-delta", "tool-call-end", _CITATIONS, "citation-end", "message-end",
})  # fmt: skip


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a conversation."""
    return isinstance(request.get("messages"), list)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The conversation, its last user turn, and whether JSON was asked for."""
    messages = [_turn(mapping(message)) for message in items(request.get("messages"))]
    return ParsedRequest(query=last_user_text(messages), messages=messages, json_requested=wants_json(request))


def _turn(message: dict[str, Any]) -> dict[str, str]:
    content = message.get("content")
    documents = [_document(mapping(part)) for part in items(content) if kind_of(mapping(part)) == "document"]
    spoken = [part for part in items(content) if kind_of(mapping(part)) != "document"] if documents else content
    return turn(message.get("role"), [content_text(spoken), *documents, *_calls(message)])


def _document(part: dict[str, Any]) -> str:
    """What a tool found: the data of a document, which is a text or an object of texts."""
    data = mapping(part.get("document")).get("data")
    return data if isinstance(data, str) else compact(data)


def _calls(message: dict[str, Any]) -> list[str]:
    functions = [mapping(mapping(call).get("function")) for call in items(message.get("tool_calls"))]
    return [tool_call(function.get("name"), function.get("arguments")) for function in functions]


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The message's text with its calls, and the usage."""
    message = mapping(response.get("message"))
    finish = text(response.get("finish_reason"))
    tokens = tokens_of(mapping(response.get("usage")))
    spoken, calls = content_text(message.get("content"), separator=""), _calls(message)
    return ParsedResponse(
        text=lines([spoken, *calls]) if message else None,
        words=spoken or "" if calls else None,
        prompt_tokens=count(tokens.get("input_tokens")),
        completion_tokens=count(tokens.get("output_tokens")),
        cache_read_tokens=count(mapping(response.get("usage")).get("cached_tokens")),
        finish_reason=finish,
        provider_id=text(response.get("id")),
        error=failure(finish),
    )


def tokens_of(usage: dict[str, Any]) -> dict[str, Any]:
    """The tokens read and written; those billed only where nothing else is said."""
    return mapping(usage.get("tokens")) or mapping(usage.get("billed_units"))


def failure(finish: str | None) -> str | None:
    """The finish reason, where it says that there is no answer."""
    return finish if finish in _FAILURES else None


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The v2 response that the events add up to."""
    whole: dict[str, Any] = {}
    message = _Message()
    for event in events:
        kind = kind_of(event)
        delta = mapping(event.get("delta"))
        if kind == "message-start":
            whole["id"] = event.get("id")
        elif kind == "message-end":
            whole |= delta
        elif "error" in event:
            whole["error"] = event["error"]
        message.add(kind, count(event.get("index")) or 0, mapping(delta.get("message")))
    return whole | {"message": message.whole()}


class _Message:
    """The message as its events arrive; text is joined once, at the end."""

    def __init__(self) -> None:
        self._content: dict[int, tuple[dict[str, Any], dict[str, list[str]]]] = {}
        self._calls: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._plan: list[str] = []
        self._citations: list[Any] = []

    def add(self, kind: str, index: int, change: dict[str, Any]) -> None:
        if kind in ("content-start", "content-delta"):
            self._add_content(index, mapping(change.get("content")))
        elif kind in ("tool-call-start", "tool-call-delta"):
            self._add_call(index, mapping(change.get("tool_calls")))
        elif kind == "tool-plan-delta":
            self._plan.append(text(change.get("tool_plan")) or "")
        elif kind == _CITATIONS:
            self._citations.append(change.get("citations"))

    def _add_content(self, index: int, content: dict[str, Any]) -> None:
        head, pieces = self._content.setdefault(index, ({}, {}))
        for key, value in content.items():
            if key in ("text", "thinking") and isinstance(value, str):
                pieces.setdefault(key, []).append(value)
            else:
                head[key] = value

    def _add_call(self, index: int, call: dict[str, Any]) -> None:
        head, arguments = self._calls.setdefault(index, ({"type": "function", "function": {}}, []))
        function = mapping(call.get("function"))
        head |= {key: value for key, value in call.items() if key != "function"}
        head["function"] |= {key: value for key, value in function.items() if key != "arguments"}
        arguments.append(text(function.get("arguments")) or "")

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant"}
        if self._plan:
            message["tool_plan"] = "".join(self._plan)
        if self._content:
            parts = [self._content[index] for index in sorted(self._content)]
            message["content"] = [{"type": "text"} | head | {k: "".join(p) for k, p in grown.items()}
                                  for head, grown in parts]  # fmt: skip
        if self._calls:
            calls = [self._calls[index] for index in sorted(self._calls)]
            message["tool_calls"] = [head | {"function": head["function"] | {"arguments": "".join(pieces)}}
                                     for head, pieces in calls]  # fmt: skip
        if self._citations:
            message["citations"] = self._citations
        return message


def _matches(event: dict[str, Any]) -> bool:
    return kind_of(event) in _EVENTS


def _is_last(event: dict[str, Any]) -> bool:
    return kind_of(event) == "message-end"


def _has_content(event: dict[str, Any]) -> bool:
    message = mapping(mapping(event.get("delta")).get("message"))
    content = mapping(message.get("content"))
    return bool(content.get("text") or content.get("thinking") or message.get("tool_plan") or message.get("tool_calls"))


KIND: Final = Kind(name="cohere", code=11, meaning="Cohere chat", operation="chat", provider="cohere", trainable=True)
SHAPE: Final[Shape] = Shape(
    name="Cohere chat",
    kind=KIND,
    suffixes=("/v2/chat",),
    turns=("messages",),
    answers=("message",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
