"""Amazon Bedrock's Converse (`/model/…/converse`, `/model/…/converse-stream`), one form for models of every maker.

Its streams are binary frames (see `proxy.wire.eventstream`). Here an event is what AWS's own libraries make of a frame:
an object with one field, named for the event's type. Amazon's own models speak the same form behind InvokeModel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from policies.kinds import Kind
from proxy.wire.extract.conversations import bedrock as conversation
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import (
    compact,
    content_text,
    count,
    items,
    last_user_text,
    lines,
    mapping,
    sum_of,
    text,
    tool_call,
    turn,
)

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_MEDIA: Final = {"image": "[image]", "audio": "[audio]", "video": "[video]", "document": "[file]"}
_REFUSALS: Final = frozenset({"guardrail_intervened", "content_filtered"})
_FAILURES: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
_INPUT_TOKENS: Final = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
_EVENTS: Final = ("contentBlockDelta", "contentBlockStart", "contentBlockStop", "messageStart", "messageStop")
_GROWING: Final = ("text", "signature")


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
    form = mapping(mapping(request.get("outputConfig")).get("textFormat"))
    return ParsedRequest(
        query=last_user_text(messages), messages=messages, json_requested=form.get("type") == "json_schema"
    )


def _turns(message: dict[str, Any]) -> list[dict[str, str]]:
    content = message.get("content")
    blocks = [{"text": content}] if isinstance(content, str) else [mapping(block) for block in items(content)]
    found = [mapping(block.get("toolResult")) for block in blocks]
    results = [turn("tool", map(_result, items(result.get("content")))) for result in found if result]
    pieces = [piece for block in blocks if (piece := _spoken(block) or _call(block))]
    return [*results, turn(message.get("role"), pieces)] if pieces or not results else results


def _result(part: Any) -> str | None:
    fields = mapping(part)
    return compact(fields["json"]) if "json" in fields else _spoken(fields)


def _spoken(block: dict[str, Any]) -> str | None:
    """The text of a block, or what stands for its picture; reasoning was not said."""
    if (found := text(block.get("text"))) is not None:
        return found
    if (guarded := text(mapping(mapping(block.get("guardContent")).get("text")).get("text"))) is not None:
        return guarded
    if cited := mapping(block.get("citationsContent")):
        return content_text(cited.get("content"), separator="")
    return next((placeholder for key, placeholder in _MEDIA.items() if key in block), None)


def _call(block: dict[str, Any]) -> str | None:
    call = mapping(block.get("toolUse"))
    return tool_call(call.get("name"), call.get("input")) if call else None


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text blocks with the tool calls, and the usage; prompt tokens include those of the cache."""
    message = mapping(mapping(response.get("output")).get("message"))
    blocks = [mapping(block) for block in items(message.get("content"))]
    spoken = "".join(piece for block in blocks if (piece := _spoken(block)))
    calls = [call for block in blocks if (call := _call(block))]
    stop = text(response.get("stopReason"))
    usage = mapping(response.get("usage"))
    return ParsedResponse(
        text=lines([spoken, *calls]) if message else None,
        words=spoken if calls else None,
        prompt_tokens=sum_of(usage.get(key) for key in _INPUT_TOKENS),
        completion_tokens=count(usage.get("outputTokens")),
        cache_read_tokens=count(usage.get("cacheReadInputTokens")),
        cache_write_tokens=count(usage.get("cacheWriteInputTokens")),
        finish_reason=stop,
        refused=stop in _REFUSALS,
        error=stop if stop in _FAILURES else None,
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The Converse response that the events add up to."""
    whole: dict[str, Any] = {}
    role: str | None = None
    blocks: dict[int, _Block] = {}
    for event in events:
        for kind, value in event.items():
            fields = mapping(value)
            match kind:
                case "messageStart":
                    role = text(fields.get("role"))
                case "contentBlockStart" | "contentBlockDelta":
                    index = count(fields.get("contentBlockIndex")) or 0
                    (blocks.get(index) or blocks.setdefault(index, _Block())).add(fields)
                case "messageStop" | "metadata":
                    whole |= fields
                case "error":
                    whole["error"] = value
    content = [block for index in sorted(blocks) if (block := blocks[index].whole())]
    whole["output"] = {"message": {"role": role or "assistant", "content": content}}
    return whole


class _Block:
    """One content block as its events arrive; text is joined once, at the end."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._call: dict[str, Any] | None = None
        self._input: list[str] = []
        self._reasoning: dict[str, list[str]] = {}
        self._rest: dict[str, Any] = {}

    def add(self, fields: dict[str, Any]) -> None:
        change = mapping(fields.get("delta")) or mapping(fields.get("start"))
        for kind, value in change.items():
            if kind == "text" and isinstance(value, str):
                self._texts.append(value)
            elif kind == "toolUse":
                self._add_call(mapping(value))
            elif kind == "reasoningContent":
                for key in _GROWING:
                    if (piece := text(mapping(value).get(key))) is not None:
                        self._reasoning.setdefault(key, []).append(piece)
            else:
                self._rest[kind] = value

    def _add_call(self, call: dict[str, Any]) -> None:
        self._call = (self._call or {}) | {key: value for key, value in call.items() if key != "input"}
        if (piece := text(call.get("input"))) is not None:
            self._input.append(piece)

    def whole(self) -> dict[str, Any]:
        block = dict(self._rest)
        if self._texts:
            block["text"] = "".join(self._texts)
        if self._call is not None:
            block["toolUse"] = self._call | {"input": _value("".join(self._input))}
        if self._reasoning:
            block["reasoningContent"] = {"reasoningText": {k: "".join(p) for k, p in self._reasoning.items()}}
        return block


def _value(given: str) -> Any:
    """A call's input from the text of its pieces; that text itself where it was cut."""
    try:
        return orjson.loads(given) if given else {}
    except orjson.JSONDecodeError:
        return given


def _matches(event: dict[str, Any]) -> bool:
    return any(isinstance(event.get(kind), dict) for kind in _EVENTS)


def _is_last(event: dict[str, Any]) -> bool:
    return "messageStop" in event


def _has_content(event: dict[str, Any]) -> bool:
    if mapping(mapping(event.get("contentBlockStart")).get("start")).get("toolUse"):
        return True
    delta = mapping(mapping(event.get("contentBlockDelta")).get("delta"))
    return bool(delta.get("text") or delta.get("toolUse") or mapping(delta.get("reasoningContent")).get("text"))


KIND: Final = Kind(
    name="bedrock", code=10, meaning="Bedrock Converse", operation="chat", provider="aws.bedrock", trainable=True
)
SHAPE: Final[Shape] = Shape(
    name="Bedrock Converse",
    kind=KIND,
    suffixes=("/converse", "/converse-stream"),
    turns=("messages",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
