"""OpenAI chat completions (`…/chat/completions`), also as Azure, vLLM, llama.cpp, TGI and many others speak it.

Streams are reassembled into a `chat.completion`: content, refusal, reasoning, tool calls, the legacy function call,
log probabilities, usage, and an error in the middle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from proxy.wire.extract.model import Answer, Ask
from proxy.wire.extract.values import content_text, count, items, last_user_text, mapping, text, tool_call, turn

__all__ = ["SUFFIXES", "answer", "ask", "fits", "join", "wants_json"]

SUFFIXES: Final = ("/chat/completions",)
_PER_CHUNK: Final = frozenset({"choices", "usage", "object", "obfuscation", "error"})
_ONCE: Final = frozenset({"role", "id", "type", "name"})


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has the shape of a chat."""
    return isinstance(request.get("messages"), list)


def ask(request: dict[str, Any]) -> Ask:
    """The conversation, its last user turn, and whether JSON was asked for."""
    messages = [_message(mapping(message)) for message in items(request.get("messages"))]
    return Ask(query=last_user_text(messages), messages=messages, json_requested=wants_json(request))


def wants_json(request: dict[str, Any]) -> bool:
    """Whether the request asks for JSON: `response_format`, or vLLM's guided decoding."""
    if mapping(request.get("response_format")).get("type") in ("json_object", "json_schema"):
        return True
    return bool(request.get("guided_json") or mapping(request.get("structured_outputs")).get("json"))


def answer(response: dict[str, Any]) -> Answer:
    """The first choice's text with its tool calls, and the usage."""
    choice = next((mapping(choice) for choice in items(response.get("choices"))), {})
    message = mapping(choice.get("message"))
    pieces = [content_text(message.get("content"), separator=""), text(message.get("refusal")), *_calls(message)]
    if not any(pieces):
        pieces.append(text(mapping(message.get("audio")).get("transcript")))
    usage = mapping(response.get("usage"))
    return Answer(
        text="\n".join(piece for piece in pieces if piece) if message else None,
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        finish_reason=text(choice.get("finish_reason")),
        provider_id=text(response.get("id")),
        refused=bool(message.get("refusal")),
    )


def _message(message: dict[str, Any]) -> dict[str, str]:
    return turn(message.get("role"), (content_text(message.get("content")), *_calls(message)))


def _calls(message: dict[str, Any]) -> list[str]:
    calls: list[str] = []
    if "tool_calls" not in message and "function_call" not in message:
        return calls
    for call in map(mapping, items(message.get("tool_calls"))):
        if custom := mapping(call.get("custom")):
            calls.append(tool_call(custom.get("name"), custom.get("input")))
        else:
            function = mapping(call.get("function"))
            calls.append(tool_call(function.get("name"), function.get("arguments")))
    if legacy := mapping(message.get("function_call")):
        calls.append(tool_call(legacy.get("name"), legacy.get("arguments")))
    return calls


def join(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `chat.completion` that the chunks add up to."""
    whole: dict[str, Any] = {"object": "chat.completion"}
    choices: dict[int, _Choice] = {}
    settled = set(_PER_CHUNK)  # streams have hundreds of chunks that all repeat the same head
    for event in events:
        if not settled.issuperset(event):
            head = {key: value for key, value in event.items() if key not in settled and value not in (None, "")}
            whole |= head
            settled |= head.keys()
        for choice in map(mapping, items(event.get("choices"))):
            index = count(choice.get("index")) or 0
            (choices.get(index) or choices.setdefault(index, _Choice())).add(choice)
        for key in ("usage", "error"):
            if event.get(key):
                whole[key] = event[key]
    whole["choices"] = [choices[index].whole(index) for index in sorted(choices)]
    return whole


class _Choice:
    """One choice as its deltas arrive; text is joined once, at the end."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._fixed: dict[str, Any] = {}
        self._calls: dict[int, _Call] = {}
        self._function = _Call()
        self._logprobs: dict[str, list[Any]] = {}
        self._finish: str | None = None

    def add(self, choice: dict[str, Any]) -> None:
        if finish := choice.get("finish_reason"):
            self._finish = text(finish)
        if logprobs := choice.get("logprobs"):
            for key, tokens in mapping(logprobs).items():
                self._logprobs.setdefault(key, []).extend(items(tokens))
        for key, value in mapping(choice.get("delta")).items():
            if isinstance(value, str) and key not in _ONCE:
                self._texts.setdefault(key, []).append(value)
            elif key == "tool_calls":
                self._add_calls(items(value))
            elif key == "function_call":
                self._function.add(mapping(value))
            elif isinstance(value, list):
                self._fixed[key] = [*items(self._fixed.get(key)), *value]
            elif value is not None:
                self._fixed[key] = _merged(self._fixed.get(key), value)

    def _add_calls(self, calls: list[Any]) -> None:
        for position, call in enumerate(map(mapping, calls)):
            index = count(call.get("index"))
            index = position if index is None else index
            target = self._calls.get(index) or self._calls.setdefault(index, _Call())
            target.add(mapping(call.get("function")), call)

    def whole(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None} | self._fixed
        message |= {key: "".join(parts) for key, parts in self._texts.items()}
        if self._calls:
            message["tool_calls"] = [self._calls[i].as_tool_call() for i in sorted(self._calls)]
        if self._function.seen:
            message["function_call"] = self._function.as_function()
        choice: dict[str, Any] = {"index": index, "message": message, "finish_reason": self._finish}
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice


def _merged(old: Any, new: Any) -> Any:
    """Objects in deltas (audio, for one): strings grow, anything else is replaced."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    merged = dict(old)
    for key, value in new.items():
        grows = key not in _ONCE and isinstance(value, str) and isinstance(old.get(key), str)
        merged[key] = old[key] + value if grows else value
    return merged


class _Call:
    """A tool or function call as its deltas arrive: the name comes once, the arguments in pieces."""

    def __init__(self) -> None:
        self.seen = False
        self._id: str | None = None
        self._type = "function"
        self._name: str | None = None
        self._arguments: list[str] = []

    def add(self, function: dict[str, Any], call: dict[str, Any] | None = None) -> None:
        self.seen = True
        call = call or {}
        self._id = text(call.get("id")) or self._id
        self._type = text(call.get("type")) or self._type
        self._name = text(function.get("name")) or self._name
        self._arguments.append(text(function.get("arguments")) or "")

    def as_function(self) -> dict[str, Any]:
        return {"name": self._name, "arguments": "".join(self._arguments)}

    def as_tool_call(self) -> dict[str, Any]:
        return {"id": self._id, "type": self._type, "function": self.as_function()}
