"""OpenAI's chat completions, and the many that speak them."""

from __future__ import annotations

from typing import Any, Final

from policies.conversation import Attachment, Content, Conversation, Lack, ToolCall, Turn
from proxy.wire.extract.conversations.draft import ROLES, Draft, arguments_of, between, function_tool
from proxy.wire.extract.conversations.parts import thought_in
from proxy.wire.extract.values import items, kind_of, mapping, text

__all__ = ["calls_of", "converse", "read_answer", "read_messages", "tools_of"]

_SEARCHED: Final = ("data_sources", "thread_id")
"""Members of a request that bring in what only the server sees."""
_CITED: Final = frozenset({"url_citation", "file_citation", "container_file_citation"})
_FOUND: Final = frozenset({"citations", "search_results"})


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The messages, the tools, and the first choice."""
    draft = Draft(tools_of(request))
    read_messages(draft, request)
    return read_answer(draft, response)


def read_messages(draft: Draft, request: dict[str, Any]) -> None:
    """Tell `draft` the messages of a request."""
    for message in items(request.get("messages")):
        if not isinstance(message, dict):
            draft.lack(Lack.UNREAD)
            continue
        said = message.get("content")
        role = ROLES.get(name) if isinstance(name := message.get("role"), str) else None
        if role is not None and role != "tool" and isinstance(said, str) and len(message) == 2:
            draft.turns.append(Turn(role=role, content=said))  # nearly every message
        else:
            _message(draft, message)
    if request.keys().isdisjoint(_BESIDE):
        return
    draft.lack(Lack.NOT_IN_FORMAT, where=items(request.get("documents")))
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=any(request.get(key) for key in _SEARCHED))


_BESIDE: Final = frozenset({"documents", *_SEARCHED})


def _message(draft: Draft, message: dict[str, Any]) -> None:
    role = draft.role(message.get("role"))
    if role == "tool":
        draft.add_result(message.get("content"), call_id=message.get("tool_call_id"), name=message.get("name"))
        return
    content, thoughts = _said(draft, message, separator=between(role))
    reasoning = _reasoning(message) or thoughts
    draft.add_turn(role, content, calls=calls_of(message), reasoning=reasoning, name=message.get("name"))


def read_answer(draft: Draft, response: dict[str, Any]) -> Conversation:
    """The first choice's message."""
    choices = items(response.get("choices"))
    choice = mapping(choices[0]) if choices else {}
    message = mapping(choice.get("message"))
    if _is_plain(message) and _FOUND.isdisjoint(response):
        return draft.finish(message["content"])
    notes = items(message.get("annotations"))
    searched = message.get("context") or message.get("executed_tools") or any(response.get(key) for key in _FOUND)
    if searched or any(kind_of(mapping(note)) in _CITED for note in notes):
        draft.lack(Lack.CONTEXT_ELSEWHERE)
    content, thoughts = _said(draft, message, separator="")
    return draft.finish(content, calls=calls_of(message), reasoning=_reasoning(message) or thoughts)


def _is_plain(message: dict[str, Any]) -> bool:
    """Whether it has a role and words, and nothing in all other members, as nearly every answer."""
    said = message.get("content")
    return bool(said) and isinstance(said, str) and bool(message.get("role")) and sum(map(bool, message.values())) == 2


def _said(draft: Draft, message: dict[str, Any], *, separator: str) -> tuple[Content, str | None]:
    """The content with a refusal, the words of a voice, and pictures that were drawn."""
    content, thoughts = draft.content(message.get("content"), separator=separator)
    if refusal := text(message.get("refusal")):
        content = (*content, refusal) if isinstance(content, tuple) else "\n".join(filter(None, (content, refusal)))
    voice, drawn = message.get("audio"), message.get("images")
    if not voice and not drawn:
        return content, thoughts
    pieces = content if isinstance(content, tuple) else (content,) if content else ()
    if voice:
        transcript = text(mapping(voice).get("transcript"))
        words = (transcript,) if transcript and not pieces else ()
        pieces = (*pieces, *words, Attachment(medium="audio"))
    shown, _ = draft.content([part for part in items(drawn) if isinstance(part, dict)])
    return (*pieces, *(shown if isinstance(shown, tuple) else ())), thoughts


def _reasoning(message: dict[str, Any]) -> str | None:
    """What was thought, in whichever field of it servers write."""
    for key in ("reasoning_content", "reasoning", "thinking"):
        if (found := message.get(key)) and isinstance(found, str):
            return found
    for key in ("reasoning_details", "thinking_blocks"):
        if details := items(message.get(key)):
            return "".join(thought_in(mapping(detail)) for detail in details) or None
    return None


def calls_of(message: dict[str, Any]) -> list[ToolCall]:
    """The calls of a message, custom tools' and the legacy function's among them."""
    calls: list[ToolCall] = []
    for call in map(mapping, items(message.get("tool_calls"))):
        given = text(call.get("id"))
        if custom := mapping(call.get("custom")):
            name, said = text(custom.get("name")) or "", custom.get("input")
            calls.append(ToolCall(name=name, arguments=said if isinstance(said, str) else arguments_of(said), id=given,
                                  custom=True))  # fmt: skip
        else:
            function = mapping(call.get("function"))
            arguments = arguments_of(function.get("arguments"))
            calls.append(ToolCall(name=text(function.get("name")) or "", arguments=arguments, id=given))
    if legacy := mapping(message.get("function_call")):
        name = text(legacy.get("name")) or ""
        calls.append(ToolCall(name=name, arguments=arguments_of(legacy.get("arguments"))))
    return calls


def tools_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools that a request offers; those that the server itself has are none of them."""
    tools = []
    for tool in map(mapping, items(request.get("tools"))):
        if isinstance(tool.get("function"), dict) or isinstance(tool.get("custom"), dict):
            kind = "function" if isinstance(tool.get("function"), dict) else "custom"
            tools.append({"type": kind, kind: tool[kind]})
        elif kind_of(tool) in ("function", "") and text(tool.get("name")):
            tools.append(function_tool(tool["name"], tool.get("description"), tool.get("parameters")))
    legacy = map(mapping, items(request.get("functions")))
    return [*tools, *({"type": "function", "function": function} for function in legacy)]
