"""The texts of a comparison (`comparisons.data`) as conversations: what was asked, and what each model answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import orjson

from policies.conversation import Conversation, Turn
from proxy.wire.extract import CapturedExchange, converse

__all__ = ["answered", "answered_text", "failure_of"]

_JSON = "application/json"


def answered(data: Mapping[str, Any], side: Literal["champion", "challenger"]) -> Conversation:
    """The conversation that ends with the answer of `side`. Never raises: of what cannot be read, and of what is no
    answer, the words are left."""
    answer = data.get(side)
    exchange = CapturedExchange(
        target=str(data.get("target", "")),
        request=_bytes(data.get("request")),
        response=_bytes(answer.get("body")) if isinstance(answer, Mapping) else b"",
        request_type=_JSON,
        response_type=_JSON,
    )
    said = converse(exchange)
    words = answered_text(data, side)
    if failure_of(data, side) is not None or (said.answer.empty and words):
        said = replace(said, answer=Turn(role="assistant", content=words))
    return said


def answered_text(data: Mapping[str, Any], side: Literal["champion", "challenger"]) -> str:
    """The words of an answer, as they were read when it came."""
    answer = data.get(side)
    found = answer.get("text") if isinstance(answer, Mapping) else answer
    return found if isinstance(found, str) else ""


def failure_of(data: Mapping[str, Any], side: Literal["champion", "challenger"]) -> str | None:
    """Why there is no answer; None where there is one."""
    answer = data.get(side)
    found = answer.get("failed") if isinstance(answer, Mapping) else None
    return found if isinstance(found, str) else None


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return b"" if body is None else orjson.dumps(body)
