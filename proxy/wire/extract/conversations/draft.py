"""A conversation while it is read, and the rules that hold over any API.

* A call without an id gets one, `call_1`, `call_2` … in the order of the conversation, so that the same history has the
  same ids in every request; a result without one answers the first open call of its tool, or else the first open one.
* A last message of the assistant's is a prefill: APIs go on exactly there, so the answer is joined to it, unless the
  answer repeats it.
* Inline thoughts become reasoning, of the answer as of earlier turns; turns that say nothing go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from policies.conversation import Attachment, Content, Conversation, Lack, Role, ToolCall, Turn
from proxy.wire.extract.conversations.calltext import is_call_text
from proxy.wire.extract.conversations.parts import Pieces
from proxy.wire.extract.conversations.thoughts import split_thoughts
from proxy.wire.extract.values import compact, json_in, mapping, text

__all__ = ["ROLES", "Draft", "arguments_of", "between", "function_tool"]

ROLES: Final[Mapping[Any, Role]] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "model": "assistant", "chatbot": "assistant", "ai": "assistant", "bot": "assistant", "tool": "tool",
    "function": "tool", "ipython": "tool",
}  # fmt: skip
"""By the name that APIs and their clients give to who speaks, in lower case."""


class Draft:
    """Add the turns in order, then `finish`."""

    __slots__ = ("_made", "_names", "_open", "_open_of", "goes_on_from", "instructed", "lacks", "tools", "turns")

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        self.turns: list[Turn] = []
        self.tools = tuple(tools)
        self.lacks: Lack | None = None
        self.goes_on_from: str | None = None
        self.instructed = False
        self._names: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._open_of: dict[str, dict[str, None]] = {}
        """The ids of open calls by tool, in order."""
        self._made = 0

    def lack(self, lack: Lack, *, where: Any = True) -> None:
        """Note the first thing that is missing, `where` that is so."""
        if where and self.lacks is None:
            self.lacks = lack

    def role(self, name: Any) -> Role:
        """Who speaks. A message that does not say is a user's; whom nobody knows is not understood."""
        role = ROLES.get(name if name in ROLES else name.lower()) if isinstance(name, str) else None
        if role is None:
            self.lack(Lack.UNREAD, where=name not in (None, ""))
            return "user"
        return role

    def content(self, given: Any, *, separator: str = "\n") -> tuple[Content, str | None]:
        """A content in OpenAI's form, or one of those like it, and the thoughts that stand in it."""
        if isinstance(given, str):
            return given, None
        pieces = Pieces()
        pieces.read(given)
        return self.pieced(pieces, separator=separator)

    def pieced(self, pieces: Pieces, *, separator: str = "\n") -> tuple[Content, str | None]:
        """What was read in pieces."""
        self.lack(Lack.UNREAD, where=pieces.unread)
        return pieces.content(separator), pieces.reasoning

    def add_turn(
        self,
        role: Role,
        content: Content,
        *,
        calls: Iterable[ToolCall] = (),
        reasoning: str | None = None,
        name: Any = None,
    ) -> None:
        """Anybody's turn but a tool's. Only an assistant calls tools: of whomever else it is not understood."""
        if calls and role != "assistant":
            self.lack(Lack.UNREAD)
            calls = ()
        numbered = self._numbered(calls) if calls else ()
        self.turns.append(
            Turn(role=role, content=content, calls=numbered, reasoning=reasoning, name=text(name) or None)
        )

    def add_result(self, given: Any, *, call_id: Any, name: Any = None) -> None:
        """A tool's result: a text, parts, or any other value, which then is JSON."""
        content, _ = self.content(given) if _is_content(given) else (compact(given), None)
        named = text(name) or None
        call = (text(call_id) or None) or self._first_open(named)
        if call is not None:
            self._close(call)
            named = self._names.get(call, named)
        self.turns.append(Turn(role="tool", content=content, call_id=call, name=named))

    @property
    def open_calls(self) -> Iterable[str]:
        """Ids of calls without a result."""
        return self._open

    def finish(self, content: Content, *, calls: Iterable[ToolCall] = (), reasoning: str | None = None) -> Conversation:
        """The conversation, now that the answer is there."""
        turns, tools = self.turns, self.tools
        numbered = self._numbered(calls) if calls else ()
        answer = Turn(role="assistant", content=content, calls=numbered, reasoning=reasoning)
        if turns and turns[-1].role == "assistant" and not turns[-1].calls and not answer.empty:
            answer = _joined(turns.pop(), answer)
        offered = _names_of(tools) if tools else frozenset()
        _unthink(answer)
        self.lack(Lack.MALFORMED, where=_malformed(answer, offered))
        kept: list[Turn] = []
        for turn in turns:
            if turn.role == "assistant":
                _unthink(turn)
                turn.taught = not _malformed(turn, offered)
            if turn.role == "tool" or not _is_empty(turn):
                kept.append(turn)
        self.lack(Lack.MULTIMODAL, where=_shows_nothing(answer) or any(map(_shows_nothing, turns)))
        return Conversation(
            turns=tuple(kept),
            answer=answer,
            tools=tools,
            lacks=self.lacks,
            goes_on_from=self.goes_on_from,
            instructed=self.instructed,
        )

    def _numbered(self, calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
        """The calls, each with an id, from now on open."""
        numbered = tuple(calls)
        for call in numbered:
            if not call.id:
                call.id = self._new_id()
            if (former := self._open.get(call.id)) is not None:
                del self._open_of[former][call.id]
            self._names[call.id] = self._open[call.id] = call.name
            self._open_of.setdefault(call.name, {})[call.id] = None
        return numbered

    def _new_id(self) -> str:
        while True:
            self._made += 1
            if (made := f"call_{self._made}") not in self._names:
                return made

    def _first_open(self, name: str | None) -> str | None:
        same = self._open_of.get(name) if name is not None else self._open
        return next(iter(same), None) if same else None

    def _close(self, call_id: str) -> None:
        if (tool := self._open.pop(call_id, None)) is not None:
            del self._open_of[tool][call_id]


def between(role: Any) -> str:
    """What stands between two texts of one turn: nothing where a model said them, as in its answer when it came."""
    return "" if role == "assistant" else "\n"


def arguments_of(given: Any) -> str:
    """The arguments of a call as JSON text; none at all are an empty object."""
    if isinstance(given, str):
        return given if given.strip() else "{}"
    return "{}" if given is None else compact(given)


def function_tool(name: Any, description: Any = None, parameters: Any = None, **more: Any) -> dict[str, Any]:
    """A tool as OpenAI's chat lists it."""
    function: dict[str, Any] = {"name": text(name) or ""}
    if isinstance(description, str) and description:
        function["description"] = description
    if isinstance(parameters, dict):
        function["parameters"] = parameters
    return {"type": "function", "function": function | {key: value for key, value in more.items() if value is not None}}


def _is_content(given: Any) -> bool:
    """Whether a tool's result is a content, and not a value of its own."""
    if given is None or isinstance(given, str):
        return True
    parts = given if isinstance(given, list) else [given]
    return all(isinstance(part, str | Attachment) or "type" in mapping(part) for part in parts)


def _joined(prefill: Turn, answer: Turn) -> Turn:
    before, after = prefill.content, answer.content
    content: Content
    if isinstance(before, str) and isinstance(after, str):
        content = after if _repeats(after, before.strip()) else before + after
    else:
        content = (*_as_pieces(before), *_as_pieces(after))
    thoughts = [thought for thought in (prefill.reasoning, answer.reasoning) if thought]
    return Turn(role="assistant", content=content, calls=answer.calls, reasoning="\n\n".join(thoughts) or None)


def _repeats(answer: str, prefill: str) -> bool:
    """Whether the answer begins with the prefill once more; where that is a bracket, whether it is JSON without it."""
    if not prefill or not answer.lstrip().startswith(prefill):
        return False
    return prefill not in ("{", "[", "[{") or json_in(answer) is not answer


def _as_pieces(content: Content) -> tuple[Any, ...]:
    return ((content,) if content else ()) if isinstance(content, str) else content


def _unthink(turn: Turn) -> None:
    """Move the thoughts that stand in the words."""
    said = turn.content
    if isinstance(said, str):
        thought, spoken = split_thoughts(said)
        if spoken is said:
            return
        turn.content, thoughts = spoken, [thought]
    else:
        split = [split_thoughts(piece) if isinstance(piece, str) else (None, piece) for piece in said]
        thoughts = [thought for thought, _ in split]
        turn.content = tuple(piece for _, piece in split if piece != "")
    if any(thoughts):
        turn.reasoning = "\n\n".join(filter(None, (turn.reasoning, *thoughts)))


def _is_empty(turn: Turn) -> bool:
    content = turn.content
    if isinstance(content, str):
        return not turn.calls and (not content or content.isspace())
    return turn.empty


def _shows_nothing(turn: Turn) -> bool:
    """Whether it has something that is no text, and not at hand."""
    return not isinstance(turn.content, str) and any(piece.part is None for piece in turn.attachments)


def _malformed(turn: Turn, offered: frozenset[str]) -> bool:
    """Whether it holds a call that nobody could run."""
    if turn.calls and any(not (call.custom or _is_object(call.arguments)) for call in turn.calls):
        return True
    return bool(offered) and is_call_text(turn.text, offered)


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(orjson.loads(arguments), dict)
    except ValueError:  # also a lone surrogate, which is no UTF-8
        return False


def _names_of(tools: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    wrapped = (mapping(tool.get("function", tool.get("custom"))) for tool in tools)
    return frozenset(name for tool in wrapped if (name := text(tool.get("name"))))
