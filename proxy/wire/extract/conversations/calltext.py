"""Tool calls that came as text: the model tried to call, and its server did not understand.

Every family of models has marks of its own for a call; a server that is told the wrong parser, or a model that gets
its own form wrong, hands them on as words. Nobody runs such a call, and the user reads gibberish. What talks about
calls (in quotes, in a block of code, in the middle of a sentence) is none, and neither is anything where no tool was
offered.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Final

from proxy.wire.extract.conversations.thoughts import Fences, split_thoughts
from proxy.wire.extract.values import items, json_in, mapping, text

__all__ = ["is_call_text", "may_be_call", "offered"]

_MARKS: Final = (
    r"<\|?/?tool_calls?\|?>", r"<(?:\w+:)?(?:tool_call|function_calls?)>", r"<function[ =]", r"<invoke name=",
    r"<\|python_tag\|>", r"\[TOOL_CALLS?\]", r"\[TOOL_REQUEST\]", r"<\|tool_calls?_(?:section_)?(?:begin|start)\|>",
    r"<｜tool▁calls?▁begin｜>", r"<\|action_start\|>", r"functools\[", r"<\|channel\|>\w+ to=functions\.",
    r"(?:```|~~~)tool_(?:call|code)s?\b",
)  # fmt: skip
_AT_START: Final = re.compile(rf"^[ \t]*(?:{'|'.join(_MARKS)})", re.MULTILINE)
"""A mark that begins a line."""
_WITHIN: Final = re.compile(
    r"""(?<![`'"“‘])(?:<\|?tool_call\|?>\s*[{\[]|<function=[\w.-]+>|\[TOOL_CALLS\]\s*[\[{\w]"""
    r"""|<\|python_tag\|>|<\|tool_calls?_(?:section_)?(?:begin|start)\|>|<｜tool▁calls?▁begin｜>)"""
)
"""One that goes straight on with a call, wherever it stands."""
_TOOL_FENCE: Final = re.compile(r"\s*(?:```|~~~)tool_")
_FENCE_LINE: Final = re.compile(r"(?:```|~~~)\w*[^\S\n]*\n")
_PYTHONIC: Final = re.compile(r"\[?\s*([\w.-]+)\(.*\)\s*\]?", re.DOTALL)
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input", "action_input", "tool_input", "kwargs")
_NAMES: Final = ("name", "function", "tool", "tool_name", "function_name", "action")
_TAGS: Final = ("tool_", "tool▁", "<function", "<invoke", "python_tag", "action_start", "to=functions", "think>")
"""One of these is in whatever has a mark in angle brackets, or a thought before it."""
_BARE: Final = ("{", "[", "`", "~")
_NAME: Final = re.compile(r"\s*[\w.-]+\(")
_TOOLS: Final = ("tools", "functions", "toolConfig")


def offered(request: dict[str, Any]) -> frozenset[str]:
    """The names of the tools that a request offers, in whichever API's form."""
    return frozenset(name for key in _TOOLS if key in request for name in _names(request[key], 0))


def _names(value: Any, depth: int) -> list[str]:
    """Names in a list of tools, or in what wraps one."""
    if depth > 4:
        return []
    if isinstance(value, list):
        return [name for one in value for name in _names(one, depth)]
    fields = mapping(value)
    if name := text(fields.get("name")):
        return [name]
    inner = ("tools", "function", "custom", "toolSpec", "functionDeclarations", "function_declarations")
    return [name for key in inner if key in fields for name in _names(fields[key], depth + 1)]


def may_be_call(said: str) -> bool:
    """Whether words are worth a closer look: nearly none are, and single letters are quickest to look for."""
    if said.lstrip()[:1] in _BARE or _NAME.match(said) is not None:
        return True
    if "<" in said and any(tag in said for tag in _TAGS):
        return True
    if "[" in said and ("[TOOL_" in said or "functools[" in said):
        return True
    return ("`" in said and "```tool_" in said) or ("~" in said and "~~~tool_" in said)


def is_call_text(said: str, names: Container[str]) -> bool:
    """Whether words are a call (or hold one) of tools with these `names`, which must have been offered."""
    _, said = split_thoughts(said)
    if not may_be_call(said):
        return False
    fences = Fences(said)
    for pattern in (_AT_START, _WITHIN):
        if any(_meant(said, fences, found.start()) for found in pattern.finditer(said)):
            return True
    return _is_call(_unfenced(said.strip()), names)


def _meant(said: str, fences: Fences, place: int) -> bool:
    """Whether what stands at `place` is no quotation: not in a block of code, but for one that is a call itself."""
    block = fences.around(place)
    return block is None or _TOOL_FENCE.match(said, block) is not None


def _unfenced(said: str) -> str:
    """What stands in the block of code that a whole text is; any other text as it is."""
    begins = _FENCE_LINE.match(said)
    if begins is None or not said.endswith(("```", "~~~")) or len(said) < begins.end() + 3:
        return said
    return said[begins.end() : -3].strip()


def _is_call(said: str, names: Container[str]) -> bool:
    """Whether a whole text is the JSON of calls, or what would be one in Python."""
    if said[:1] in ("{", "[") and (value := json_in(said)) is not said:
        calls = [mapping(call) for call in items(value) or [value]]
        return bool(calls) and all(_names_tool(call, names) for call in calls)
    spoken = _PYTHONIC.fullmatch(said)
    return spoken is not None and spoken[1] in names


def _names_tool(call: dict[str, Any], names: Container[str]) -> bool:
    function = mapping(call.get("function")) or call
    named = any((name := text(function.get(key))) is not None and name in names for key in _NAMES)
    return named and any(key in function for key in _ARGUMENTS)
