"""Evaluations in OTLP: events `gen_ai.evaluation.result` of log records and of spans, read from JSON or protobuf. Pure.

Everything else in such a message (spans, other logs, metrics' attributes) is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

__all__ = ["Evaluation", "Signal", "from_json", "from_protobuf", "protobuf_reader"]

EVENT: Final = "gen_ai.evaluation.result"
Signal = Literal["logs", "traces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One event, as it came."""

    attributes: Mapping[str, Any]
    """Texts, numbers and truth values by name; others are left out."""
    trace_id: str = ""
    """32 hex digits; empty where there is none."""
    span_id: str = ""
    """16 of the span that is judged: the one that the event is of, or its parent."""
    service: str = ""
    """`service.name` of whoever sent it."""
    scope: str = ""
    """Name of the library that wrote it."""


def from_json(body: bytes, signal: Signal) -> list[Evaluation]:
    """The evaluations in an export request. Raises ValueError where it is none."""
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    found = _evaluations_in_logs(document) if signal == "logs" else _evaluations_in_spans(document)
    return list(found)


def protobuf_reader() -> Callable[[bytes, Signal], list[Evaluation]]:
    """What reads the bytes of a request in protobuf, and raises ValueError for others. Raises ImportError where the
    packages for that are not installed."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    def read(body: bytes, signal: Signal) -> list[Evaluation]:
        message: Any = ExportLogsServiceRequest() if signal == "logs" else ExportTraceServiceRequest()
        try:
            message.ParseFromString(body)
        except DecodeError as exc:
            raise ValueError(str(exc)) from exc
        return from_protobuf(message, signal)

    return read


def from_protobuf(message: Any, signal: Signal) -> list[Evaluation]:
    """The evaluations in a parsed export request."""
    found = []
    for group in message.resource_logs if signal == "logs" else message.resource_spans:
        service = _text(_values(group.resource.attributes).get("service.name"))
        for scoped in group.scope_logs if signal == "logs" else group.scope_spans:
            scope = scoped.scope.name
            for one in scoped.log_records if signal == "logs" else scoped.spans:
                events = [(one.event_name, one.attributes)] if signal == "logs" else [
                    (event.name, event.attributes) for event in one.events
                ]  # fmt: skip
                at = {"trace_id": _id(one.trace_id.hex(), 32), "span_id": _id(one.span_id.hex(), 16)}
                for name, attributes in events:
                    if _is_evaluation(name, values := _values(attributes)):
                        found.append(Evaluation(attributes=values, service=service, scope=scope, **at))
    return found


def _values(attributes: Iterable[Any]) -> dict[str, Any]:
    """Of protobuf's key-value pairs."""
    found = {}
    for pair in attributes:
        kind = pair.value.WhichOneof("value")
        if kind in ("string_value", "double_value", "int_value", "bool_value"):
            found[pair.key] = getattr(pair.value, kind)
    return found


def _evaluations_in_logs(document: Mapping[str, Any]) -> Iterator[Evaluation]:
    for service, scope, record in _leaves(document, "resourceLogs", "scopeLogs", "logRecords"):
        values = _json_values(record.get("attributes"))
        if _is_evaluation(record.get("eventName"), values):
            yield Evaluation(attributes=values, service=service, scope=scope, **_place(record))


def _evaluations_in_spans(document: Mapping[str, Any]) -> Iterator[Evaluation]:
    for service, scope, span in _leaves(document, "resourceSpans", "scopeSpans", "spans"):
        for event in _objects(span.get("events")):
            values = _json_values(event.get("attributes"))
            if _is_evaluation(event.get("name"), values):
                yield Evaluation(attributes=values, service=service, scope=scope, **_place(span))


def _leaves(
    document: Mapping[str, Any], outer: str, inner: str, leaf: str
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each record or span with the service and the library that it comes from."""
    for group in _objects(document.get(outer)):
        service = _text(_json_values(_object(group.get("resource")).get("attributes")).get("service.name"))
        for scoped in _objects(group.get(inner)):
            scope = _text(_object(scoped.get("scope")).get("name"))
            for one in _objects(scoped.get(leaf)):
                yield service, scope, one


def _json_values(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _objects(attributes):
        for kind, value in _object(pair.get("value")).items():
            if kind in ("stringValue", "boolValue", "doubleValue") and isinstance(value, str | bool | int | float):
                found[_text(pair.get("key"))] = value
            elif kind == "intValue" and _is_whole(value):
                found[_text(pair.get("key"))] = int(value)
    return found


def _is_whole(value: Any) -> bool:
    """64-bit integers are texts in OTLP's JSON."""
    if isinstance(value, str):
        return len(value) <= 20 and value.removeprefix("-").isdecimal() and value.isascii()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_evaluation(name: Any, attributes: Mapping[str, Any]) -> bool:
    """By the name of the event; older SDKs have it among the attributes."""
    return name == EVENT or (not name and attributes.get("event.name") == EVENT)


def _place(of: Mapping[str, Any]) -> dict[str, str]:
    """The trace and the span of a record or span in JSON."""
    given = (("trace_id", "traceId", 32), ("span_id", "spanId", 16))
    return {name: _id(_text(of.get(key)).lower(), digits) for name, key, digits in given}


def _id(hexadecimal: str, digits: int) -> str:
    return hexadecimal if len(hexadecimal) == digits and hexadecimal.strip("0") else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
