"""OpenAI's Responses: items of which several make a turn, and a conversation that may go on from one elsewhere.

The thoughts, words and calls that follow each other are one turn of the assistant's. What the server's own tools did
(a search, a run of code) is in no training file: an answer that leans on it lacks its context.
"""

from __future__ import annotations

from typing import Any, Final

from policies.conversation import Content, Conversation, Lack, ToolCall
from proxy.wire.extract.conversations.chat import tools_of
from proxy.wire.extract.conversations.draft import Draft, arguments_of
from proxy.wire.extract.conversations.parts import Pieces, thought_in
from proxy.wire.extract.values import items, kind_of, mapping, text

__all__ = ["converse"]

_SILENT: Final = frozenset({"mcp_list_tools"})
_ELSEWHERE: Final = frozenset({"item_reference", "compaction", "compaction_summary", "context_compaction",
                               "mcp_approval_request", "mcp_approval_response", "tool_search_output"})  # fmt: skip


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """Instructions and input, and the output."""
    draft = Draft(_tools(request.get("tools")))
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=request.get("conversation") or request.get("prompt"))
    draft.goes_on_from = text(request.get("previous_response_id")) or None
    if instructions := text(request.get("instructions")):
        draft.add_turn("system", instructions)
        draft.instructed = True
    given = request.get("input")
    if isinstance(given, str):
        draft.add_turn("user", given)
    said = _Speech(draft)
    for item in items(given):
        _item(draft, said, item)
    said.end()
    for item in items(response.get("output")):
        fields = mapping(item)
        if kind_of(fields) == "message":
            said.read(fields.get("content"))
        elif not said.takes(fields):
            _other(draft, kind_of(fields))
    return draft.finish(said.content, calls=said.calls, reasoning=said.reasoning)


class _Speech:
    """A turn of the assistant's while its items come."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._clear()

    def _clear(self) -> None:
        self._contents: list[Content] = []
        self._thoughts: list[str] = []
        self.calls: list[ToolCall] = []

    def read(self, content: Any) -> None:
        """A message's content."""
        said, thoughts = self._draft.content(content, separator="")
        self._contents.append(said)
        self._thoughts.append(thoughts or "")

    def takes(self, item: dict[str, Any]) -> bool:
        """Whether an item is a thought or a call, which then belongs to this turn."""
        kind = kind_of(item)
        if kind == "reasoning":
            parts = items(item.get("content")) or items(item.get("summary"))
            self._thoughts += [thought_in(mapping(part)) for part in parts]
        elif kind in ("function_call", "custom_tool_call"):
            custom = kind == "custom_tool_call"
            said = item.get("input" if custom else "arguments")
            arguments = said if custom and isinstance(said, str) else arguments_of(said)
            name, given = text(item.get("name")) or "", text(item.get("call_id")) or text(item.get("id"))
            self.calls.append(ToolCall(name=name, arguments=arguments, id=given, custom=custom))
        else:
            return False
        return True

    @property
    def content(self) -> Content:
        """What its messages say."""
        if all(isinstance(content, str) for content in self._contents):
            return "\n".join(filter(None, self._contents))  # type: ignore[arg-type]
        pieces = [(content,) if isinstance(content, str) else content for content in self._contents]
        return tuple(piece for content in pieces for piece in content if piece != "")

    @property
    def reasoning(self) -> str | None:
        """What was thought meanwhile."""
        return "\n\n".join(filter(None, self._thoughts)) or None

    def end(self) -> None:
        """Somebody else speaks."""
        if self._contents or self.calls:
            self._draft.add_turn("assistant", self.content, calls=self.calls, reasoning=self.reasoning)
        self._clear()


def _item(draft: Draft, said: _Speech, item: Any) -> None:
    """One item of the input."""
    if not isinstance(item, dict):
        draft.lack(Lack.UNREAD, where=not isinstance(item, str))
        item = {"role": "user", "content": item if isinstance(item, str) else None}
    kind = kind_of(item) or ("message" if "content" in item or "role" in item else "item_reference")
    if kind == "message":
        if (role := draft.role(item.get("role"))) == "assistant":
            said.read(item.get("content"))
            return
        said.end()
        content, _ = draft.content(item.get("content"))
        if role == "tool":
            draft.add_result(item.get("content"), call_id=item.get("tool_call_id"), name=item.get("name"))
        else:
            draft.add_turn(role, content, name=item.get("name"))
    elif kind in ("function_call_output", "custom_tool_call_output"):
        said.end()
        draft.add_result(item.get("output"), call_id=item.get("call_id"), name=item.get("name"))
    elif not said.takes(item):
        _other(draft, kind, item)


def _other(draft: Draft, kind: str, item: Any = None) -> None:
    """An item that is neither word, thought nor call of the client's tools."""
    if kind.endswith(("_call", "_call_output")) or kind in _ELSEWHERE:
        draft.lack(Lack.CONTEXT_ELSEWHERE)
    elif kind not in _SILENT:
        draft.lack(Lack.UNREAD)
        pieces = Pieces()
        pieces.read([item])
        content, _ = draft.pieced(pieces)
        draft.add_turn("user", content)


def _tools(given: Any) -> list[dict[str, Any]]:
    """Tools in chat's nested form; those in a namespace one by one, the server's own not at all."""
    tools: list[dict[str, Any]] = []
    for tool in map(mapping, items(given)):
        kind = kind_of(tool)
        if kind == "namespace":
            tools += _tools(tool.get("tools"))
        elif kind == "custom" and "custom" not in tool and text(tool.get("name")):
            custom = {key: value for key, value in tool.items() if key in ("name", "description")}
            if form := mapping(tool.get("format")):
                custom["format"] = _form(form)
            tools.append({"type": "custom", "custom": custom})
        elif kind == "function" and "function" not in tool and text(tool.get("name")):
            function = {key: value for key, value in tool.items() if key in _FUNCTION and value is not None}
            tools.append({"type": "function", "function": function})
        else:
            tools += tools_of({"tools": [tool]})
    return tools


_FUNCTION: Final = frozenset({"name", "description", "parameters", "strict"})


def _form(form: dict[str, Any]) -> dict[str, Any]:
    """The form of a custom tool's text, which chat nests once more."""
    if form.get("type") != "grammar" or "grammar" in form:
        return form
    return {"type": "grammar", "grammar": {key: value for key, value in form.items() if key != "type"}}
