"""Bedrock's Converse: blocks without a type, told by the one field they have."""

from __future__ import annotations

from typing import Any, Final

from policies.conversation import Conversation, Lack, ToolCall
from proxy.wire.extract.conversations.draft import Draft, arguments_of, between, function_tool
from proxy.wire.extract.conversations.parts import Pieces, media_of
from proxy.wire.extract.values import compact, items, mapping, text

__all__ = ["converse"]

_MEDIA: Final = {"image": "image", "audio": "audio", "video": "video", "document": "application"}
_SILENT: Final = frozenset({"cachePoint"})


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The system prompt and the messages, and the answer's blocks."""
    draft = Draft(_tools(request))
    pieces, _ = _blocks(draft, request.get("system"))
    draft.add_turn("system", draft.pieced(pieces)[0])
    for message in items(request.get("messages")):
        fields = mapping(message)
        draft.lack(Lack.UNREAD, where=not isinstance(message, dict))
        role = draft.role(fields.get("role"))
        pieces, calls = _blocks(draft, fields.get("content"))
        content, reasoning = draft.pieced(pieces, separator=between(role))
        if content or calls:
            draft.add_turn("user" if role == "tool" else role, content, calls=calls, reasoning=reasoning)
    message = mapping(mapping(response.get("output")).get("message"))
    pieces, calls = _blocks(draft, message.get("content"))
    content, reasoning = draft.pieced(pieces, separator="")
    return draft.finish(content, calls=calls, reasoning=reasoning)


def _blocks(draft: Draft, content: Any) -> tuple[Pieces, list[ToolCall]]:
    """What a message says and calls; results of tools are turns of their own, told at once."""
    pieces, calls = Pieces(), list[ToolCall]()
    for block in [content] if isinstance(content, str) else items(content):
        fields = mapping(block)
        if call := mapping(fields.get("toolUse")):
            draft.lack(Lack.CONTEXT_ELSEWHERE, where=call.get("type") == "server_tool_use")
            name, given = text(call.get("name")) or "", text(call.get("toolUseId"))
            calls.append(ToolCall(name=name, arguments=arguments_of(call.get("input")), id=given))
        elif result := mapping(fields.get("toolResult")):
            draft.lack(Lack.CONTEXT_ELSEWHERE, where=result.get("type"))
            found = Pieces()
            for part in items(result.get("content")):
                _add(found, part)
            draft.lack(Lack.UNREAD, where=found.unread)
            draft.add_result(found.pieces, call_id=result.get("toolUseId"))
        else:
            _add(pieces, block)
    return pieces, calls


def _add(pieces: Pieces, block: Any) -> None:
    """Words, thoughts, or a medium."""
    fields = mapping(block)
    said = block if isinstance(block, str) else text(fields.get("text"))
    if said is None:
        said = text(mapping(mapping(fields.get("guardContent")).get("text")).get("text"))
    if said is not None:
        pieces.add(said)
    elif "json" in fields:
        pieces.add(compact(fields["json"]))
    elif "reasoningContent" in fields:
        thought = mapping(mapping(fields["reasoningContent"]).get("reasoningText"))
        pieces.thoughts.append(text(thought.get("text")) or "")
    elif cited := mapping(fields.get("citationsContent")):
        pieces.add("".join(filter(None, (text(mapping(part).get("text")) for part in items(cited.get("content"))))))
    elif found := mapping(fields.get("searchResult")):
        about = (text(found.get("title")), text(found.get("source")))
        pieces.read([*filter(None, about), *items(found.get("content"))])
    elif (kind := next((kind for kind in _MEDIA if kind in fields), None)) is not None:
        _add_medium(pieces, kind, mapping(fields[kind]))
    elif not fields or fields.keys() - _SILENT:
        pieces.unread = True


def _add_medium(pieces: Pieces, kind: str, medium: dict[str, Any]) -> None:
    source, name = mapping(medium.get("source")), text(medium.get("name"))
    form = text(medium.get("format")) or ""
    if (words := text(source.get("text"))) is not None:
        pieces.read(list(filter(None, (name, words))))
    elif content := items(source.get("content")):
        pieces.read([*filter(None, (name,)), *content])
    else:
        file = f"{name}.{form}" if name else None
        pieces.add(media_of(f"{_MEDIA[kind]}/{form}", source.get("bytes"), file))


def _tools(request: dict[str, Any]) -> list[dict[str, Any]]:
    tools = []
    for tool in map(mapping, items(mapping(request.get("toolConfig")).get("tools"))):
        if spec := mapping(tool.get("toolSpec")):
            schema = mapping(spec.get("inputSchema")).get("json")
            tools.append(function_tool(spec.get("name"), spec.get("description"), schema))
    return tools
