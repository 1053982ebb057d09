"""JSON of no known shape: the configured pointers first, then the names that such APIs commonly use.

A text answers as it is, anything else as compact JSON, so that a classifier's input and output are a record like
any other. Of a stream of no known shape its events are taken together first: see `merged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Final

from proxy.wire.extract.apis import chat, completions
from proxy.wire.extract.failures import bad_finish
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Pointers
from proxy.wire.extract.tokens import count_in, usage_of
from proxy.wire.extract.values import compact, content_text, mapping, text
from proxy.wire.pointer import MISSING, first_found

__all__ = ["merged", "parse_request", "parse_response"]

_QUERY_KEYS: Final = ("query", "question", "prompt", "input", "text", "message", "inputs", "instances", "features",
                      "dataframe_split", "dataframe_records", "data")  # fmt: skip
_RESPONSE_KEYS: Final = ("response", "answer", "output", "completion", "generated_text", "text", "content", "result",
                         "message", "prediction", "predictions", "label", "outputs", "results")  # fmt: skip
_MAX_DEPTH: Final = 32


def parse_request(request: Any, pointers: Pointers) -> ParsedRequest:
    """The query by pointer, as a conversation, or by a common name."""
    found = first_found(pointers.query, request)
    if found is not MISSING:
        return ParsedRequest(query=_as_text(found))
    fields = mapping(request)
    if chat.fits(fields):
        return chat.parse_request(fields)
    return ParsedRequest(query=_by_name(fields, _QUERY_KEYS) if fields else _whole(request))


def parse_response(response: Any, pointers: Pointers) -> ParsedResponse:
    """The answer by pointer, as choices, or by a common name. A list of one object counts as that object.

    In a list of several, the pointers may lead into each of them, as into the events of a stream.
    """
    found = first_found(pointers.response, response)
    if found is MISSING and isinstance(response, list) and pointers.response:
        found = first_found(pointers.response, merged([item for item in response if isinstance(item, dict)]))
    fields = mapping(response)
    if found is not MISSING:
        return count_in(ParsedResponse(text=_as_text(found), provider_id=text(fields.get("id"))), usage_of(fields))
    if isinstance(response, list) and len(response) == 1 and isinstance(response[0], dict):
        response = fields = response[0]
    if "choices" in fields:
        known = chat.parse_response(fields)
        return known if known.text is not None else completions.parse_response(fields)
    whole = ParsedResponse(
        text=_by_name(fields, _RESPONSE_KEYS) if fields else _whole(response),
        provider_id=text(fields.get("id")),
        error=bad_finish(fields.get("finish_reason") or fields.get("stop_reason")),
    )
    return count_in(whole, usage_of(fields))


def merged(events: Sequence[Any]) -> Any:
    """The one JSON value that the events of a stream add up to.

    Objects and lists are taken together member by member. Texts in the same place are joined; where each of them begins
    with the one before, or the last one says all that the others have said, the last one is the whole text. Of anything
    else the last one counts.
    """
    return _merged([event for event in events if event is not None], 0)


def _merged(values: Sequence[Any], depth: int) -> Any:
    if not values:
        return None
    for wanted in (dict, list, str):
        if any(isinstance(value, wanted) for value in values):
            values = [value for value in values if isinstance(value, wanted)]
            break
    if len(values) == 1 or depth > _MAX_DEPTH or not isinstance(values[0], dict | list | str):
        return values[-1]
    if isinstance(values[0], str):
        return _joined(values)
    if isinstance(values[0], dict):
        return {key: _merged(parts, depth + 1) for key, parts in _members(value.items() for value in values).items()}
    if not any(isinstance(part, dict | list | str) for value in values for part in value):
        return values[-1]
    return [_merged(parts, depth + 1) for parts in _members(enumerate(value) for value in values).values()]


def _members(values: Iterable[Iterable[tuple[Any, Any]]]) -> dict[Any, list[Any]]:
    """What stands in each place, in the order in which it came; null stands nowhere, but keeps the place."""
    places: dict[Any, list[Any]] = {}
    for value in values:
        for place, part in value:
            found = places.setdefault(place, [])
            if part is not None:
                found.append(part)
    return places


def _joined(texts: Sequence[str]) -> str:
    said = [part for part in texts if part]
    if not said:
        return ""
    if all(later.startswith(former) for former, later in pairwise(said)):
        return said[-1]
    former = "".join(said[:-1])
    return said[-1] if said[-1] == former else former + said[-1]


def _by_name(fields: dict[str, Any], names: tuple[str, ...]) -> str | None:
    name = next((name for name in names if fields.get(name) is not None), None)
    if name is None:
        return None
    if name == "content" and (content := content_text(fields[name], separator="")) is not None:
        return content
    return _as_text(fields[name])


def _whole(value: Any) -> str | None:
    """A body that is a bare string, number or list."""
    return None if value is None or value in ([], {}) else _as_text(value)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and (content := content_text(value.get("content"))) is not None:
        return content
    return compact(value)
