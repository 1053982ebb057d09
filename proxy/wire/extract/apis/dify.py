"""Dify's apps: `/chat-messages`, `/completion-messages` and `/workflows/run`, blocking or streamed.

A stream says in `event` what happened. Words come as `message` (of an agent: `agent_message`), a moderator may replace
them all, and `message_end` is the mark; a workflow's is `workflow_finished`. Pings and the steps on the way say nothing
to the user, and an agent's thoughts are its reasoning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.conversation import Attachment, Conversation, Lack
from policies.kinds import Kind
from proxy.wire.extract.conversations.draft import Draft
from proxy.wire.extract.conversations.parts import picture_data
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import compact, count, items, kind_of, mapping, text

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]

_WORDS: Final = frozenset({"message", "agent_message"})
_ENDS: Final = frozenset({"message_end", "workflow_finished"})
_STEPS: Final = frozenset({
    "agent_thought", "message_file", "message_replace", "tts_message", "tts_message_end", "error", "workflow_started",
    "node_started", "node_finished", "text_chunk", "iteration_started", "loop_started", "parallel_branch_started",
})  # fmt: skip
_EVENTS: Final = _WORDS | _ENDS | _STEPS
_IDS: Final = frozenset({"task_id", "message_id", "conversation_id", "workflow_run_id"})
_HEAD: Final = _IDS | {"id", "mode", "created_at", "metadata"}


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has a query, or an app's inputs."""
    return isinstance(request.get("query"), str) or isinstance(request.get("inputs"), dict)


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The query; of an app without one its inputs: the only text, else as JSON."""
    inputs = mapping(request.get("inputs"))
    query = text(request.get("query")) or text(inputs.get("query"))
    return ParsedRequest(query=query or (_only_text(inputs) if inputs else None))


def _only_text(fields: dict[str, Any]) -> str:
    values = list(fields.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else compact(fields)


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The answer, or a workflow's outputs, and the usage."""
    usage = mapping(mapping(response.get("metadata")).get("usage"))
    run = mapping(response.get("data"))
    outputs = mapping(run.get("outputs"))
    spoken = text(response.get("answer"))
    status = text(run.get("status"))
    return ParsedResponse(
        text=_only_text(outputs) if spoken is None and outputs else spoken,
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        finish_reason=status if spoken is None else None,
        provider_id=text(response.get("message_id")) or text(response.get("workflow_run_id")),
        conversation=text(response.get("conversation_id")),
        error=(text(run.get("error")) or status) if status == "failed" else None,
    )


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The blocking response that the events add up to."""
    whole: dict[str, Any] = {}
    pieces: list[str] = []
    chunks: list[str] = []
    spoke = False
    for event in events:
        kind = text(event.get("event"))
        whole |= {key: value for key, value in event.items() if key in _HEAD and value is not None}
        if kind in _WORDS or kind == "message_replace":
            spoke = True
            if kind == "message_replace":
                pieces.clear()
            pieces.append(text(event.get("answer")) or "")
        elif kind == "text_chunk":
            chunks.append(text(mapping(event.get("data")).get("text")) or "")
        elif kind == "workflow_finished":
            whole["data"] = mapping(event.get("data"))
        elif kind == "error":
            whole["error"] = {key: event.get(key) for key in ("message", "code", "status")}
    if spoke or (chunks and "data" not in whole):
        whole["answer"] = "".join(pieces if spoke else chunks)
    return whole


def _matches(event: dict[str, Any]) -> bool:
    return text(event.get("event")) in _EVENTS and not _IDS.isdisjoint(event)


def _is_last(event: dict[str, Any]) -> bool:
    return text(event.get("event")) in _ENDS


def _has_content(event: dict[str, Any]) -> bool:
    chunk = mapping(event.get("data")).get("text") if event.get("event") == "text_chunk" else None
    return bool(event.get("answer") or event.get("thought") or chunk)


def converse(request: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """The query with its files, and the answer. A conversation that goes on is kept by the server."""
    draft = Draft()
    draft.lack(Lack.CONTEXT_ELSEWHERE, where=request.get("conversation_id"))
    files = tuple(_file(mapping(file)) for file in items(request.get("files")))
    query = parse_request(request).query or ""
    draft.add_turn("user", (*((query,) if query else ()), *files) if files else query)
    return draft.finish(parse_response(response).text or "")


def _file(file: dict[str, Any]) -> Attachment:
    """A picture at an address; of what was uploaded before, only Dify has the data."""
    if kind_of(file) == "image":
        return picture_data(file.get("url"))
    return Attachment(medium="file")


KIND: Final = Kind(name="dify", code=15, meaning="Dify", operation="chat", trainable=True)
SHAPE: Final[Shape] = Shape(
    name="Dify apps",
    kind=KIND,
    suffixes=("/chat-messages", "/completion-messages", "/workflows/run"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=converse,
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=_is_last, has_content=_has_content),
)
