"""JSON of no known shape: the configured pointers first, then the names that such APIs commonly use.

A text answers as it is, anything else as compact JSON, so that a classifier's input and output are a record like
any other.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract import chat, completions
from proxy.wire.extract.model import Answer, Ask, Pointers
from proxy.wire.extract.values import compact, content_text, mapping, text
from proxy.wire.pointer import MISSING, first_found

__all__ = ["answer", "ask"]

_QUERY_KEYS: Final = ("query", "question", "prompt", "input", "text", "message", "inputs", "instances", "features",
                      "dataframe_split", "dataframe_records", "data")  # fmt: skip
_RESPONSE_KEYS: Final = ("response", "answer", "output", "completion", "generated_text", "text", "content", "result",
                         "message", "prediction", "predictions", "label", "outputs", "results")  # fmt: skip


def ask(request: Any, pointers: Pointers) -> Ask:
    """The query by pointer, as a conversation, or by a common name."""
    found = first_found(pointers.query, request)
    if found is not MISSING:
        return Ask(query=_as_text(found))
    fields = mapping(request)
    if chat.fits(fields):
        return chat.ask(fields)
    return Ask(query=_by_name(fields, _QUERY_KEYS) if fields else _whole(request))


def answer(response: Any, pointers: Pointers) -> Answer:
    """The answer by pointer, as choices, or by a common name. A list of one object counts as that object."""
    found = first_found(pointers.response, response)
    if found is not MISSING:
        return Answer(text=_as_text(found), provider_id=text(mapping(response).get("id")))
    if isinstance(response, list) and len(response) == 1 and isinstance(response[0], dict):
        response = response[0]
    fields = mapping(response)
    if "choices" in fields:
        known = chat.answer(fields)
        return known if known.text is not None else completions.answer(fields)
    return Answer(
        text=_by_name(fields, _RESPONSE_KEYS) if fields else _whole(response), provider_id=text(fields.get("id"))
    )


def _by_name(fields: dict[str, Any], names: tuple[str, ...]) -> str | None:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    return None if value is None else _as_text(value)


def _whole(value: Any) -> str | None:
    """A body that is a bare string, number or list."""
    return None if value is None or value in ([], {}) else _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and (content := content_text(value.get("content"))) is not None:
        return content
    return compact(value)
