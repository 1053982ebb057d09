"""Cohere's chat in both versions. The plan before its calls is reasoning.

The first version has one message and the history beside it; results of tools carry the call that they answer instead of
an id, so that the call is told from its result where the history lacks it.
"""

from __future__ import annotations

from typing import Any, Final

from policies.conversation import Conversation, Lack, ToolCall
from proxy.wire.extract.conversations.chat import calls_of, tools_of
from proxy.wire.extract.conversations.draft import Draft, arguments_of, between, function_tool
from proxy.wire.extract.values import compact, items, kind_of, mapping, text

__all__ = ["converse", "converse_v1"]

_TYPES: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array",
                 "dict": "object"}  # fmt: skip


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The second version's messages and tools, and the answer."""
    draft = Draft(tools_of(request))
    draft.lack(Lack.NOT_IN_FORMAT, where=request.get("documents"))
    for message in items(request.get("messages")):
        fields = mapping(message)
        draft.lack(Lack.UNREAD, where=not isinstance(message, dict))
        role = draft.role(fields.get("role"))
        if role == "tool":
            draft.add_result(_found(fields.get("content")), call_id=fields.get("tool_call_id"))
            continue
        content, thoughts = draft.content(_found(fields.get("content")), separator=between(role))
        reasoning = text(fields.get("tool_plan")) or thoughts
        draft.add_turn(role, content, calls=calls_of(fields), reasoning=reasoning)
    message = mapping(response.get("message"))
    content, thoughts = draft.content(message.get("content"), separator="")
    reasoning = text(message.get("tool_plan")) or thoughts
    return draft.finish(content, calls=calls_of(message), reasoning=reasoning)


def _found(content: Any) -> Any:
    """A content whose documents (what a tool found) are words."""
    if not isinstance(content, list):
        return content
    return [_document(part) if kind_of(mapping(part)) == "document" else part for part in content]


def _document(part: dict[str, Any]) -> str:
    data = mapping(part.get("document")).get("data")
    return data if isinstance(data, str) else compact(data)


def converse_v1(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The first version: preamble, history, message and results of tools, and the answer."""
    draft = Draft(map(_tool, items(request.get("tools"))))
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=request.get("conversation_id") or request.get("connectors"))
    draft.lack(Lack.NOT_IN_FORMAT, where=request.get("documents"))
    draft.add_turn("system", text(request.get("preamble")) or "")
    for past in items(request.get("chat_history")):
        fields = mapping(past)
        draft.lack(Lack.UNREAD, where=not isinstance(past, dict))
        role = draft.role(fields.get("role"))
        if role != "tool":
            content, _ = draft.content(fields.get("message"))
            draft.add_turn(role, content, calls=_calls(fields))
        _results(draft, fields)
    message = text(request.get("message")) or ""
    if message or not request.get("tool_results"):
        draft.add_turn("user", message)
    _results(draft, request)
    return draft.finish(text(response.get("text")) or "", calls=_calls(response))


def _results(draft: Draft, fields: dict[str, Any]) -> None:
    results = [mapping(result) for result in items(fields.get("tool_results"))]
    calls = [_call(mapping(result.get("call"))) for result in results]
    if results and not any(True for _ in draft.open_calls):
        draft.add_turn("assistant", "", calls=calls)
    for result, call in zip(results, calls, strict=True):
        draft.add_result(compact(result.get("outputs")), call_id=None, name=call.name)


def _calls(fields: dict[str, Any]) -> list[ToolCall]:
    return [_call(mapping(call)) for call in items(fields.get("tool_calls"))]


def _call(call: dict[str, Any]) -> ToolCall:
    return ToolCall(name=text(call.get("name")) or "", arguments=arguments_of(call.get("parameters")))


def _tool(tool: Any) -> dict[str, Any]:
    """A tool whose parameters are Python's, as JSON Schema."""
    fields = mapping(tool)
    properties, required = {}, []
    for name, definition in mapping(fields.get("parameter_definitions")).items():
        about = mapping(definition)
        kind = text(about.get("type")) or "str"
        properties[name] = {"type": _TYPES.get(kind.partition("[")[0].lower(), kind)}
        if said := text(about.get("description")):
            properties[name]["description"] = said
        if about.get("required") is True:
            required.append(name)
    schema = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    return function_tool(fields.get("name"), fields.get("description"), schema)
