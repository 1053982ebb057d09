"""From what went over the wire to what is compared: the question, the answer, and whether it is one.

Every API shape that records are read in is understood. An error inside of a 200 is no answer, and neither is a stream
that was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from policies.comparison import Answer, AskedQuestion
from policies.conversation import Conversation
from proxy.checks.ports import Asked
from proxy.wire.extract import CapturedExchange, Extraction, converse, extract
from proxy.wire.extract.values import mapping, text

__all__ = ["Read", "no_answer", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An exchange, understood."""

    question: AskedQuestion
    answer: Answer
    said: Conversation
    body: str
    """Of the response, as text; a stream put together."""
    tokens: int
    """Prompt and completion, as the model counts them, and at most one for each byte sent and received: it is the
    model under test that says so, and the check ends when they are spent. 0 where it does not say."""


def read(
    asked: Asked,
    *,
    status: int,
    response: bytes,
    media_type: str,
    latency_s: float | None = None,
    asked_model: str | None = None,
    cut: bool = False,
) -> Read:
    """Understand a request and its response. `asked_model`: the model that has to answer, where that matters."""
    exchange = CapturedExchange(
        target=asked.target,
        status=status,
        request=asked.body,
        response=response,
        request_type=asked.headers.get("content-type", "application/json"),
        response_type=media_type,
        response_cut=cut,
    )
    found = extract(exchange)
    said = converse(exchange)
    answer = Answer(
        text=found.response or "",
        words=said.answer.text,
        finish_reason=found.finish_reason,
        refused=found.refused,
        malformed=found.malformed,
        partial=cut or found.unread,
        calls=said.answer.calls,
        failed=_failure(found, status),
        latency_s=latency_s,
        model=_answered_model(found, response) if asked_model else None,
        asked_model=asked_model,
    )
    return Read(
        question=_question(found, said),
        answer=answer,
        said=said,
        body=_together(found, response).decode("utf-8", "replace"),
        tokens=_at_most((found.prompt_tokens or 0) + (found.completion_tokens or 0), len(asked.body) + len(response)),
    )


def no_answer(asked: Asked, why: str, asked_model: str | None = None) -> Read:
    """As if the model had said nothing. `why`, in words; `asked_model`: see `read`."""
    found = read(asked, status=200, response=b"", media_type="application/json", asked_model=asked_model)
    return replace(found, answer=replace(found.answer, failed=why))


def _at_most(tokens: int, size: int) -> int:
    return max(0, min(tokens, size))


def _together(found: Extraction, response: bytes) -> bytes:
    """The body of the response, a stream put together; as it came where that is nested too deep to be written again."""
    if found.reassembled is None:
        return response
    try:
        return orjson.dumps(found.reassembled)
    except orjson.JSONEncodeError:
        return response


def _failure(found: Extraction, status: int) -> str | None:
    """What says that this is no answer, in words; None where nothing does."""
    said = f", {found.error}" if found.error else ""
    if not 200 <= status < 300:
        return f"HTTP {status}{said}"
    if found.failed:
        return f"HTTP {status} with an error inside{said}"
    return "a stream that was cut off" if found.whole is False else None


def _question(found: Extraction, said: Conversation) -> AskedQuestion:
    asked = said.question
    return AskedQuestion(
        text=found.query or (asked.text if asked is not None else ""),
        json_requested=found.json_requested,
        schema=_schema(found.request_fields),
        tools=dict(tool for one in said.tools if (tool := _tool(one)) is not None),
    )


def _tool(offered: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None] | None:
    """Name and schema of a tool, as OpenAI's chat lists it."""
    function = mapping(offered.get("function")) or mapping(offered.get("custom")) or mapping(offered)
    name = text(function.get("name"))
    return None if name is None else (name, mapping(function.get("parameters")) or None)


def _schema(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the answer must fit: chat's and Responses' structured output, Ollama's `format`."""
    chat = mapping(mapping(request.get("response_format")).get("json_schema"))
    responses = mapping(mapping(request.get("text")).get("format"))
    ollama = mapping(request.get("format"))
    return mapping(chat.get("schema")) or mapping(responses.get("schema")) or ollama or None


def _answered_model(found: Extraction, response: bytes) -> str | None:
    """The model that the answer names; None where it names none."""
    document: Any = found.reassembled
    if document is None:
        try:
            document = orjson.loads(response)
        except orjson.JSONDecodeError:
            return None
    fields = mapping(document)
    return next((name for key in ("model", "modelVersion") if (name := text(fields.get(key)))), None)
