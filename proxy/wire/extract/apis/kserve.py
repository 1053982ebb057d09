"""KServe: the Open Inference Protocol v2 (`…/infer`, `…/generate`, `…/generate_stream`) and v1 (`…:predict`).

Tensors of text are read as text, others as JSON. Requests with binary tensors are no JSON and stay raw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from policies.kinds import Kind
from proxy.wire.extract.conversations.plain import plain
from proxy.wire.extract.model import ParsedRequest, ParsedResponse, Shape, StreamShape
from proxy.wire.extract.values import compact, items, mapping, text

__all__ = ["KIND", "SHAPE", "fits", "merge_chunks", "parse_request", "parse_response"]


def fits(request: dict[str, Any]) -> bool:
    """Whether the request has tensors, a text input or instances."""
    return (
        isinstance(request.get("inputs"), list)
        or isinstance(request.get("text_input"), str)
        or isinstance(request.get("instances"), list)
    )


def parse_request(request: dict[str, Any]) -> ParsedRequest:
    """The inputs as text."""
    if (given := text(request.get("text_input"))) is not None:
        return ParsedRequest(query=given)
    if "instances" in request:
        return ParsedRequest(query=compact(request["instances"]))
    return ParsedRequest(query=_tensors(request.get("inputs")))


def parse_response(response: dict[str, Any]) -> ParsedResponse:
    """The outputs as text."""
    whole = text(response.get("text_output"))
    if whole is None and "predictions" in response:
        whole = compact(response["predictions"])
    if whole is None:
        whole = _tensors(response.get("outputs"))
    return ParsedResponse(text=whole, provider_id=text(response.get("id")))


def _tensors(tensors: Any) -> str | None:
    """Texts on lines where every element is one; else the data, by tensor name where there are several."""
    data = [(text(mapping(tensor).get("name")) or "", mapping(tensor).get("data")) for tensor in items(tensors)]
    if not data:
        return None
    values = [value for _, tensor in data for value in _flat(tensor)]
    if values and all(isinstance(value, str) for value in values):
        return "\n".join(values)
    return compact(data[0][1]) if len(data) == 1 else compact(dict(data))


def _flat(data: Any) -> list[Any]:
    """The elements of a tensor, which may come nested by row (two levels are looked into)."""
    return [value for row in items(data) for value in (row if isinstance(row, list) else (row,))]


def merge_chunks(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The single answer that `generate` would have given: the last event with all the text."""
    whole: dict[str, Any] = {}
    pieces = []
    for event in events:
        whole |= event
        pieces.append(text(event.get("text_output")) or "")
    return whole | {"text_output": "".join(pieces)}


def _matches(event: dict[str, Any]) -> bool:
    return "text_output" in event


def _has_content(event: dict[str, Any]) -> bool:
    return bool(event.get("text_output"))


KIND: Final = Kind(name="kserve", code=6, meaning="KServe", operation=None, trainable=True)
SHAPE: Final[Shape] = Shape(
    name="KServe / Open Inference Protocol v2, and v1's predict",
    kind=KIND,
    suffixes=("/infer", "/generate", "/generate_stream", ":predict"),
    fits=fits,
    parse_request=parse_request,
    parse_response=parse_response,
    converse=plain(parse_request, parse_response),
    stream=StreamShape(matches=_matches, merge_chunks=merge_chunks, is_last=None, has_content=_has_content),
)
