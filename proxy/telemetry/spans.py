"""A record as a span, in the words of OpenTelemetry's GenAI conventions (state of November 2026).

What stands in the record's row is always there; the provider's id of the answer, the models' names on the wire and the
finish reason are read from the stored bodies, where there are any. Ours begin with `ratchet.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from policies.kinds import Kind
from proxy.store.tables.values import RecordFlag, RecordView
from proxy.telemetry.content import content_of
from proxy.telemetry.facts import SpanFacts, Value, hexadecimal, place_of
from proxy.wire.extract import KINDS, CapturedExchange, Extraction, extract

__all__ = ["ModelServer", "Reading", "read", "span_of"]

_PROVIDERS: Final = (
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    (".amazonaws.com", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
)
"""How the host of a model's server ends, and what the conventions call who runs it."""
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Who answered: the model's name here, and where its server is."""

    name: str
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A record, and what its bodies say."""

    view: RecordView
    server: ModelServer
    found: Extraction | None
    """None without bodies, or where they cannot be read."""
    captured: CapturedExchange

    @property
    def response_id(self) -> str | None:
        """The provider's id of the answer."""
        return self.found.provider_id if self.found is not None else None


def read(view: RecordView, server: ModelServer) -> Reading:
    """Read a record's bodies; work on the CPU. Raises nothing for what stands in them."""
    body = view.body
    if body is None:
        return Reading(view=view, server=server, found=None, captured=CapturedExchange(target=""))
    captured = CapturedExchange(
        target=body.target,
        status=view.row.status,
        request=body.request,
        response=body.response,
        request_type=body.request_headers.get("content-type", ""),
        response_type=body.response_headers.get("content-type", ""),
        request_cut=RecordFlag.TRUNCATED_REQUEST in view.row.flags,
        response_cut=RecordFlag.TRUNCATED_RESPONSE in view.row.flags,
    )
    return Reading(view=view, server=server, found=extract(captured), captured=captured)


def span_of(reading: Reading, *, content: bool) -> SpanFacts | None:
    """The record's span; None of what is no GenAI operation. `content`: with its words."""
    row = reading.view.row
    kind = KINDS.get(row.kind)
    if kind is None or kind.operation is None:
        return None
    attributes: dict[str, Value | None] = {
        **_request(reading, kind),
        **_answer(reading),
        **_usage(reading),
        **_server(reading.server),
        **_ours(reading),
    }
    if content:
        attributes |= content_of(reading.view, reading.captured, reading.found)
    known = {name: value for name, value in attributes.items() if value is not None}
    model = known.get("gen_ai.request.model")
    return SpanFacts(
        name=f"{kind.operation} {model}" if model else kind.operation,
        place=place_of(row.id, reading.view),
        start_ns=row.created_us * 1000,
        end_ns=(row.created_us + row.duration_us) * 1000,
        failed="error.type" in known,
        attributes=known,
    )


def _request(reading: Reading, kind: Kind) -> Mapping[str, Value | None]:
    row, asked = reading.view.row, reading.found.request_fields if reading.found is not None else {}
    named = asked.get("model")
    return {
        "gen_ai.operation.name": kind.operation,
        "gen_ai.provider.name": _provider(reading.server.url, kind),
        "gen_ai.request.model": named if isinstance(named, str) and named else None,
        "gen_ai.request.stream": True if row.flags & RecordFlag.STREAMED else None,
        "gen_ai.request.previous_response.id": _text(asked.get("previous_response_id")),
        "gen_ai.conversation.id": None if row.conversation is None else hexadecimal(row.conversation),
        "user.id": None if row.user_hash is None else hexadecimal(row.user_hash),
    }


def _answer(reading: Reading) -> Mapping[str, Value | None]:
    row, found = reading.view.row, reading.found
    streamed = row.ttft_us is not None and row.flags & RecordFlag.STREAMED
    went_wrong = row.outcome.failed or row.outcome.refused
    answered = found is not None and not went_wrong
    return {
        "gen_ai.response.id": reading.response_id,
        "gen_ai.response.model": found.model if found is not None and answered else None,
        "gen_ai.response.finish_reasons": (found.finish_reason,) if found is not None and found.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": row.ttft_us / 1e6 if streamed and row.ttft_us is not None else None,
        "http.response.status_code": row.status or None,
        "error.type": None if not went_wrong else str(row.status) if row.status >= 400 else row.outcome.label,
    }


def _usage(reading: Reading) -> Mapping[str, Value | None]:
    row = reading.view.row
    return {
        "gen_ai.usage.input_tokens": row.prompt_tokens,
        "gen_ai.usage.output_tokens": row.completion_tokens,
        "gen_ai.usage.reasoning.output_tokens": row.reasoning_tokens,
        "gen_ai.usage.cache_read.input_tokens": row.cache_read_tokens,
        "gen_ai.usage.cache_write.input_tokens": row.cache_write_tokens,
    }


def _server(server: ModelServer) -> Mapping[str, Value | None]:
    parts = urlsplit(server.url or "")
    return {
        "server.address": parts.hostname,
        "server.port": None if parts.hostname is None else parts.port or _PORTS.get(parts.scheme),
    }


def _ours(reading: Reading) -> Mapping[str, Value | None]:
    row = reading.view.row
    return {
        "ratchet.record_id": row.id,
        "ratchet.arm": row.arm.label,
        "ratchet.served_by": row.served_by.label,
        "ratchet.model": reading.server.name,
        "ratchet.experiment_id": row.experiment_id,
        "ratchet.epoch": row.epoch if row.experiment_id is not None else None,
        "ratchet.kind": row.kind,
        "ratchet.outcome": row.outcome.label,
    }


def _provider(url: str | None, kind: Kind) -> str:
    """Who runs the server; where its host tells nothing, whose API it is."""
    host = urlsplit(url or "").hostname or ""
    return next((name for end, name in _PROVIDERS if host.endswith(end)), kind.provider or kind.name)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
