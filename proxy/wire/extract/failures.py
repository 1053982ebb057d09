"""What says that an answer failed, though its status says that it went well: errors in bodies, in events, in finish
reasons.

Words are for people: the first of `message`, `detail`, `type` and so on that an error has. An error that says nothing
(null, an empty text or object) is a place kept for one.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract.values import compact, mapping, text

__all__ = ["MAX_WORDS", "bad_finish", "error_of", "only_error_of", "words_of"]

MAX_WORDS: Final = 500
_WORDS: Final = ("message", "msg", "detail", "error", "reason", "type", "error_type", "code", "status", "object")
_TAGS: Final = ("type", "object", "event")
_BAD_FINISH: Final = frozenset({
    "error", "abort", "aborted", "timeout", "failed", "failure", "cancelled", "canceled", "server_error",
    "internal_error", "network_error", "engine_error", "engine_overloaded", "overloaded", "unexpected_error",
    "insufficient_system_resource",
})  # fmt: skip
_ANSWERS: Final = frozenset({
    "choices", "response", "answer", "output", "completion", "generated_text", "text", "content", "result",
    "prediction", "predictions", "label", "outputs", "results", "data", "candidates", "embedding", "embeddings",
})  # fmt: skip
"""Members of JSON of unknown kind that are an answer, whatever `error` beside them means (regressions have one)."""


def error_of(fields: dict[str, Any]) -> Any:
    """The error in a body or an event of a known shape; None where there is none."""
    error = fields.get("error")
    if error and isinstance(error, str | dict | list | bool):
        return error
    for tag in _TAGS:
        if fields.get(tag) == "error":
            return fields
    errors = fields.get("errors")
    return errors if errors and isinstance(errors, list) and "choices" not in fields else None


def only_error_of(fields: dict[str, Any]) -> Any:
    """The error in JSON of unknown kind; None where there is none, or there is an answer beside it."""
    if any(fields.get(name) not in (None, "", [], {}) for name in _ANSWERS.intersection(fields)):
        return None
    return error_of(fields)


def bad_finish(reason: Any) -> str | None:
    """`reason` in words, where it is the server's word for having given up."""
    return f"finish reason {reason}" if isinstance(reason, str) and reason.lower() in _BAD_FINISH else None


def words_of(error: Any) -> str | None:
    """An error in words, at most MAX_WORDS characters; None for None."""
    if error is None:
        return None
    if isinstance(error, list):
        error = error[0]
    found = text(error)
    if not found:
        fields = mapping(error)
        found = _words(fields) or _words(mapping(fields.get("error"))) or compact(error)
    return found[:MAX_WORDS]


def _words(fields: dict[str, Any]) -> str | None:
    return next((part for name in _WORDS if isinstance(part := fields.get(name), str) and part), None)
