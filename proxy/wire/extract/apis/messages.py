"""Anthropic's Messages API (`…/messages`): system, content blocks, tool use, and its stream of block deltas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations import messages as conversation
from proxy.wire.extract.failures import bad_finish
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.tokens import count_in
from proxy.wire.extract.values import (
    content_text,
    count,
    items,
    json_in,
    kind_of,
    last_user_text,
    mapping,
    text,
    tool_call,
    turn,
)

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_CALLS: Final = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_EVENTS: Final = frozenset({"message_start", "content_block_start", "content_block_delta", "message_delta"})
_GROWING: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a conversation."""
    return isinstance(request.get("messages"), list)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The system prompt and the conversation. Tool results become turns of the role `tool`."""
    messages = []
    if system := content_text(request.get("system")):
        messages.append(turn("system", [system]))
    for message in map(mapping, items(request.get("messages"))):
        messages += _turns(message)
    wanted = mapping(mapping(request.get("output_config")).get("format")).get("type")
    return ParsedRequest(query=last_user_text(messages), messages=messages, json_requested=wanted == "json_schema")


def _turns(message: dict[str, Any]) -> list[dict[str, str]]:
    content = message.get("content")
    results = [turn("tool", [content_text(mapping(block).get("content"))])
               for block in items(content) if mapping(block).get("type") == "tool_result"]  # fmt: skip
    pieces = [content_text(content), *_calls(content)]
    return [*results, turn(message.get("role"), pieces)] if any(pieces) or not results else results


def _calls(content: Any) -> list[str]:
    blocks = [mapping(block) for block in items(content)]
    return [tool_call(block.get("name"), block.get("input")) for block in blocks if kind_of(block) in _CALLS]


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text blocks with the tool calls, and the usage; prompt tokens include the cached ones."""
    content = response.get("content")
    blocks = [block for block in map(mapping, items(content)) if kind_of(block) == "text"]
    words, calls = content_text(blocks, separator=""), _calls(content)
    pieces = [words, *calls]
    stop = text(response.get("stop_reason"))
    answered = ParsedResponse(
        text="\n".join(piece for piece in pieces if piece) if isinstance(content, list) else text(content),
        words=words or "" if calls else None,
        finish_reason=stop,
        provider_id=text(response.get("id")),
        refused=stop == "refusal",
        error=bad_finish(stop),
    )
    return count_in(answered, mapping(response.get("usage")))


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `message` that the events add up to."""
    whole: dict[str, Any] = {"type": "message", "role": "assistant"}
    usage: dict[str, Any] = {}
    blocks: dict[int, _Block] = {}
    for event in events:
        match event.get("type"):
            case "message_start":
                whole |= mapping(event.get("message"))
                usage |= {key: value for key, value in mapping(whole.get("usage")).items() if value is not None}
            case "content_block_start":
                blocks[count(event.get("index")) or 0] = _Block(mapping(event.get("content_block")))
            case "content_block_delta":
                index = count(event.get("index")) or 0
                (blocks.get(index) or blocks.setdefault(index, _Block({"type": "text"}))).add(
                    mapping(event.get("delta"))
                )
            case "message_delta":
                whole |= {key: value for key, value in mapping(event.get("delta")).items() if value is not None}
                usage |= {key: value for key, value in mapping(event.get("usage")).items() if value is not None}
            case "error":
                whole["error"] = event.get("error")
    whole["content"] = [blocks[index].whole() for index in sorted(blocks)]
    whole["usage"] = usage
    return whole


def _matches(event: dict[str, Any]) -> bool:
    return kind_of(event) in _EVENTS


def _is_last(event: dict[str, Any]) -> bool:
    return event.get("type") == "message_stop"


def _has_content(event: dict[str, Any]) -> bool:
    kind = event.get("type")
    if kind == "content_block_delta":
        delta = mapping(event.get("delta"))
        return any(delta.get(key) for key in ("text", "thinking", "partial_json"))
    if kind == "content_block_start":
        block = mapping(event.get("content_block"))
        return bool(kind_of(block) in _CALLS or block.get("text") or block.get("thinking"))
    return False


class _Block:
    """One content block as its deltas arrive; text is joined once, at the end."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._texts: dict[str, list[str]] = {}
        self._json: list[str] = []
        self._input: Any = None
        self._citations: list[Any] = []

    def add(self, delta: dict[str, Any]) -> None:
        kind = kind_of(delta)
        if key := _GROWING.get(kind):
            self._texts.setdefault(key, []).append(text(delta.get(key)) or "")
        elif kind == "input_json_delta":
            given = delta.get("partial_json")
            if isinstance(given, str):
                self._json.append(given)
            elif given is not None:
                self._input = given  # the object itself, as some gateways have it
        elif kind == "citations_delta":
            self._citations.append(delta.get("citation"))

    def whole(self) -> dict[str, Any]:
        block = dict(self._start)
        for key, pieces in self._texts.items():
            block[key] = (text(block.get(key)) or "") + "".join(pieces)
        if given := "".join(self._json):
            block["input"] = json_in(given)  # its text, where the stream was cut
        elif self._input is not None:
            block["input"] = self._input
        if self._citations:
            block["citations"] = [*items(block.get("citations")), *self._citations]
        return block


KIND: Final = Kind(
    name="messages",
    code=4,
    meaning="Anthropic Messages, also behind Bedrock and Vertex",
    operation="chat",
    provider="anthropic",
    trainable=True,
)
SHAPE: Final[Shape] = Shape(
    name="Anthropic messages",
    kind=KIND,
    suffixes=("/messages",),
    turns=("messages",),
    answers=("content",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
