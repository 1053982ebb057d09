"""Logged chats as NVIDIA's data flywheel reads them: whole requests and answers in OpenAI's form, not bare texts.

    {"timestamp": 1700000000, "client_id": "shop", "workload_id": "support", "request": {…}, "response": {…}}

The records are those that a training file would contain, chosen by the same rules; only chat completions have the form
that the flywheel checks (messages in the request, choices with a message in the response). Tools and their calls are
kept. A content of several texts becomes one text, and pictures are kept or left out as in the other formats, for a
column of a file has one type. A person's correction takes the answer's place, also in later history. `workload_id` is
the record's tag of that name, where it has one.

Source of the form: NVIDIA-AI-Blueprints/data-flywheel, `openai_format_validator.py` and `load_test_data.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from policies.formats import TrainingLine, has_parts
from policies.records import Sample
from policies.selection import DataGeneratorConfig
from proxy.loop.dataset.reading import conversation_of
from proxy.loop.dataset.selection_pass import LineFormat
from proxy.wire.extract.apis.chat import KIND as CHAT
from proxy.wire.extract.conversations.draft import between
from proxy.wire.extract.conversations.thoughts import split_thoughts

__all__ = ["flywheel", "flywheel_config"]


def flywheel(*, client_id: str, workload_id: str) -> LineFormat:
    """Writes such lines. `client_id` names the application, `workload_id` the task of records without a tag of it."""

    def refuses(sample: Sample) -> str | None:
        if sample.exchange.cut:
            return "cut"
        return "not_a_chat" if _chat(sample) is None else None

    def lines(sample: Sample, _: object) -> list[TrainingLine]:
        chat = _chat(sample)
        assert chat is not None, "what has no form was refused"
        request, response = chat
        request = {**request, "messages": _as_judged(request["messages"], sample)}
        if sample.correction is not None:
            response = _corrected(response, sample.correction)
        body = {
            "timestamp": int(sample.created_at),
            "client_id": client_id,
            "workload_id": sample.tags.get("workload_id", workload_id),
            "request": request,
            "response": response,
        }
        generation = 0 if sample.correction is not None else sample.generation
        return [TrainingLine(body=body, author=sample.author, generation=generation, parts=has_parts(request))]

    return LineFormat(name="nvidia", lines=lines, refuses=refuses)


def flywheel_config(config: DataGeneratorConfig) -> DataGeneratorConfig:
    """`config` without what belongs to other formats: votes on both sides, rehearsal lines."""
    return replace(config, format_type="chatml", include_existing_data=False)


def _chat(sample: Sample) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Request and answer, where they are a chat completion's."""
    if sample.exchange.kind != CHAT.name:
        return None
    request, response = _object(sample.exchange.request), _object(sample.exchange.response)
    if not (_has_messages(request) and _has_choices(response)):
        return None
    return {**request, "messages": [_in_words(message) for message in request["messages"]]}, response


def _as_judged(messages: list[Any], sample: Sample) -> list[Any]:
    """The messages, in which earlier answers that were corrected say what the corrections say."""
    told = zip(conversation_of(sample).turns, sample.said.turns, strict=False)
    instead = {old.text: new.text for old, new in told if old.role == "assistant" and old.text != new.text}
    return [_mended(message, instead) for message in messages] if instead else messages


def _mended(message: Any, instead: Mapping[str, str]) -> Any:
    said = message.get("content") if isinstance(message, dict) and message.get("role") == "assistant" else None
    mended = instead.get(split_thoughts(said)[1]) if isinstance(said, str) else None
    return message if mended is None else {"role": "assistant", "content": mended}


def _in_words(message: Any) -> Any:
    """The message; a content of nothing but texts as one text."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not all(_is_text(part) for part in content):
        return message
    return {**message, "content": between(message.get("role")).join(part["text"] for part in content)}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return content if isinstance(content, dict) else {}


def _has_messages(request: Mapping[str, Any]) -> bool:
    return isinstance(request.get("messages"), list) and bool(request["messages"])


def _has_choices(response: Mapping[str, Any]) -> bool:
    choices = response.get("choices")
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )


def _corrected(response: Mapping[str, Any], correction: str) -> dict[str, Any]:
    """`response` with one choice: what a person said it should have been."""
    message = {"role": "assistant", "content": correction}
    return {**response, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
