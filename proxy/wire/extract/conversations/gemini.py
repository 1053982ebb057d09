"""Gemini's contents. Calls and results are parts, with ids only in live sessions; schemas have types in capitals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.conversation import Attachment, Conversation, Lack, Medium, ToolCall
from proxy.wire.extract.conversations.draft import Draft, arguments_of, between, function_tool
from proxy.wire.extract.conversations.parts import Pieces, file_of, media_of, picture
from proxy.wire.extract.values import count, items, mapping, text

__all__ = ["converse"]

_SERVERS: Final = ("executableCode", "codeExecutionResult", "executable_code", "code_execution_result", "toolCall",
                   "toolResponse")  # fmt: skip
_GROUNDED: Final = ("groundingChunks", "grounding_chunks", "webSearchQueries", "urlMetadata", "url_metadata")
_DEEPEST: Final = 200
"""Lists and objects within one another in the schema of a tool."""
_MEDIA: Final[dict[str, Medium]] = {"image": "image", "audio": "audio", "video": "video"}


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The system instruction and the contents, and the first candidate."""
    draft = Draft(_tools(request))
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=_either(request, "cachedContent", "cached_content"))
    system = _Content(draft, _either(request, "systemInstruction", "system_instruction"))
    draft.add_turn("system", system.pieces.content("\n"))
    contents = request.get("contents")
    for given in _turns(contents if isinstance(contents, list) else [contents]):
        content = _Content(draft, given)
        role = draft.role(mapping(given).get("role"))
        said = content.pieces.content(between(role))
        if said or content.calls:
            role = "user" if role == "tool" else role
            draft.add_turn(role, said, calls=content.calls, reasoning=content.pieces.reasoning)
    candidates = [mapping(candidate) for candidate in items(response.get("candidates"))]
    candidate = min(candidates, key=lambda candidate: count(candidate.get("index")) or 0, default={})
    grounding = mapping(candidate.get("groundingMetadata")) | mapping(candidate.get("urlContextMetadata"))
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=any(grounding.get(key) for key in _GROUNDED))
    answer = _Content(draft, candidate.get("content"))
    return draft.finish(answer.pieces.content(""), calls=answer.calls, reasoning=answer.pieces.reasoning)


class _Content:
    """A content's parts; results of functions are turns of their own, told at once."""

    def __init__(self, draft: Draft, content: Any) -> None:
        self.pieces, self.calls = Pieces(), list[ToolCall]()
        for part in _parts(content):
            self._read(draft, part)
        draft.lack(Lack.UNREAD, where=self.pieces.unread)

    def _read(self, draft: Draft, part: Any) -> None:
        fields = mapping(part)
        said = text(fields.get("text"))
        if isinstance(part, str):
            self.pieces.add(part)
        elif said is not None:
            (self.pieces.thoughts if fields.get("thought") is True else self.pieces.pieces).append(said)
        elif call := mapping(_either(fields, "functionCall", "function_call")):
            name, given = text(call.get("name")) or "", text(call.get("id"))
            self.calls.append(ToolCall(name=name, arguments=arguments_of(call.get("args")), id=given))
        elif result := mapping(_either(fields, "functionResponse", "function_response")):
            value = result.get("response")
            draft.add_result([{"type": "text", "text": arguments_of(value)}, *_shown(result)],
                         call_id=result.get("id"), name=result.get("name"))  # fmt: skip
        elif any(key in fields for key in _SERVERS):
            draft.lack(Lack.CONTEXT_ELSEWHERE)
        elif (medium := _medium(fields)) is not None:
            self.pieces.add(medium)
        elif not fields or fields.keys() - {"thought", "thoughtSignature", "thought_signature"}:
            self.pieces.unread |= part is not None


def _turns(contents: list[Any]) -> list[Any]:
    """The contents, with those of the model's that follow each other as one: a stream is kept piece by piece."""
    turns: list[Any] = []
    for content in contents:
        if turns and mapping(content).get("role") == mapping(turns[-1]).get("role") == "model":
            turns[-1] = {**turns[-1], "parts": [*_parts(turns[-1]), *_parts(content)]}
        else:
            turns.append(content)
    return turns


def _parts(content: Any) -> Iterable[Any]:
    """The parts of a content, which may also be a mere text or, where programs are careless, a part."""
    if not isinstance(content, dict):
        return [] if content is None else [content]
    parts = content.get("parts", [] if content.keys() <= {"role"} else [content])
    return parts if isinstance(parts, list) else [parts]


def _medium(part: dict[str, Any]) -> Attachment | None:
    """A picture, a sound, a film or a file, in the request or at an address."""
    if inline := mapping(_either(part, "inlineData", "inline_data")):
        return media_of(text(_either(inline, "mimeType", "mime_type")) or "", inline.get("data"))
    linked = mapping(_either(part, "fileData", "file_data"))
    if not linked:
        return None
    medium = (text(_either(linked, "mimeType", "mime_type")) or "").partition("/")[0]
    at = _either(linked, "fileUri", "file_uri")
    if medium == "image":
        return picture(at)
    return Attachment(medium=_MEDIA[medium]) if medium in _MEDIA else file_of(at)


def _shown(result: dict[str, Any]) -> list[Any]:
    """Pictures in a function's response."""
    return [medium for part in items(result.get("parts")) if (medium := _medium(mapping(part))) is not None]


def _tools(request: dict[str, Any]) -> list[dict[str, Any]]:
    given = request.get("tools")
    tools = []
    for group in map(mapping, given if isinstance(given, list) else [given]):
        for function in map(mapping, items(_either(group, "functionDeclarations", "function_declarations"))):
            schema = function.get("parametersJsonSchema", _lowered(function.get("parameters")))
            tools.append(function_tool(function.get("name"), function.get("description"), schema))
    return tools


def _lowered(schema: Any, deepest: int = _DEEPEST) -> Any:
    """A schema with its types as JSON Schema has them. Raises RecursionError, on every build at the same depth."""
    if not deepest:
        raise RecursionError("a schema is nested too deeply")
    if isinstance(schema, list):
        return [_lowered(part, deepest - 1) for part in schema]
    if not isinstance(schema, dict):
        return schema
    lowered = {key: _lowered(value, deepest - 1) for key, value in schema.items()}
    if isinstance(kind := schema.get("type"), str):
        lowered["type"] = kind.lower()
    return lowered


def _either(fields: dict[str, Any], name: str, other: str) -> Any:
    """The field in either spelling."""
    return fields[name] if name in fields else fields.get(other)
