"""OpenAI's Responses API (`…/responses`).

A stream ends with the whole response in `response.completed`; a cut one is rebuilt from its items and deltas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy.wire.extract.model import Answer, Ask
from proxy.wire.extract.values import (
    content_text,
    count,
    items,
    kind_of,
    last_user_text,
    mapping,
    text,
    tool_call,
    turn,
)

__all__ = ["SUFFIXES", "answer", "ask", "fits", "join"]

SUFFIXES: Final = ("/responses",)
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


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a Responses call."""
    return isinstance(request.get("input"), str | list) or "previous_response_id" in request or "prompt" in request


def ask(request: dict[str, Any]) -> Ask:
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
    return Ask(query=query, messages=messages, json_requested=wanted in ("json_object", "json_schema"))


def _item_turn(item: dict[str, Any]) -> dict[str, str] | None:
    kind = kind_of(item) or "message"
    if kind == "message":
        return turn(item.get("role"), [content_text(item.get("content"))])
    if kind in _CALLS:
        return turn("assistant", [tool_call(item.get("name"), item.get(_CALLS[kind]))])
    if kind in _OUTPUTS:
        return turn("tool", [content_text(item.get("output"))])
    return None  # reasoning, references, other tools' bookkeeping


def answer(response: dict[str, Any]) -> Answer:
    """The text of all output messages with the tool calls, and the usage."""
    pieces: list[str | None] = []
    refused = False
    for item in map(mapping, items(response.get("output"))):
        kind = kind_of(item)
        if kind == "message":
            pieces.append(content_text(item.get("content"), separator=""))
            refused |= any(mapping(part).get("type") == "refusal" for part in items(item.get("content")))
        elif kind in _CALLS:
            pieces.append(tool_call(item.get("name"), item.get(_CALLS[kind])))
    usage = mapping(response.get("usage"))
    incomplete = text(mapping(response.get("incomplete_details")).get("reason"))
    return Answer(
        text="\n".join(piece for piece in pieces if piece) if "output" in response else None,
        prompt_tokens=count(usage.get("input_tokens")),
        completion_tokens=count(usage.get("output_tokens")),
        finish_reason=incomplete or text(response.get("status")),
        provider_id=text(response.get("id")),
        refused=refused,
    )


def join(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `response` that the stream ended with, or what had arrived of it."""
    whole: dict[str, Any] = {"object": "response"}
    output: dict[int, _Item] = {}
    for event in events:
        kind = kind_of(event)
        if isinstance(event.get("response"), dict):
            whole |= event["response"]
        elif kind == "error":
            whole["error"] = mapping(event.get("error")) or {
                "code": event.get("code"), "message": event.get("message")}  # fmt: skip
        elif (index := count(event.get("output_index"))) is not None:
            (output.get(index) or output.setdefault(index, _Item())).add(kind, event)
    if not items(whole.get("output")):
        whole["output"] = [output[index].whole() for index in sorted(output)]
    return whole


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
            self._arguments.setdefault(_ARGUMENTS[kind], []).append(text(event.get("delta")) or "")

    def whole(self) -> dict[str, Any]:
        if self._done:
            return self._item
        item = dict(self._item) or {"type": "message", "role": "assistant"}
        for place in ("content", "summary"):
            if parts := [self._parts[at] for at in sorted(self._parts) if at[0] == place]:
                item[place] = [{"type": kind, key: "".join(pieces)} for kind, key, pieces in parts]
        return item | {key: "".join(pieces) for key, pieces in self._arguments.items()}
