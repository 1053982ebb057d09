"""OpenAI chat completions (`…/chat/completions`), also as Azure, vLLM, llama.cpp, TGI and many others speak it.

Streams are reassembled into a `chat.completion`: content, refusal, reasoning, tool calls, the legacy function call,
log probabilities, usage, and an error in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.calls import Call, Calls
from proxy.wire.extract.conversations import chat as conversation
from proxy.wire.extract.failures import bad_finish, error_text, is_error
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.tokens import add_usage, count_in, usage_of
from proxy.wire.extract.values import (
    content_text,
    count,
    has_words,
    items,
    kind_of,
    last_user_text,
    lines,
    mapping,
    text,
    tool_call,
    turn,
)

__all__ = ["KIND", "SHAPE", "error_in", "fits", "merge_chunks", "parse_request", "parse_response", "wants_json"]

_PER_CHUNK: Final = frozenset({"choices", "usage", "object", "obfuscation", "error", "x_groq"})
_ONCE: Final = frozenset({"role", "id", "type", "name"})
_GROWING: Final = frozenset({"text", "thinking", "output_text", "reasoning.text", "reasoning.summary"})
"""Types of parts that come in pieces."""
_SILENT: Final = _ONCE | {"annotations", "provider_specific_fields", "obfuscation"}
"""Members of a delta that are no words of the answer."""


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a chat."""
    return isinstance(request.get("messages"), list)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The conversation, its last user turn, and whether JSON was asked for."""
    messages = [_message(mapping(message)) for message in items(request.get("messages"))]
    return ParsedRequest(query=last_user_text(messages), messages=messages, json_requested=wants_json(request))


def wants_json(request: dict[str, Any]) -> bool:
    """Whether the request asks for JSON: `response_format`, or vLLM's guided decoding."""
    if mapping(request.get("response_format")).get("type") in ("json_object", "json_schema"):
        return True
    return bool(request.get("guided_json") or mapping(request.get("structured_outputs")).get("json"))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The first choice's text with its tool calls, and the usage."""
    choices = items(response.get("choices"))
    choice = mapping(choices[0]) if choices else {}
    message = mapping(choice.get("message"))
    said, words = _said(message) if message else (None, None)
    answered = ParsedResponse(
        text=said,
        words=words,
        finish_reason=text(choice.get("finish_reason")),
        provider_id=text(response.get("id")),
        refused=bool(message.get("refusal")),
        error=error_in(choices),
    )
    return count_in(answered, usage_of(response))


def _said(message: dict[str, Any]) -> tuple[str, str | None]:
    """The text of an answer with its tool calls; and without them, where it has any."""
    content, refusal, calls = message.get("content"), text(message.get("refusal")), _calls(message)
    if isinstance(content, str) and content and not refusal and not calls:
        return content, None  # nearly every answer
    pieces = [content_text(content, separator=""), refusal]
    words = lines(pieces) if calls else None
    pieces += calls
    if not any(pieces):
        pieces.append(text(mapping(message.get("audio")).get("transcript")))
    return lines(pieces), words


def error_in(choices: list[Any]) -> str | None:
    """What says that one of the choices failed."""
    for value in choices:
        choice = mapping(value)
        if (error := choice.get("error")) and is_error(error):
            return error_text(error)
        if (words := bad_finish(choice.get("finish_reason"))) is not None:
            return words
    return None


def _message(message: dict[str, Any]) -> dict[str, str]:
    content = message.get("content")
    if isinstance(content, str) and "tool_calls" not in message and "function_call" not in message:
        return {"role": text(message.get("role")) or "user", "content": content}  # nearly every message
    return turn(message.get("role"), (content_text(content), *_calls(message)))


def _calls(message: dict[str, Any]) -> list[str]:
    calls: list[str] = []
    if "tool_calls" not in message and "function_call" not in message:
        return calls
    for value in items(message.get("tool_calls")):
        call = mapping(value)
        if custom := mapping(call.get("custom")):
            calls.append(tool_call(custom.get("name"), custom.get("input")))
        else:
            function = mapping(call.get("function"))
            calls.append(tool_call(function.get("name"), function.get("arguments")))
    if legacy := mapping(message.get("function_call")):
        calls.append(tool_call(legacy.get("name"), legacy.get("arguments")))
    return calls


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `chat.completion` that the chunks add up to."""
    whole: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, _Choice] = {}
    settled = set(_PER_CHUNK)  # streams have hundreds of chunks that all repeat the same head
    for event in events:
        if not settled.issuperset(event):
            head = {key: value for key, value in event.items() if key not in settled and value not in (None, "")}
            whole |= head
            settled |= head.keys()
        for position, choice in enumerate(map(mapping, items(event.get("choices")))):
            index = count(choice.get("index", position)) or 0
            (choices.get(index) or choices.setdefault(index, _Choice())).add(choice)
        add_usage(whole, event)
        if event.get("error"):
            whole["error"] = event["error"]
    whole["choices"] = [choices[index].whole(index) for index in sorted(choices)]
    return whole


def _matches(event: dict[str, Any]) -> bool:
    if "choices" not in event:
        return False
    return event.get("object") == "chat.completion.chunk" or any(
        "delta" in mapping(choice) for choice in items(event["choices"])
    )


def _is_last(event: dict[str, Any]) -> bool:
    return any(mapping(choice).get("finish_reason") for choice in items(event.get("choices")))


def _has_content(event: dict[str, Any]) -> bool:
    for choice in items(event.get("choices")):
        for key, value in mapping(mapping(choice).get("delta")).items():
            if value and key not in _SILENT and (isinstance(value, str) or has_words(value)):
                return True
    return False


class _Choice:
    """One choice as its deltas arrive; text is joined once, at the end."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._parts: dict[str, list[Any]] = {}
        self._objects: dict[str, list[dict[str, Any]]] = {}
        self._fixed: dict[str, Any] = {}
        self._calls: Calls | None = None
        self._function: Call | None = None
        self._logprobs: dict[str, list[Any]] = {}
        self._finish: str | None = None
        self._error: Any = None

    def add(self, choice: dict[str, Any]) -> None:
        if finish := choice.get("finish_reason"):
            self._finish = text(finish) or self._finish
        if error := choice.get("error"):
            self._error = error
        if logprobs := choice.get("logprobs"):
            for key, tokens in mapping(logprobs).items():
                self._logprobs.setdefault(key, []).extend(items(tokens))
        for key, value in mapping(choice.get("delta")).items():
            if isinstance(value, str) and key not in _ONCE:
                if key in self._parts:
                    self._parts[key].append(value)
                else:
                    self._texts.setdefault(key, []).append(value)
            elif key == "tool_calls":
                if value and isinstance(value, list):
                    self._calls = self._calls or Calls()
                    self._calls.add(value)
            elif key == "function_call":
                self._call_function(mapping(value))
            elif isinstance(value, list):
                self._parts.setdefault(key, [*self._texts.pop(key, ())]).extend(value)
            elif isinstance(value, dict):
                self._objects.setdefault(key, []).append(value)
            elif value is not None:
                self._fixed[key] = value

    def _call_function(self, said: dict[str, Any]) -> None:
        """The legacy call; an empty one or null keeps its place in every delta of some servers."""
        if any(value is not None for value in said.values()):
            self._function = self._function or Call()
            self._function.add(said)

    def whole(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None} | self._fixed
        message |= {key: "".join(parts) for key, parts in self._texts.items()}
        if self._objects:
            message |= {key: _folded(pieces) for key, pieces in self._objects.items()}
        if self._parts:
            message |= {key: _together(parts) for key, parts in self._parts.items()}
        if self._calls is not None:
            message["tool_calls"] = self._calls.whole()
        if self._function is not None:
            message["function_call"] = self._function.as_function()
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": self._finish}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        if self._error is not None:
            choice["error"] = self._error
        return choice


def _together(parts: list[Any]) -> Any:
    """Parts of a content, neighbours that go on with each other made one; text where all of it is."""
    groups: list[list[Any]] = []
    for part in parts:
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        if groups and isinstance(part, dict) and isinstance(groups[-1][-1], dict) and _goes_on(groups[-1][-1], part):
            groups[-1].append(part)
        else:
            groups.append([part])
    joined = [group[0] if len(group) == 1 else _folded(group) for group in groups]
    if len(joined) == 1 and isinstance(joined[0], dict) and joined[0].keys() == {"type", "text"}:
        return joined[0]["text"]
    return joined


def _goes_on(before: dict[str, Any], part: dict[str, Any]) -> bool:
    kind = kind_of(part)
    return kind in _GROWING and kind == kind_of(before) and part.get("index") == before.get("index")


def _folded(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Objects that come in pieces (audio, for one) as one: texts grow, lists too, of anything else the last counts."""
    members: dict[str, list[Any]] = {}
    for piece in objects:
        for key, value in piece.items():
            said = members.setdefault(key, [])
            if value is not None:
                said.append(value)
    return {key: _grown(key, values) if values else None for key, values in members.items()}


def _grown(key: str, values: list[Any]) -> Any:
    if key not in _ONCE and all(isinstance(value, str) for value in values):
        return "".join(values)
    if all(isinstance(value, list) for value in values):
        parts = _together([part for value in values for part in value])
        return [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
    return values[-1]


KIND: Final = Kind(
    name="chat", code=0, meaning="OpenAI chat completions", operation="chat", provider="openai", trainable=True
)
SHAPE: Final[Shape] = Shape(
    name="OpenAI chat completions",
    kind=KIND,
    suffixes=("/chat/completions",),
    turns=("messages",),
    answers=("choices",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(
        matches=_matches,
        merge_chunks=merge_chunks,
        is_last=_is_last,
        has_content=_has_content,
        done=True,
        several=("choices", "finish_reason"),
    ),
)
