"""What says that an answer failed, though its status says that it went well: errors in bodies, in events, in finish
reasons.

Words are for people: the first of `message`, `detail`, `type` and so on that an error has. An error that says nothing
(null, an empty text or object, one whose members are null) is a place kept for one, and one of bare numbers measures
something.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract.values import compact, mapping, text

__all__ = ["MAX_ERROR_CHARS", "bad_finish", "error_of", "error_text", "is_error", "lone_error_of", "only_error_of"]

MAX_ERROR_CHARS: Final = 500
_WORDS: Final = ("message", "msg", "detail", "error", "reason", "type", "error_type", "code", "status", "object")
_TAGS: Final = ("type", "object", "event")
_SPELLINGS: Final = ("error", "Error", "ERROR")
_NOTHING: Final = frozenset({"", "null", "none", "false"})
"""How an error that is none is written as a text."""
_CODES: Final = frozenset({"code", "status", "status_code", "statusCode", "http_code", "http_status"})
_LABELS: Final = frozenset({"object", "param"})
"""Members of an error that do not make it one."""
_NAMES: Final = (
    "error", "Error", "errors", "err", "error_message", "errorMessage", "error_msg", "errorMsg", "error_code",
    "errorCode", "error_type", "errorType", "exception", "fault", "__type",
)  # fmt: skip
"""Members that speak of an error where there is no answer; of several the first of these counts."""
_SAYINGS: Final = ("message", "msg", "detail")
_BARE: Final = frozenset({*_SAYINGS, "code", "id", "request_id", "requestId", "timestamp", "path"})
"""What may stand beside a bare saying."""
_STATUSES: Final = ("status", "code", "statusCode", "status_code")
_BAD_STATUS: Final = frozenset({"error", "failed", "failure", "fail"})
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
    if error and is_error(error):
        return error
    for tag in _TAGS:
        value = fields.get(tag)
        if value is not None and value in _SPELLINGS:
            return fields
    errors = fields.get("errors")
    return errors if errors and isinstance(errors, list) and "choices" not in fields and is_error(errors) else None


def is_error(error: Any) -> bool:
    """Whether what stands where an error would says that there is one."""
    if isinstance(error, str):
        return error.strip().lower() not in _NOTHING
    if isinstance(error, list):
        return any(map(is_error, error))
    if isinstance(error, dict):
        return any(value and (is_error(value) or key in _CODES) for key, value in error.items() if key not in _LABELS)
    return error is True


def lone_error_of(fields: dict[str, Any]) -> Any:
    """What `error_of` does not take for one, though a known shape sent it instead of an answer or an event of its own;
    None where it is no error even so.

    Servers have many words for it: a framework's `detail`, a gateway's bare `message`, a status of 500 in the body.
    """
    if not fields or _answers(fields):
        return None
    for name in _NAMES:
        if (error := fields.get(name)) and (is_error(error) or not isinstance(error, list | dict | str)):
            return error if is_error(error) else fields
    said = any(isinstance(fields.get(name), str | list) and fields[name] for name in _SAYINGS)
    if said and fields.keys() <= _BARE:
        return fields["detail"] if fields.get("detail") else fields
    marked = any(isinstance(code := fields.get(name), int) and 400 <= code <= 599 for name in _STATUSES)
    marked = marked or str(fields.get("status")).lower() in _BAD_STATUS
    return fields if marked or fields.get("success") is False or fields.get("ok") is False else None


def only_error_of(fields: dict[str, Any]) -> Any:
    """The error in JSON of unknown kind; None where there is none, or there is an answer beside it."""
    return None if _answers(fields) else error_of(fields)


def _answers(fields: dict[str, Any]) -> bool:
    return any(fields.get(name) not in (None, "", [], {}) for name in _ANSWERS.intersection(fields))


def bad_finish(reason: Any) -> str | None:
    """`reason` in words, where it is the server's word for having given up."""
    return f"finish reason {reason}" if isinstance(reason, str) and reason.lower() in _BAD_FINISH else None


def error_text(error: Any) -> str | None:
    """An error in words, at most MAX_ERROR_CHARS characters; None for None."""
    if error is None:
        return None
    if isinstance(error, list):
        error = next(filter(is_error, error), None)
    found = text(error)
    if not found:
        fields = mapping(error)
        found = _words(fields) or _words(mapping(fields.get("error"))) or compact(error)
    return found[:MAX_ERROR_CHARS]


def _words(fields: dict[str, Any]) -> str | None:
    return next((part for name in _WORDS if isinstance(part := fields.get(name), str) and part), None)
