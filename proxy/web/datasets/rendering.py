"""A training line as a conversation that a person can read: who speaks, what was called, and what is not taught.

The form of a line is told by its members and not by the dataset's settings, for a file may hold rehearsal lines of any
origin. Nothing is left out: what is not understood is shown as the JSON that it is, and bytes that are no JSON as text.
Console and command line show the same rows; each escapes them for the place where it puts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, assert_never

import orjson

from policies.formats import Format, Holds, Member, format_of
from policies.wording import size

__all__ = ["Form", "Rendering", "Row", "render", "rows_in"]

_THUMBNAIL_CHARS: Final = 400_000
"""Longest `data:` address that becomes a thumbnail; a page of large pictures would weigh more than it says."""
_THUMBNAIL: Final = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}")
_THOUGHT: Final = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*(.*)", re.DOTALL)
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
_MESSAGE: Final = frozenset(("role", "content", "tool_calls", "function_call", "tool_call_id", "name", "weight",
                             "train", "refusal", *_REASONING))  # fmt: skip
_MEDIA: Final = {
    "image_url": "picture", "image": "picture", "input_image": "picture", "input_audio": "sound", "audio": "sound",
    "audio_url": "sound", "video": "video", "video_url": "video", "file": "file", "input_file": "file",
    "document": "file",
}  # fmt: skip


class Form(StrEnum):
    """What a row shows, beside plain text."""

    TEXT = "text"
    REASONING = "reasoning"
    """What the model thought; long, and folded where that can be done."""
    CALL = "call"
    """A tool that the model called."""
    RESULT = "result"
    """What a tool answered."""
    MEDIA = "media"
    """A picture, a sound, a video, a file: in words, and as a thumbnail where it is a small picture."""
    TOOLS = "tools"
    """The tools that were offered."""
    RAW = "raw"
    """Something that was not understood, as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that one side said."""

    speaker: str
    text: str
    form: Form = Form.TEXT
    marks: tuple[str, ...] = ()
    """What there is to know about it: `not taught: weight 0`, `rejected`."""
    taught: bool = True
    """Whether a model may learn to say this, or it is not the model's to say. False is shown in grey."""
    picture: str | None = None
    """The `data:` address of a small picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A line, ready to be read."""

    format: str
    """Told from the line itself: one of `policies.formats.FORMATS`, nvidia, or unknown."""
    rows: tuple[Row, ...]
    members: tuple[str, ...] = ()
    """What the JSON object has."""


def render(line: bytes) -> Rendering:
    """`line` of a JSONL file as rows. Never raises: whatever is malformed is shown as it is."""
    try:
        return _rendered(orjson.loads(line))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # no JSON, or nested more deeply than can be written
        return Rendering(format="unknown", rows=(_raw("line", line.decode("utf-8", "replace")),))


def _rendered(body: Any) -> Rendering:
    if isinstance(body, dict):
        if body.keys() >= _NVIDIA:
            return Rendering(format="nvidia", rows=_whole(body, _nvidia(body), _NVIDIA), members=tuple(body))
        if (form := format_of(body)) is not None:
            return Rendering(format=form.name, rows=rows_in(form, body), members=tuple(body))
    return Rendering(format="unknown", rows=(_raw("line", body),))


def _whole(body: Mapping[str, Any], rows: Iterator[Row], members: Set[str]) -> tuple[Row, ...]:
    """The rows of a line between the tools that were offered and what no format has."""
    return (*_tools(body), *rows, *_rest(body, members))


# Formats


def rows_in(form: Format, body: Mapping[str, Any]) -> tuple[Row, ...]:
    """The rows of a line that has the fields of `form`."""
    return _whole(body, _said_in(form, body) if form.message_fields else _alpaca(body), form.fields.keys())


def _said_in(form: Format, body: Mapping[str, Any]) -> Iterator[Row]:
    for name, member in form.message_fields.items():
        match member:
            case Member.CONVERSATION:
                yield from _messages(body[name])
            case Member.CONTEXT:
                yield from _context(body[name])
            case Member.REJECTED:
                yield from _marked(_messages(body[name], "assistant"), name, taught=False)
            case Member.ANSWER if Holds.LABELS in form.holds:
                yield from _labelled(_messages(body[name], "assistant"), body["label"])
            case Member.ANSWER if Holds.PAIRS in form.holds:
                yield from _marked(_messages(body[name], "assistant"), name)
            case Member.ANSWER:
                yield from _messages(body[name], "assistant")
            case _:
                assert_never(member)


def _labelled(rows: Iterator[Row], label: Any) -> Iterator[Row]:
    marks = {True: "wanted", False: "not wanted"}
    mark = marks[label] if isinstance(label, bool) else f"label {_json(label)}"
    return _marked(rows, mark, taught=label is not False)


def _nvidia(body: Mapping[str, Any]) -> Iterator[Row]:
    request, response = body["request"], body["response"]
    if not isinstance(request, dict) or not isinstance(response, dict) or not isinstance(response.get("choices"), list):
        yield _raw("request", request)
        yield _raw("response", response)
        return
    yield from _tools(request)
    yield from _messages(request.get("messages"))
    for choice in response["choices"]:
        message = choice.get("message") if isinstance(choice, dict) else None
        yield from [_raw("choice", choice)] if message is None else _messages([message])


def _alpaca(body: Mapping[str, Any]) -> Iterator[Row]:
    if "system" in body:
        yield from _content("system", body["system"])
    history = body.get("history", [])
    for pair in history if isinstance(history, list) else [history]:
        if isinstance(pair, list) and len(pair) == 2:
            yield from _content("user", pair[0])
            yield from _content("assistant", pair[1])
        else:
            yield _raw("history", pair)
    yield from _content("user", body["instruction"])
    if body.get("input", "") != "":
        yield from _marked(_content("user", body["input"]), "input")
    yield from _content("assistant", body["output"])


_NVIDIA: Final = frozenset(("request", "response"))
_OPTIONAL: Final = frozenset(("tools", "system", "history", "input", "timestamp", "client_id", "workload_id"))


def _rest(body: Mapping[str, Any], members: Set[str]) -> Iterator[Row]:
    """Members that no format has."""
    rest = {name: value for name, value in body.items() if name not in members and name not in _OPTIONAL}
    if rest:
        yield _raw("also in the line", rest)


def _tools(body: Mapping[str, Any]) -> Iterator[Row]:
    tools = body.get("tools")
    if not tools:
        return
    if isinstance(tools, str):  # TRL takes them as JSON text, too
        try:
            tools = orjson.loads(tools)
        except orjson.JSONDecodeError:
            yield _raw("tools", tools)
            return
    listed = tools if isinstance(tools, list) else [tools]
    names = [_name_of(tool) for tool in listed]
    yield Row(speaker="tools", text=_json(tools), form=Form.TOOLS, marks=(f"offered: {', '.join(names)}",))


def _name_of(tool: Any) -> str:
    inner = tool.get("function", tool.get("custom", tool)) if isinstance(tool, dict) else tool
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else "?"


# Messages


def _context(prompt: Any) -> Iterator[Row]:
    """What comes before the answer that is learnt: no answer in it is."""
    for row in _messages(prompt, "user"):
        yield replace(row, taught=False, marks=(*row.marks, _PROMPT)) if row.speaker == "assistant" else row


_PROMPT: Final = "not taught: part of the prompt"


def _messages(messages: Any, speaker: str = "user") -> Iterator[Row]:
    """A list of messages, or a bare text of `speaker`."""
    if isinstance(messages, str):
        yield from _content(speaker, messages)
    elif isinstance(messages, list):
        for message in messages:
            yield from _message(message)
    else:
        yield _raw(speaker, messages)


def _message(message: Any) -> Iterator[Row]:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        yield _raw("message", message)
        return
    rows = list(_said(message))
    untaught = _untaught(message)
    if untaught is not None:
        rows = [replace(row, taught=False, marks=(*row.marks, untaught)) for row in rows]
    yield from rows


def _untaught(message: Mapping[str, Any]) -> str | None:
    """Why a model does not learn this turn: OpenAI's `weight`, Axolotl's `train`."""
    weight = message.get("weight")
    if isinstance(weight, int | float) and weight == 0:
        return "not taught: weight 0"
    return "not taught: train false" if message.get("train") is False else None


def _said(message: Mapping[str, Any]) -> Iterator[Row]:
    role = message["role"]
    for name in _REASONING:
        if message.get(name):
            yield from _thought(role, message[name])
    form = Form.RESULT if role == "tool" else Form.TEXT
    marks = tuple(f"{word} {message[key]}" for key, word in (("name", "name"), ("tool_call_id", "answers"))
                  if isinstance(message.get(key), str))  # fmt: skip
    calls = message.get("tool_calls") or []
    content = message.get("content")
    silent = content is None or content in ("", [])
    if not silent or not (calls or message.get("function_call") or message.get("refusal")):
        for row in _content(role, "" if content is None else content, form):
            yield replace(row, marks=(*marks, *row.marks))
    if message.get("refusal"):
        yield from _marked(_content(role, message["refusal"]), "refusal")
    for call in calls if isinstance(calls, list) else [calls]:
        yield _call(role, call)
    if message.get("function_call"):
        yield _call(role, {"function": message["function_call"]})
    rest = {name: value for name, value in message.items() if name not in _MESSAGE}
    if rest:
        yield _raw(role, rest)


def _thought(role: str, thought: Any) -> Iterator[Row]:
    yield Row(speaker=role, text=thought if isinstance(thought, str) else _json(thought), form=Form.REASONING)


def _call(role: str, call: Any) -> Row:
    inner = call.get("function", call.get("custom")) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        return _raw(role, call)
    arguments = inner.get("arguments", inner.get("input", ""))
    text = f"{inner['name']}({arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()})"
    name = call.get("id")
    return Row(speaker=role, text=text, form=Form.CALL, marks=(f"id {name}",) if isinstance(name, str) else ())


def _content(role: str, content: Any, form: Form = Form.TEXT) -> Iterator[Row]:
    """A text, or parts of whatever kind."""
    if isinstance(content, str):
        thought = _THOUGHT.fullmatch(content) if role == "assistant" else None
        if thought is not None:
            yield Row(speaker=role, text=thought[1].strip(), form=Form.REASONING)
            content = thought[2]
        if content or thought is None:
            yield Row(speaker=role, text=content, form=form)
    elif isinstance(content, list):
        for part in content:
            yield from _part(role, part, form)
    else:
        yield _raw(role, content)


def _part(role: str, part: Any, form: Form) -> Iterator[Row]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, str):
        yield Row(speaker=role, text=part, form=form)
    elif kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
        yield Row(speaker=role, text=part["text"], form=form)
    elif kind in ("thinking", "reasoning") and isinstance(thought := part.get("thinking", part.get("text")), str):
        yield Row(speaker=role, text=thought, form=Form.REASONING)
    elif isinstance(kind, str) and kind in _MEDIA:
        yield _media(role, _MEDIA[kind], part)
    else:
        yield _raw(role, part)


def _media(role: str, what: str, part: Mapping[str, Any]) -> Row:
    where = _longest_text(part)
    if where.startswith("data:"):
        data = where.partition(",")[2]
    elif where.startswith(("http://", "https://")):
        return Row(speaker=role, text=f"[{what} at {where}]", form=Form.MEDIA)
    else:
        data = where
    small = len(where) <= _THUMBNAIL_CHARS and _THUMBNAIL.fullmatch(where) is not None
    text = f"[{what}, {size(len(data) * 3 // 4)}]" if data else f"[{what}, without its data]"
    return Row(speaker=role, text=text, form=Form.MEDIA, picture=where if small and what == "picture" else None)


def _longest_text(part: Any, depth: int = 4) -> str:
    """The data or the address of a medium, under whatever names: by far the longest text in it."""
    if isinstance(part, str):
        return part
    members: Sequence[Any] = ()
    if isinstance(part, dict) and depth:
        members = [value for name, value in part.items() if name not in ("type", "detail", "format", "media_type")]
    return max((_longest_text(member, depth - 1) for member in members), key=len, default="")


def _marked(rows: Iterator[Row], mark: str, *, taught: bool = True) -> Iterator[Row]:
    for row in rows:
        yield replace(row, marks=(*row.marks, mark), taught=row.taught and taught)


def _raw(speaker: str, value: Any) -> Row:
    return Row(speaker=speaker, text=value if isinstance(value, str) else _json(value), form=Form.RAW)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
