"""OpenAI text completions (`…/completions`): a prompt in, text out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.apis import chat
from proxy.wire.extract.apis.chat import error_in, wants_json
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.tokens import add_usage, count_in, usage_of
from proxy.wire.extract.values import compact, count, items, mapping, text

__all__ = ["FIM", "KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response", "prompt_text"]

_PER_CHUNK: Final = frozenset({"choices", "usage", "error", "x_groq"})


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a prompt."""
    return isinstance(request.get("prompt"), (str, list))


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The prompt."""
    return ParsedRequest(query=prompt_text(request.get("prompt")), json_requested=wants_json(request))


def prompt_text(prompt: Any) -> str | None:
    """A prompt or an input for embedding: a string, several on lines, or token ids as JSON."""
    if isinstance(prompt, str):
        return prompt
    parts = items(prompt)
    if not parts:
        return None
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return compact(parts)


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The first choice's text, and the usage."""
    choices = items(response.get("choices"))
    choice = mapping(choices[0]) if choices else {}
    answered = ParsedResponse(
        text=text(choice.get("text")),
        finish_reason=text(choice.get("finish_reason")),
        provider_id=text(response.get("id")),
        error=error_in(choices),
    )
    return count_in(answered, usage_of(response))


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The `text_completion` that the chunks add up to."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[str]] = {}
    for event in events:
        for key, value in event.items():
            if key not in _PER_CHUNK and value is not None:
                whole.setdefault(key, value)
        for position, choice in enumerate(map(mapping, items(event.get("choices")))):
            index = count(choice.get("index", position)) or 0
            texts.setdefault(index, []).append(text(choice.get("text")) or "")
            _add(choices.setdefault(index, {"index": index, "finish_reason": None}), choice)
        add_usage(whole, event)
        if event.get("error"):
            whole["error"] = event["error"]
    whole["choices"] = [choices[index] | {"text": "".join(texts[index])} for index in sorted(choices)]
    return whole


def _add(target: dict[str, Any], choice: dict[str, Any]) -> None:
    target["finish_reason"] = text(choice.get("finish_reason")) or target["finish_reason"]
    if error := choice.get("error"):
        target["error"] = error
    if logprobs := mapping(choice.get("logprobs")):
        lists = target.setdefault("logprobs", {})
        for key, values in logprobs.items():
            lists.setdefault(key, []).extend(items(values))


def _matches(event: dict[str, Any]) -> bool:
    if "choices" not in event:
        return False
    return event.get("object") == "text_completion" or any(
        "text" in mapping(choice) for choice in items(event["choices"])
    )


def _is_last(event: dict[str, Any]) -> bool:
    return any(mapping(choice).get("finish_reason") for choice in items(event.get("choices")))


def _has_content(event: dict[str, Any]) -> bool:
    return any(text(mapping(choice).get("text")) for choice in items(event.get("choices")))


KIND: Final = Kind(
    name="completions",
    code=1,
    meaning="OpenAI text completions, and fill-in-the-middle",
    operation="text_completion",
    provider="openai",
    trainable=True,
)
SHAPE: Final[Shape] = Shape(
    name="OpenAI completions",
    kind=KIND,
    suffixes=("/completions",),
    answers=("choices",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(
        matches=_matches,
        merge_chunks=merge_chunks,
        is_last=_is_last,
        has_content=_has_content,
        done=True,
        several=("choices", "finish_reason"),
    ),
)
FIM: Final[Shape] = Shape(
    name="Mistral's fill-in-the-middle",
    kind=KIND,
    suffixes=("/fim/completions",),
    answers=("choices",),
    fits=fits,
    parse_request=parse_request,
    parse_response=chat.parse_response,
    converse=plain(parse_request, chat.parse_response),
)
"""Asked as a completion and answered as a chat, whose streams it has."""
