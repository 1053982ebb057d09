"""Ollama's chat and generate. Its calls have no ids as a rule, and its results name their tool, if anything."""

from __future__ import annotations

from typing import Any

from policies.conversation import Content, Conversation, Lack
from proxy.wire.extract.conversations.chat import calls_of, tools_of
from proxy.wire.extract.conversations.draft import Draft
from proxy.wire.extract.conversations.parts import picture_data
from proxy.wire.extract.values import items, mapping, text

__all__ = ["converse"]


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The messages, or the prompt with its system text, and the answer."""
    draft = Draft(tools_of(request))
    if "messages" in request:
        for message in items(request.get("messages")):
            _message(draft, message)
    else:
        draft.lack(Lack.CONTEXT_ELSEWHERE, where=request.get("context"))
        draft.lack(Lack.NOT_IN_FORMAT, where=request.get("suffix"))
        draft.add_turn("system", text(request.get("system")) or "")
        draft.add_turn("user", _content(draft, request.get("prompt"), request.get("images")))
    message = mapping(response.get("message"))
    source, words = (message, "content") if message else (response, "response")
    content = _content(draft, source.get(words), source.get("images"))
    return draft.finish(content, calls=calls_of(source), reasoning=text(source.get("thinking")) or None)


def _message(draft: Draft, message: Any) -> None:
    fields = mapping(message)
    draft.lack(Lack.UNREAD, where=not isinstance(message, dict))
    role, said = draft.role(fields.get("role")), fields.get("content")
    if role == "tool":
        draft.add_result(said, call_id=fields.get("tool_call_id"), name=fields.get("tool_name", fields.get("name")))
        return
    content = _content(draft, said, fields.get("images"))
    draft.add_turn(role, content, calls=calls_of(fields), reasoning=text(fields.get("thinking")) or None)


def _content(draft: Draft, said: Any, images: Any) -> Content:
    """Words and the pictures beside them."""
    content, _ = draft.content(said)
    if not images:
        return content
    pictures = tuple(map(picture_data, items(images)))
    return (*(content if isinstance(content, tuple) else (content,) if content else ()), *pictures)
