"""Ollama's own API (`/api/generate`, `/api/chat`): one JSON object, or a stream of them, one a line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations import ollama as conversation
from proxy.wire.extract.failures import bad_finish
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import count, items, last_user_text, mapping, text, tool_call, turn

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a prompt or a conversation."""
    return isinstance(request.get("prompt"), str) or isinstance(request.get("messages"), list)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The prompt (with its system text as a conversation), or the conversation."""
    wanted = request.get("format") == "json" or isinstance(request.get("format"), dict)
    if "messages" in request:
        messages = [_turn(mapping(message)) for message in items(request.get("messages"))]
        return ParsedRequest(query=last_user_text(messages), messages=messages, json_requested=wanted)
    prompt, system = text(request.get("prompt")), text(request.get("system"))
    messages = [turn("system", [system]), turn("user", [prompt])] if system else []
    return ParsedRequest(query=prompt, messages=messages, json_requested=wanted)


def _turn(message: dict[str, Any]) -> dict[str, str]:
    pictures = ["[image]" for _ in items(message.get("images"))]
    return turn(message.get("role"), (text(message.get("content")), *pictures, *_calls(message)))


def _calls(message: dict[str, Any]) -> list[str]:
    functions = [mapping(mapping(call).get("function")) for call in items(message.get("tool_calls"))]
    return [tool_call(function.get("name"), function.get("arguments")) for function in functions]


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text with the tool calls, and the token counts of the last object."""
    words: str | None = None
    if isinstance(response.get("message"), dict):
        message = response["message"]
        calls = _calls(message)
        whole: str | None = "\n".join(piece for piece in (text(message.get("content")), *calls) if piece)
        words = text(message.get("content")) or "" if calls else None
    else:
        whole = text(response.get("response"))
    return ParsedResponse(
        text=whole,
        words=words,
        prompt_tokens=count(response.get("prompt_eval_count")),
        completion_tokens=count(response.get("eval_count")),
        finish_reason=text(response.get("done_reason")),
        error=bad_finish(response.get("done_reason")),
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The single object that `stream: false` would have given: the last one, with all the text."""
    whole: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    message: dict[str, Any] = {}
    spoken: dict[str, list[str]] = {}
    for event in events:
        whole |= event
        for key in ("response", "thinking"):
            if isinstance(event.get(key), str):
                texts.setdefault(key, []).append(event[key])
        for key, value in mapping(event.get("message")).items():
            if key in ("content", "thinking") and isinstance(value, str):
                spoken.setdefault(key, []).append(value)
            elif key == "tool_calls":
                message[key] = [*items(message.get(key)), *items(value)]
            else:
                message[key] = value
    whole |= {key: "".join(pieces) for key, pieces in texts.items()}
    if message or spoken:
        whole["message"] = message | {key: "".join(pieces) for key, pieces in spoken.items()}
    return whole


def _matches(event: dict[str, Any]) -> bool:
    return "done" in event and ("message" in event or "response" in event)


def _is_last(event: dict[str, Any]) -> bool:
    return event.get("done") is True


def _has_content(event: dict[str, Any]) -> bool:
    message = mapping(event.get("message"))
    return any(
        part.get(key)
        for part, key in (
            (event, "response"),
            (event, "thinking"),
            (message, "content"),
            (message, "thinking"),
            (message, "tool_calls"),
        )
    )


KIND: Final = Kind(name="ollama", code=5, meaning="Ollama", operation="chat", trainable=True)
SHAPE: Final[Shape] = Shape(
    name="Ollama, NDJSON or not",
    kind=KIND,
    suffixes=("/api/generate", "/api/chat"),
    turns=("messages",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
