"""Anthropic's Messages: blocks of which one message may hold several kinds.

A user's message with results of tools and words is the results, then the words. What Anthropic's own servers ran (a
search, code) is in no training file: an answer that leans on it lacks its context.
"""

from __future__ import annotations

from typing import Any, Final

from policies.conversation import Conversation, Lack, ToolCall
from proxy.wire.extract.conversations.draft import Draft, arguments_of, between, function_tool
from proxy.wire.extract.conversations.parts import Pieces
from proxy.wire.extract.values import items, kind_of, mapping, text

__all__ = ["converse"]

_CLIENTS: Final = ("bash_", "text_editor_", "computer_", "memory_")
"""Types of tools whose form only Anthropic's models know, and which the client runs."""
_SERVERS: Final = frozenset({"server_tool_use", "mcp_tool_use", "container_upload", "compaction"})


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The system prompt and the messages, and the answer's blocks."""
    draft = Draft(_tools(request))
    system, _ = draft.content(request.get("system"))
    draft.add_turn("system", system)
    for message in items(request.get("messages")):
        if not isinstance(message, dict):
            draft.lack(Lack.UNREAD)
            continue
        role, said = draft.role(message.get("role")), message.get("content")
        if isinstance(said, str) and role != "tool":
            draft.add_turn(role, said)
            continue
        pieces, calls = _blocks(draft, said)
        content, reasoning = draft.pieced(pieces, separator=between(role))
        if content or calls:
            draft.add_turn("user" if role == "tool" else role, content, calls=calls, reasoning=reasoning)
    pieces, calls = _blocks(draft, response.get("content"), answer=True)
    content, reasoning = draft.pieced(pieces, separator="")
    return draft.finish(content, calls=calls, reasoning=reasoning)


def _blocks(draft: Draft, content: Any, *, answer: bool = False) -> tuple[Pieces, list[ToolCall]]:
    """What a message says and calls; results of tools are turns of their own, told at once."""
    pieces, calls = Pieces(), []
    for block in content if isinstance(content, list) else [content]:
        fields = mapping(block)
        kind = kind_of(fields)
        if kind == "tool_use":
            name, given = text(fields.get("name")) or "", text(fields.get("id"))
            calls.append(ToolCall(name=name, arguments=arguments_of(fields.get("input")), id=given))
        elif kind == "tool_result" and not answer:
            draft.add_result(fields.get("content"), call_id=fields.get("tool_use_id"))
        elif kind in _SERVERS or kind.endswith("_tool_result") or kind == "tool_result":
            draft.lack(Lack.CONTEXT_ELSEWHERE)
        elif block is not None:
            pieces.read([block])
    return pieces, calls


def _tools(request: dict[str, Any]) -> list[dict[str, Any]]:
    tools = []
    for tool in map(mapping, items(request.get("tools"))):
        kind, name = kind_of(tool), text(tool.get("name"))
        if name and (kind in ("", "custom") or kind.startswith(_CLIENTS)):
            tools.append(function_tool(name, tool.get("description"), tool.get("input_schema")))
    return tools
