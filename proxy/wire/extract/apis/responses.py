"""OpenAI's Responses API (`…/responses`).

A stream ends with the whole response in `response.completed`; a cut one is rebuilt from its items and deltas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations import responses as conversation
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.tokens import count_in
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

__all__ = ["GROWING", "KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments"}
_OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_DELTAS: Final = {
    "response.output_text.delta": ("content", "output_text", "text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text", "text"),
}
_ARGUMENTS: Final = {
    "response.function_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
    "response.mcp_call_arguments.delta": "arguments",
}
GROWING: Final = frozenset({*_DELTAS, *_ARGUMENTS})
"""Events whose `delta`, where it is a text, goes on with a text of their item."""

_FAILED: Final = ("failed", "cancelled", "canceled")
_UNFINISHED: Final = ("queued", "in_progress", *_FAILED)
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a Responses call."""
    return isinstance(request.get("input"), str | list) or "previous_response_id" in request or "prompt" in request


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """Instructions and input items as a conversation."""
    messages = []
    if instructions := text(request.get("instructions")):
        messages.append(turn("system", [instructions]))
    given = request.get("input")
    if isinstance(given, str):
        messages.append(turn("user", [given]))
    messages += [message for item in items(given) if (message := _item_turn(mapping(item)))]
    wanted = mapping(mapping(request.get("text")).get("format")).get("type")
    query = last_user_text(messages) if given else None
    return ParsedRequest(query=query, messages=messages, json_requested=wanted in ("json_object", "json_schema"))


def _item_turn(item: dict[str, Any]) -> dict[str, str] | None:
    kind = kind_of(item) or "message"
    if kind == "message":
        return turn(item.get("role"), [content_text(item.get("content"))])
    if kind in _CALLS:
        return turn("assistant", [tool_call(item.get("name"), item.get(_CALLS[kind]))])
    if kind in _OUTPUTS:
        return turn("tool", [content_text(item.get("output"))])
    return None  # reasoning, references, other tools' bookkeeping


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The text of all output messages with the tool calls, and the usage."""
    pieces: list[str | None] = []
    calls: list[str] = []
    refused = False
    for item in map(mapping, items(response.get("output"))):
        kind = kind_of(item)
        if kind == "message":
            pieces.append(content_text(item.get("content"), separator=""))
            refused |= any(mapping(part).get("type") == "refusal" for part in items(item.get("content")))
        elif kind in _CALLS:
            calls.append(tool_call(item.get("name"), item.get(_CALLS[kind])))
            pieces.append(calls[-1])
    status = (text(response.get("status")) or "").lower() or None
    incomplete = text(mapping(response.get("incomplete_details")).get("reason"))
    answered = ParsedResponse(
        text="\n".join(piece for piece in pieces if piece) if _has_output(response, status) else None,
        words=lines(piece for piece in pieces if piece not in calls) if calls else None,
        finish_reason=incomplete or status,
        provider_id=text(response.get("id")),
        refused=refused,
        error=f"status {status}" if status in _FAILED else None,
    )
    return count_in(answered, mapping(response.get("usage")))


def _has_output(response: dict[str, Any], status: str | None) -> bool:
    """Whether there is an answer, be it an empty one; what is still to come is not known."""
    output = response.get("output")
    return bool(output) or (output is not None and status not in _UNFINISHED)


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `response` that the stream ended with, or what had arrived of it."""
    whole: dict[str, Any] = {"object": "response"}
    output: dict[int, _Item] = {}
    places: dict[str, int] = {}
    for event in events:
        kind = kind_of(event)
        if isinstance(event.get("response"), dict):
            whole |= {key: value for key, value in event["response"].items() if value is not None or key not in whole}
        elif kind == "error":
            whole["error"] = mapping(event.get("error")) or {
                "code": event.get("code"), "message": event.get("message")}  # fmt: skip
        else:
            index = event.get("output_index")
            if type(index) is not int and (index := _place(event, places)) is None:
                continue
            (output.get(index) or output.setdefault(index, _Item())).add(kind, event)
    if not items(whole.get("output")):
        whole["output"] = [output[index].whole() for index in sorted(output)]
    return whole


def _place(event: dict[str, Any], places: dict[str, int]) -> int | None:
    """The index of the item that an event is about; by the item's id where a server does not count its items."""
    if (index := count(event.get("output_index"))) is not None:
        return index
    name = text(event.get("item_id")) or text(mapping(event.get("item")).get("id"))
    return None if name is None else places.setdefault(name, len(places))


def _matches(event: dict[str, Any]) -> bool:
    return kind_of(event).startswith("response.")


def _is_last(event: dict[str, Any]) -> bool:
    return kind_of(event) in _ENDS


def _has_content(event: dict[str, Any]) -> bool:
    kind = kind_of(event)
    if kind.endswith(".delta"):
        return bool(event.get("delta"))
    if kind == "response.output_item.added":
        return kind_of(mapping(event.get("item"))) in _CALLS
    return kind in _ENDS and bool(items(mapping(event.get("response")).get("output")))


class _Item:
    """One output item as its events arrive."""

    def __init__(self) -> None:
        self._item: dict[str, Any] = {}
        self._done = False
        self._parts: dict[tuple[str, int], tuple[str, str, list[str]]] = {}
        self._arguments: dict[str, list[str]] = {}

    def add(self, kind: str, event: dict[str, Any]) -> None:
        if kind in ("response.output_item.added", "response.output_item.done"):
            self._item = mapping(event.get("item"))
            self._done = kind.endswith("done")
        elif kind in _DELTAS:
            place, part_type, key = _DELTAS[kind]
            index = count(event.get("summary_index" if place == "summary" else "content_index")) or 0
            part = self._parts.setdefault((place, index), (part_type, key, []))
            part[2].append(text(event.get("delta")) or "")
        elif kind in _ARGUMENTS:
            given = event.get("delta")
            piece = given if isinstance(given, str) else "" if given is None else compact(given)
            self._arguments.setdefault(_ARGUMENTS[kind], []).append(piece)

    def whole(self) -> dict[str, Any]:
        if self._done:
            return self._item
        item = dict(self._item) or self._unnamed()
        for place in ("content", "summary"):
            if parts := [self._parts[at] for at in sorted(self._parts) if at[0] == place]:
                item[place] = [{"type": kind, key: "".join(pieces)} for kind, key, pieces in parts]
        return item | {key: "".join(pieces) for key, pieces in self._arguments.items()}

    def _unnamed(self) -> dict[str, Any]:
        """An item whose beginning did not come."""
        if self._arguments:
            return {"type": "custom_tool_call" if "input" in self._arguments else "function_call"}
        return {"type": "message", "role": "assistant"}


KIND: Final = Kind(
    name="responses", code=2, meaning="OpenAI Responses", operation="chat", provider="openai", trainable=True
)
SHAPE: Final[Shape] = Shape(
    name="OpenAI Responses",
    kind=KIND,
    suffixes=("/responses",),
    turns=("input",),
    answers=("output",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
