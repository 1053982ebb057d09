"""Gemini's `generateContent` and `streamGenerateContent`, at Google's own API, at Vertex, and where others speak it.

A stream is server-sent events (`alt=sse`), or one JSON array; either way its elements are whole responses that hold
the next piece, usage counts up, and the mark of the end is a `finishReason`. Both spellings of field names are taken,
as protobuf's JSON takes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations import gemini as conversation
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import (
    compact,
    count,
    items,
    last_user_text,
    lines,
    mapping,
    sum_of,
    text,
    tool_call,
    turn,
)

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response", "parts_text"]

_ROLES: Final = {"model": "assistant", "function": "tool"}
_MEDIA: Final = {"image": "[image]", "audio": "[audio]", "video": "[video]"}
_REFUSALS: Final = frozenset({
    "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
})  # fmt: skip
_FAILURES: Final = frozenset({
    "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
})  # fmt: skip
"""Ends of answers that the model made wrong: there is nothing to show to the user."""


def _either(fields: dict[str, Any], name: str, other: str) -> Any:
    """The field in either spelling."""
    return fields[name] if name in fields else fields.get(other)


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has contents."""
    return isinstance(request.get("contents"), str | list | dict)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The system instruction and the contents as a conversation. Results of functions become turns of `tool`."""
    messages = []
    system = _either(request, "systemInstruction", "system_instruction")
    if instructions := parts_text(system):
        messages.append(turn("system", [instructions]))
    contents = request.get("contents")
    for content in contents if isinstance(contents, list) else [contents]:
        messages += _turns(content)
    config = mapping(_either(request, "generationConfig", "generation_config"))
    wanted = _either(config, "responseMimeType", "response_mime_type") == "application/json"
    return ParsedRequest(query=last_user_text(messages), messages=messages, json_requested=wanted)


def _turns(content: Any) -> list[dict[str, str]]:
    role = text(mapping(content).get("role")) or "user"
    parts = _parts(content)
    responses = [mapping(_either(part, "functionResponse", "function_response")) for part in parts]
    results = [turn("tool", [compact(response.get("response"))]) for response in responses if response]
    pieces = _pieces(parts)
    return [*results, turn(_ROLES.get(role, role), pieces)] if any(pieces) or not results else results


def parts_text(content: Any) -> str:
    """The text of a content: its parts on lines, other media as `[image]` and so on."""
    return lines(_pieces(_parts(content)))


def _parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a content, which may also be a mere text or, where programs are careless, a single part."""
    if isinstance(content, str):
        return [{"text": content}]
    fields = mapping(content)
    parts = fields.get("parts", [fields] if "text" in fields else [])
    return [{"text": part} if isinstance(part, str) else mapping(part) for part in items(parts) or [parts]]


def _pieces(parts: list[dict[str, Any]]) -> list[str]:
    """What was said, part by part; thoughts were not said."""
    said = [part for part in parts if part.get("thought") is not True]
    return [piece for part in said if (piece := _spoken(part) or _call(part))]


def _spoken(part: dict[str, Any]) -> str | None:
    """The text of a part, or what stands for its picture."""
    media = _either(part, "inlineData", "inline_data") or _either(part, "fileData", "file_data")
    if not isinstance(media, dict):
        return text(part.get("text"))
    kind = text(_either(media, "mimeType", "mime_type")) or ""
    return _MEDIA.get(kind.partition("/")[0], "[file]")


def _call(part: dict[str, Any]) -> str | None:
    call = mapping(_either(part, "functionCall", "function_call"))
    return tool_call(call.get("name"), call.get("args") or {}) if call else None


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The first candidate's text with its calls, and the usage; prompt tokens include the cached ones."""
    candidates = [mapping(candidate) for candidate in items(response.get("candidates"))]
    candidate = min(candidates, key=lambda candidate: count(candidate.get("index")) or 0, default={})
    parts = [part for part in _parts(candidate.get("content")) if part.get("thought") is not True]
    spoken = "".join(piece for part in parts if (piece := _spoken(part)))
    calls = [call for part in parts if (call := _call(part))]
    finish = text(candidate.get("finishReason"))
    blocked = text(mapping(response.get("promptFeedback")).get("blockReason"))
    usage = mapping(response.get("usageMetadata"))
    thoughts = usage.get("thoughtsTokenCount")
    return ParsedResponse(
        text=lines([spoken, *calls]) if "content" in candidate else None,
        words=spoken if calls else None,
        prompt_tokens=sum_of(usage.get(key) for key in ("promptTokenCount", "toolUsePromptTokenCount")),
        completion_tokens=sum_of((usage.get("candidatesTokenCount"), thoughts)),
        cache_read_tokens=count(usage.get("cachedContentTokenCount")),
        reasoning_tokens=count(thoughts),
        finish_reason=finish or blocked,
        provider_id=text(response.get("responseId")),
        refused=blocked is not None or finish in _REFUSALS,
        error=(text(candidate.get("finishMessage")) or finish) if finish in _FAILURES else None,
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The response that the pieces add up to: of everything the last word counts, but parts are put together."""
    whole: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    candidates: dict[int, _Candidate] = {}
    for event in events:
        whole |= {key: value for key, value in event.items() if value is not None}
        usage |= mapping(event.get("usageMetadata"))
        for candidate in map(mapping, items(event.get("candidates"))):
            index = count(candidate.get("index")) or 0
            (candidates.get(index) or candidates.setdefault(index, _Candidate())).add(candidate)
    if usage:
        whole["usageMetadata"] = usage
    if candidates:
        whole["candidates"] = [candidates[index].whole(index) for index in sorted(candidates)]
    return whole


class _Candidate:
    """One candidate as its pieces arrive; neighbouring texts are one part, joined once, at the end."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._role: str | None = None
        self._spoke = False
        self._parts: list[tuple[dict[str, Any], list[str]]] = []

    def add(self, candidate: dict[str, Any]) -> None:
        self._fields |= {key: value for key, value in candidate.items() if value is not None}
        self._spoke |= isinstance(candidate.get("content"), dict)
        content = mapping(candidate.get("content"))
        self._role = text(content.get("role")) or self._role
        for part in map(mapping, items(content.get("parts"))):
            self._add(part)

    def _add(self, part: dict[str, Any]) -> None:
        rest = {key: value for key, value in part.items() if key != "text"}
        piece = text(part.get("text"))
        if piece is not None and self._parts and self._parts[-1][1]:
            known, pieces = self._parts[-1]
            if known.get("thought") == rest.get("thought"):
                known |= rest
                pieces.append(piece)
                return
        self._parts.append((rest, [] if piece is None else [piece]))

    def whole(self, index: int) -> dict[str, Any]:
        candidate = self._fields | {"index": index}
        if self._spoke:
            parts = [rest | {"text": "".join(pieces)} if pieces else rest for rest, pieces in self._parts]
            candidate["content"] = {"role": self._role or "model", "parts": parts}
        return candidate


def _matches(event: dict[str, Any]) -> bool:
    feedback = "promptFeedback" in event or "usageMetadata" in event
    return isinstance(event.get("candidates"), list) or feedback


def _is_last(event: dict[str, Any]) -> bool:
    finished = any(mapping(candidate).get("finishReason") for candidate in items(event.get("candidates")))
    return finished or bool(mapping(event.get("promptFeedback")).get("blockReason"))


def _has_content(event: dict[str, Any]) -> bool:
    candidates = map(mapping, items(event.get("candidates")))
    return any(part.get("text") or _spoken(part) or _call(part)
               for candidate in candidates for part in _parts(candidate.get("content")))  # fmt: skip


KIND: Final = Kind(
    name="gemini",
    code=9,
    meaning="Gemini generateContent",
    operation="generate_content",
    provider="gcp.gemini",
    trainable=True,
)
SHAPE: Final[Shape] = Shape(
    name="Gemini, its streams as events or as an array",
    kind=KIND,
    suffixes=(":generateContent", ":streamGenerateContent"),
    turns=("contents",),
    answers=("candidates",),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=conversation.converse,
    stream=StreamShape(
        matches=_matches,
        merge_chunks=merge_chunks,
        is_last=_is_last,
        has_content=_has_content,
        several=("candidates", "finishReason"),
    ),
)
