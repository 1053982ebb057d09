"""OpenAI's fine-tuning: the rules of its guide and of what its API refuses.

There is no library to ask, so that all of it is written down here. Preference lines in TRL's form are looked at as
`trainer.kind = openai` uploads them.

Sources: developers.openai.com, guides "Supervised fine-tuning", "Direct preference optimization", "Vision fine-tuning".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.loop.consumers.lines import (
    as_list,
    dialogue,
    form_of,
    formats_for,
    function_of,
    message_problems,
    parts_problems,
    tools_of,
    tools_problems,
)
from proxy.loop.consumers.report import Report

__all__ = ["OpenAI"]

_TOP: Final = {
    "chatml": {"messages", "tools", "parallel_tool_calls", "functions"},
    "openai_pairs": {"input", "preferred_output", "non_preferred_output"},
    "dpo": {"prompt", "chosen", "rejected", "tools"},
}
_IN_MESSAGE: Final = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "function_call", "weight", "refusal"}
)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MIN_LINES: Final = 10
_MAX_BYTES: Final = 512 * 1024 * 1024
_MAX_PICTURES: Final = 10
_MAX_PICTURE_CHARS: Final = 10 * 1024 * 1024 * 4 // 3
_PICTURE: Final = re.compile(r"data:image/(?:jpeg|png|webp);base64,|https?://")


class OpenAI:
    """Supervised (chatml) and preference (dpo) files."""

    name = "openai"
    takes = formats_for("openai")
    checked_by = "OpenAI's written rules"
    notes: tuple[str, ...] = ("the token limit of the model is not checked.",)

    def problems(self, line: Mapping[str, Any]) -> Iterator[str]:
        """What the API would refuse about a line."""
        form = form_of(line)
        if form not in _TOP:
            formats = " or ".join(self.takes)
            yield f"the line is neither supervised (`messages`) nor a preference; write the format {formats}"
            return
        for key in sorted(line.keys() - _TOP[form]):
            yield f"the top-level key {key!r} is not known"
        tools = tools_of(line)
        yield from tools_problems(tools)
        yield from _names(tools)
        for where, messages in dialogue(line):
            yield from message_problems(messages, tools)
            yield from _rules(messages, weighted=where == "messages")

    def file_problems(self, report: Report, size: int) -> Iterator[str]:
        """What it would refuse about the file."""
        if report.lines < _MIN_LINES:
            yield f"{report.lines} lines are too few: OpenAI takes {_MIN_LINES} and more"
        if size > _MAX_BYTES:
            yield f"{size:,} bytes are too many: OpenAI takes files up to 512 MiB"


def _rules(messages: list[Any], *, weighted: bool) -> Iterator[str]:
    said = [message for message in messages if isinstance(message, Mapping)]
    if said and said[-1].get("role") != "assistant":
        yield "the last message is not the assistant's"
    answers = [message for message in said if message.get("role") == "assistant"]
    if not any(message.get("weight", 1) for message in answers):
        yield "no assistant message is trained on: all weights are 0"
    pictures = 0
    for message in said:
        for key in sorted(message.keys() - _IN_MESSAGE):
            yield f"the key {key!r} of a message is not known"
        if "weight" in message and (message.get("role") != "assistant" or not weighted):
            yield "`weight` stands on a message that can have none"
        elif message.get("weight", 1) not in (0, 1):
            yield f"a weight is {repr(message['weight'])[:20]}; it can be 0 or 1"
        content = message.get("content")
        if isinstance(content, list):
            yield from _parts(message, content)
            pictures += sum(isinstance(part, Mapping) and part.get("type") == "image_url" for part in content)
        for call in as_list(message.get("tool_calls")):
            if not isinstance(function_of(call).get("arguments", ""), str):
                yield "the arguments of a call are not JSON text"
    if pictures > _MAX_PICTURES:
        yield f"more than {_MAX_PICTURES} pictures"


def _parts(message: Mapping[str, Any], content: list[Any]) -> Iterator[str]:
    allowed = ("text", "image_url") if message.get("role") == "user" else ("text", "refusal")
    yield from parts_problems(content, allowed)
    for part in content:
        picture = part.get("image_url") if isinstance(part, Mapping) else None
        url = picture.get("url") if isinstance(picture, Mapping) else None
        if isinstance(url, str) and not _PICTURE.match(url):
            yield "a picture is neither JPEG, PNG nor WebP as a data URL, nor an address"
        elif isinstance(url, str) and len(url) > _MAX_PICTURE_CHARS:
            yield "a picture is larger than 10 MB"


def _names(tools: Any) -> Iterator[str]:
    for tool in as_list(tools):
        name = function_of(tool).get("name")
        if isinstance(name, str) and not _NAME.fullmatch(name):
            yield f"the tool's name {name!r} has other characters than letters, digits, _ and -, or more than 64"
