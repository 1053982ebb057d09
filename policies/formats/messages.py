"""Turns as the messages that trainers read.

    {"role", "content", "name"?, "tool_calls"?, "tool_call_id"?, "reasoning_content"?, "weight"?}

What consumers disagree on, and what is written (tried with every chat template that TRL 1.16 ships):

* **Arguments of a call.** OpenAI, Mistral and Axolotl want JSON text, and chatml has it. TRL hands them to the chat
  template as they are, and most templates write text a second time as JSON, or fail: TRL's own formats have objects.
* **Content beside calls.** Null makes some templates fail (GPT-OSS, Qwen3-VL, LFM2), a missing key more of them; OpenAI
  takes either. It is "" where nothing was said.
* **Reasoning.** `reasoning_content`, which the templates of Qwen3, GLM, Nemotron, Gemma 4 and LFM2 read. GPT-OSS reads
  `thinking`: rename it for that one.
* **Pictures, sounds, files** are OpenAI's content parts; such a content is a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from policies.conversation import Attachment, Content, ToolCall, Turn
from policies.formats.turns import arguments_of

__all__ = ["Message", "message", "messages", "tools_of"]

Message = dict[str, Any]


def messages(
    turns: Iterable[Turn],
    *,
    objects: bool = False,
    reasoning: bool = False,
    unlearnt: Callable[[Turn], bool] | None = None,
) -> list[Message]:
    """One message a turn. Where `unlearnt` holds of an assistant's turn, its message has the weight 0."""
    said = []
    for turn in turns:
        made = message(turn, objects=objects, reasoning=reasoning)
        if unlearnt is not None and turn.role == "assistant" and unlearnt(turn):
            made["weight"] = 0
        said.append(made)
    return said


def message(turn: Turn, *, objects: bool = False, reasoning: bool = False) -> Message:
    """A turn whose calls have ids. `objects`: arguments as objects instead of JSON text."""
    made: Message = {"role": turn.role, "content": _content(turn.content)}
    if turn.name and (objects or turn.role != "tool"):  # OpenAI's tool messages have none, TRL's templates read it
        made["name"] = turn.name
    if turn.call_id:
        made["tool_call_id"] = turn.call_id
    if turn.calls:
        made["tool_calls"] = [_call(call, objects) for call in turn.calls]
    if reasoning and turn.reasoning and turn.role == "assistant":
        made["reasoning_content"] = turn.reasoning
    return made


def tools_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The top-level `tools` of a line, if there are functions among them; no template knows tools of another type."""
    functions = [tool for tool in tools if tool.get("type") == "function" and isinstance(tool.get("function"), Mapping)]
    return {"tools": functions} if functions else {}


def _content(content: Content) -> str | list[Mapping[str, Any]]:
    if isinstance(content, str):
        return content
    if not any(isinstance(piece, Attachment) for piece in content):
        return "\n".join(piece for piece in content if isinstance(piece, str))
    return [{"type": "text", "text": piece} if isinstance(piece, str) else piece.part or {} for piece in content]


def _call(call: ToolCall, objects: bool) -> Message:
    arguments = arguments_of(call) if objects else call.arguments.strip() or "{}"
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
