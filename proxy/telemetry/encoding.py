"""Spans and events as OTLP's messages in protobuf: OpenTelemetry's SDK values, written by its own exporter's encoders.

Only the encoders of the exporter are used. The rest of it waits and repeats in a thread that nobody can stop, and knows
nothing of a store that is its queue: what is sent, and when again, is in `sending` and `service`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from proxy.telemetry.evaluations import EVENT
from proxy.telemetry.facts import EventFacts, Place, SpanFacts
from proxy.version import __version__

__all__ = ["OtlpEncoder", "rejected"]

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class OtlpEncoder:
    """Writes what one controller sends."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        """`attributes`: of the resource, beside the service's name and version."""
        whose = {"service.name": "ratchet", "service.version": __version__, **attributes}
        self._resource = Resource(whose)
        self._scope = InstrumentationScope("ratchet", __version__)

    def spans(self, facts: Sequence[SpanFacts]) -> bytes:
        """A request to /v1/traces."""
        return bytes(encode_spans([self._span(one) for one in facts]).SerializeToString())

    def events(self, facts: Sequence[EventFacts], now_ns: int) -> bytes:
        """A request to /v1/logs."""
        return bytes(encode_logs([self._event(one, now_ns) for one in facts]).SerializeToString())

    def _span(self, facts: SpanFacts) -> ReadableSpan:
        place = facts.place
        parent = None if place.parent_id is None else _context(place.trace_id, place.parent_id, remote=True)
        return ReadableSpan(
            name=facts.name,
            context=_context(place.trace_id, place.span_id),
            parent=parent,
            resource=self._resource,
            attributes=dict(facts.attributes),
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if facts.failed else StatusCode.UNSET),
            start_time=facts.start_ns,
            end_time=facts.end_ns,
            instrumentation_scope=self._scope,
        )

    def _event(self, facts: EventFacts, now_ns: int) -> ReadableLogRecord:
        made = LogRecord(
            timestamp=facts.at_ns,
            observed_timestamp=now_ns,
            context=_around(facts.place),
            severity_number=SeverityNumber.INFO,
            attributes=dict(facts.attributes),
            event_name=EVENT,
        )
        return ReadableLogRecord(log_record=made, resource=self._resource, instrumentation_scope=self._scope)


def rejected(signal: str, answer: bytes) -> tuple[int, str]:
    """How many of what was sent the receiver did not take, and why, from its answer of 200; one that cannot be read
    says nothing."""
    try:
        if signal == "traces":
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
            return partial.rejected_spans, partial.error_message
        part = ExportLogsServiceResponse.FromString(answer).partial_success
        return part.rejected_log_records, part.error_message
    except Exception:  # noqa: BLE001 - whatever bytes a receiver answers with
        return 0, ""


def _context(trace_id: int, span_id: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=_SAMPLED)


def _around(place: Place | None) -> Context:
    """The context of what happened in that span."""
    if place is None:
        return Context()
    return set_span_in_context(NonRecordingSpan(_context(place.trace_id, place.span_id)), Context())
