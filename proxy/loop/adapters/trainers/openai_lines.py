"""Training lines as OpenAI's fine-tuning takes them.

    supervised   {"messages", "tools"?}                  weights 0 and 1 on assistant messages only, the last one learnt
    dpo          {"input": {"messages", "tools"?}, "preferred_output": [message], "non_preferred_output": [message]}

Arguments of calls become JSON text, contents that are words alone become text, and keys that the API does not know
(`reasoning_content`) go. One bad line makes it refuse the whole file, so that what it does not take at all is left out:
sounds, files, pictures that no user sent, more than ten pictures.

Source: the guides "Supervised fine-tuning", "Direct preference optimization" and "Vision fine-tuning" of its platform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from proxy.errors import PermanentError
from proxy.private import open_private

__all__ = ["REFUSED", "as_openai", "method_of", "rewrite"]

REFUSED: Final = (
    "it takes pictures in users' messages, at most ten a line, but no sounds, no files and no lines in another form"
)
_KEYS: Final = ("role", "content", "name", "tool_calls", "tool_call_id", "refusal")
_MAX_PICTURES: Final = 10


def method_of(path: Path) -> str:
    """How to train on this file, by its first line. Raises PermanentError for a format that the API does not take."""
    with path.open("rb") as lines:
        first = orjson.loads(next(iter(lines), b"{}"))
    if "chosen" in first and not isinstance(first["prompt"], str):
        return "dpo"
    if "messages" in first or (isinstance(first.get("prompt"), list) and "label" not in first):
        return "supervised"
    raise PermanentError(
        "trainer.kind openai takes generator_config.format_type chatml, prompt_completion or dpo, and at least one"
        " sample"
    )


def rewrite(source: Path, target: Path) -> tuple[int, int]:
    """Write the lines of `source` as the API takes them; returns how many, and how many were left out."""
    kept = refused = 0
    with source.open("rb") as lines, open_private(target, "wb") as out:
        for line in lines:
            found = orjson.loads(line)
            try:
                made = as_openai(found)
            except (KeyError, TypeError, AttributeError):  # a rehearsal line in nobody's form
                made = None
            if made is None:
                refused += 1
                continue
            kept += 1
            out.write(line.rstrip(b"\n") if made == found else _dumped(made))
            out.write(b"\n")
    return kept, refused


def as_openai(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """One line; None for what the API does not take."""
    tools = {"tools": line["tools"]} if line.get("tools") else {}
    if "chosen" in line:
        asked, good, bad = (_messages(line[key]) for key in ("prompt", "chosen", "rejected"))
        if not (_taken(asked) and _taken(good) and _taken(bad)):
            return None
        return {"input": {"messages": asked, **tools}, "preferred_output": good, "non_preferred_output": bad}
    if "messages" in line:
        said = _messages(line["messages"], weights=True)
    else:
        said = [*_unlearnt(_messages(line["prompt"])), *_messages(line["completion"])]
    return {"messages": said, **tools} if _taken(said) else None


def _messages(messages: Sequence[Mapping[str, Any]], *, weights: bool = False) -> list[dict[str, Any]]:
    return [_message(message, weights) for message in messages]


def _message(message: Mapping[str, Any], weights: bool) -> dict[str, Any]:
    made = {key: message[key] for key in _KEYS if message.get(key) is not None}
    made["content"] = _content(message.get("content"))
    if "tool_calls" in made:
        made["tool_calls"] = [_call(call) for call in made["tool_calls"]]
    if weights and message.get("role") == "assistant" and message.get("weight") is not None:
        made["weight"] = 1 if message["weight"] else 0
    return made


def _content(content: Any) -> Any:
    if not isinstance(content, list) or any(part.get("type") != "text" for part in content):
        return content
    return "\n".join(part["text"] for part in content)


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _unlearnt(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**message, "weight": 0} if message["role"] == "assistant" else message for message in messages]


def _taken(messages: Sequence[Mapping[str, Any]]) -> bool:
    pictures = 0
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part.get("type") == "image_url" and message["role"] == "user":
                pictures += 1
            elif part.get("type") != "text":
                return False
    return pictures <= _MAX_PICTURES


def _dumped(line: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(line)
    except orjson.JSONEncodeError:  # a lone surrogate, which is no UTF-8
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
