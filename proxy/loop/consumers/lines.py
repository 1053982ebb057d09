"""What the lines of a training file look like, and what every reader of conversations asks of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policies.formats import FORMATS, ConsumerName, Member, format_of

__all__ = [
    "as_list",
    "dialogue",
    "form_of",
    "formats_for",
    "function_of",
    "message_problems",
    "parts_problems",
    "tools_of",
    "tools_problems",
]

_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")


_OPENAI_PAIRS: Final = frozenset({"input", "preferred_output", "non_preferred_output"})


def form_of(line: Mapping[str, Any]) -> str | None:
    """How a line is built: the name of a format of ours, or openai_pairs; None where nobody knows."""
    if line.keys() >= _OPENAI_PAIRS:
        return "openai_pairs"
    form = format_of(line)
    return None if form is None else form.name


def dialogue(line: Mapping[str, Any]) -> list[tuple[str, list[Any]]]:
    """The conversations of a line, each with the name of where it ends: a pair has two."""
    if form_of(line) == "openai_pairs":
        asked = line["input"].get("messages") if isinstance(line["input"], Mapping) else None
        sides = ("preferred_output", "non_preferred_output")
        return [(side, as_list(asked) + as_list(line[side])) for side in sides]
    form = format_of(line)
    if form is None or str in form.fields.values():
        return []
    contexts = [as_list(line[name]) for name, member in form.message_fields.items() if member is Member.CONTEXT]
    before = [message for context in contexts for message in context]
    ends = [name for name, member in form.message_fields.items() if member is not Member.CONTEXT]
    return [(name, before + as_list(line[name])) for name in ends]


def formats_for(consumer: ConsumerName) -> tuple[str, ...]:
    """The formats that a consumer takes."""
    return tuple(name for name, form in FORMATS.items() if consumer in form.consumers)


def tools_of(line: Mapping[str, Any]) -> Any:
    """The tools that a line offers: at its top, or inside of OpenAI's `input`; [] where it offers none."""
    asked = line.get("input")
    tools = line.get("tools", asked.get("tools") if isinstance(asked, Mapping) else None)
    return [] if tools is None else tools


def message_problems(messages: Sequence[Any], tools: Any) -> Iterator[str]:
    """What is wrong with a conversation for everybody: roles, contents, calls without results and the reverse."""
    if not messages:
        yield "there is no message"
    open_calls: dict[str, str] = {}
    offered = {str(function_of(tool).get("name")) for tool in as_list(tools)}
    for message in messages:
        if not isinstance(message, Mapping):
            yield "a message is not an object"
            continue
        role = message.get("role")
        if role not in _ROLES:
            yield f"a message has the role {_shown(role)}, which is none of {', '.join(_ROLES)}"
        if role == "tool":
            if open_calls.pop(str(message.get("tool_call_id")), None) is None:
                yield "a tool's message answers no call before it (tool_call_id)"
        elif open_calls:
            yield "a call of a tool has no result before the next message"
            open_calls = {}
        calls = as_list(message.get("tool_calls"))
        yield from _content_problems(message, calls)
        yield from _calls_problems(calls, offered)
        open_calls |= {str(call.get("id")): "" for call in calls if isinstance(call, Mapping)}


def tools_problems(tools: Any) -> Iterator[str]:
    """What is wrong with the top-level `tools`."""
    if not isinstance(tools, list):
        yield "`tools` is not a list"
        return
    for tool in tools:
        function = function_of(tool)
        if not isinstance(function.get("name"), str) or not function["name"]:
            yield 'a tool is not {"type": "function", "function": {"name": …}}'
        elif not isinstance(function.get("parameters", {}), Mapping):
            yield f"the parameters of the tool {function['name']} are not a JSON schema"


def parts_problems(content: Sequence[Any], allowed: Sequence[str]) -> Iterator[str]:
    """What is wrong with a content in parts, of which only the types `allowed` are taken."""
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in allowed:
            yield f"a part of a content has the type {_shown(kind)}; taken are {', '.join(allowed)}"


def _content_problems(message: Mapping[str, Any], calls: list[Any]) -> Iterator[str]:
    content = message.get("content")
    if content is not None and not isinstance(content, str | list):
        yield "a content is neither text nor a list of parts"
    elif not content and not calls and message.get("role") == "assistant":
        yield "an assistant's message says nothing and calls nothing"


def _calls_problems(calls: list[Any], offered: set[str]) -> Iterator[str]:
    for call in calls:
        function = function_of(call)
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(call, Mapping) or not call.get("id"):
            yield "a call has no id"
        if not isinstance(name, str) or not name:
            yield "a call does not name a tool"
        elif offered and name not in offered:
            yield f"the tool {name} is called, but not among `tools`"
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                yield "the arguments of a call are not JSON"
                continue
        if not isinstance(arguments, Mapping):
            yield "the arguments of a call are not a JSON object"


def _shown(value: Any) -> str:
    return repr(value)[:40]


def function_of(tool: Any) -> Mapping[str, Any]:
    """The function of a tool, or of a call; {} where it has none."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function if isinstance(function, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []
