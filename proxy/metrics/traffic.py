"""What /metrics tells about requests and votes, counted by ingest after each commit.

Counting there and not on the hot path costs a request nothing, needs no agreement between workers, and knows
what only a reader of the answer can know: tokens, kind, quality. So these numbers trail the traffic by the
ingest's delay, and a record that was never stored (dropped, controller down for good) is not in them; the gateway's own
counters (`proxy.metrics.gateway`) are there at once.

Every label is bounded: arms, outcomes and kinds by their enums, models by the store's table, statuses by the list
here. `arm` is the assigned one, `model` the one that answered. Times are those of answers: what failed or was refused
is counted under its outcome, and how long that took is in `ratchet_request_duration_seconds` alone, under it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, Protocol

from prometheus_client.registry import CollectorRegistry

from policies.kinds import OTHER, TASK
from policies.records import Arm, Outcome, StickySource
from proxy.metrics.cells import Cell, Distribution
from proxy.metrics.families import CounterFamily, HistogramFamily
from proxy.metrics.genai import GenAiMetrics, GenAiSeries
from proxy.wire.extract.shapes import KINDS

__all__ = ["TrafficMetrics", "TrafficRecord", "TrafficVote"]

_STATUSES: Final = {0: "none"} | {int(status): str(int(status)) for status in HTTPStatus}
_DURATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_FIRST_BYTE_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_FIRST_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 80, 160)
"""A model that thinks first takes minutes; no model says a word within milliseconds."""
_OVERHEAD_S: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5)
_QUALITY: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_US: Final = 1e-6
_OK: Final = Outcome.OK


class TrafficRecord(Protocol):
    """What is counted of a record; the store's `NewRecord` has it all. Durations in µs."""

    @property
    def arm(self) -> Arm: ...
    @property
    def served_by(self) -> Arm: ...
    @property
    def model_id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def status(self) -> int: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def key_source(self) -> StickySource: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def upstream_us(self) -> int: ...
    @property
    def ttfb_us(self) -> int | None: ...
    @property
    def ttft_us(self) -> int | None: ...
    @property
    def own_us(self) -> int: ...
    @property
    def request_bytes(self) -> int: ...
    @property
    def response_bytes(self) -> int: ...
    @property
    def prompt_tokens(self) -> int | None: ...
    @property
    def completion_tokens(self) -> int | None: ...
    @property
    def cache_read_tokens(self) -> int | None: ...
    @property
    def cache_write_tokens(self) -> int | None: ...
    @property
    def reasoning_tokens(self) -> int | None: ...
    @property
    def quality(self) -> float | None: ...
    @property
    def fallback(self) -> bool: ...


class TrafficVote(Protocol):
    """What is counted of a vote; the store's `JoinedVote` has it all."""

    @property
    def feedback(self) -> int | None: ...
    @property
    def retracted(self) -> bool: ...
    @property
    def counts(self) -> bool: ...


class _Series:
    """Every histogram and counter of one (arm, model, kind), resolved once."""

    __slots__ = ("bytes_in", "bytes_out", "duration", "first_byte", "first_token", "genai", "labels", "overhead",
                 "quality", "tokens", "tokens_in", "tokens_out", "upstream")  # fmt: skip

    labels: tuple[str, str, str]
    """Arm, model and kind."""
    duration: Distribution
    """Of answers."""
    upstream: Distribution
    first_byte: Distribution
    first_token: Distribution
    overhead: Distribution
    quality: Distribution | None
    """None of a UI's own requests: their scores say nothing about the answers that people got."""
    tokens_in: Cell
    tokens_out: Cell
    tokens: tuple[Cell, Cell, Cell]
    """Parts of those: read from a cache, written to one, reasoning."""
    bytes_in: Cell
    bytes_out: Cell
    genai: GenAiSeries | None


class TrafficMetrics:
    """Counts records and votes. For one thread."""

    def __init__(self, registry: CollectorRegistry, *, otel_names: bool = False) -> None:
        """Register every family; with `otel_names` the OpenTelemetry GenAI ones, too."""
        by_kind = ("arm", "model", "kind")
        by_model = ("arm", "model")
        self._requests = CounterFamily(
            registry, "ratchet_requests", "Recorded requests.", (*by_model, "status", "outcome")
        )
        self._duration = HistogramFamily(registry, "ratchet_request_duration_seconds",
                                         "From a request's arrival to the last byte of its answer.",
                                         (*by_kind, "outcome"), _DURATION_S)  # fmt: skip
        self._upstream = HistogramFamily(registry, "ratchet_upstream_seconds",
                                         "Part of a request's duration spent waiting for the model.",
                                         by_kind, _DURATION_S)  # fmt: skip
        self._first_byte = HistogramFamily(registry, "ratchet_time_to_first_byte_seconds",
                                           "From a request's arrival to the head of its answer.",
                                           by_kind, _FIRST_BYTE_S)  # fmt: skip
        self._first_token = HistogramFamily(registry, "ratchet_time_to_first_token_seconds",
                                            "From a request's arrival to the first content of its answer.",
                                            by_kind, _FIRST_TOKEN_S)  # fmt: skip
        self._overhead = HistogramFamily(registry, "ratchet_overhead_seconds",
                                         "Part of a request's duration spent in the proxy itself.",
                                         by_model, _OVERHEAD_S)  # fmt: skip
        self._quality = HistogramFamily(registry, "ratchet_quality_score_ratio",
                                        "Quality scores of answers, 0 to 1.", by_model, _QUALITY)  # fmt: skip
        self._tokens = CounterFamily(registry, "ratchet_tokens",
                                     "Tokens as the model counted them; those of caches and reasoning are parts.",
                                     (*by_model, "type"))  # fmt: skip
        self._bytes = CounterFamily(registry, "ratchet_body_bytes", "Bytes of bodies, as sent.",
                                    (*by_model, "direction"))  # fmt: skip
        self._fallbacks = CounterFamily(
            registry, "ratchet_fallbacks", "Requests that the champion answered for another arm."
        ).cell()
        sources = CounterFamily(
            registry, "ratchet_sticky_key_source", "Requests by the source of their sticky key.", ("source",)
        )
        self._sources = {source: sources.cell(source.value) for source in StickySource}
        feedback = CounterFamily(registry, "ratchet_feedback", "Votes on stored answers, as received.", ("feedback",))
        self._votes = {name: feedback.cell(name) for name in _VOTES}
        self._genai = GenAiMetrics(registry) if otel_names else None
        self._models: dict[int, str] = {}
        self._series: dict[tuple[Arm, int, str], _Series] = {}
        self._cells: dict[tuple[Arm, int, int, Outcome], Cell] = {}

    def set_models(self, names: Mapping[int, str]) -> None:
        """Names of the store's models by id; records of any other model count under `unknown`."""
        if names != self._models:
            self._models = dict(names)
            self._series.clear()
            self._cells.clear()

    def observe_all(self, records: Iterable[TrafficRecord]) -> None:
        """Count stored records."""
        for record in records:
            self.observe(record)

    def observe(self, record: TrafficRecord) -> None:
        """Count one stored record."""
        key = (record.arm, record.model_id, record.status, record.outcome)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._request_cell(*key)
        cell.value += 1
        series = self._series.get((record.arm, record.model_id, record.kind))
        if series is None:
            series = self._resolve(record.arm, record.model_id, record.kind)
        self._observe_times(series, record)
        series.bytes_in.value += record.request_bytes
        series.bytes_out.value += record.response_bytes
        _count_tokens(series, record)
        if record.quality is not None and series.quality is not None:
            series.quality.observe(record.quality)
        if record.fallback:
            self._fallbacks.value += 1
        self._sources[record.key_source].value += 1
        if series.genai is not None:
            series.genai.observe(record)

    def observe_votes(self, votes: Iterable[TrafficVote]) -> None:
        """Count votes that have found their record."""
        for vote in votes:
            name = "retracted" if vote.retracted else _VOTE_NAMES[vote.feedback]
            self._votes[name if vote.counts else "uncounted"].value += 1

    def _observe_times(self, series: _Series, record: TrafficRecord) -> None:
        outcome = record.outcome
        series.overhead.observe(record.own_us * _US)
        if outcome is _OK:
            series.duration.observe(record.duration_us * _US)
        else:
            self._duration.cell(*series.labels, outcome.label).observe(record.duration_us * _US)
            if outcome.failed or outcome.refused:
                return
        series.upstream.observe(record.upstream_us * _US)
        if record.ttfb_us is not None:
            series.first_byte.observe(record.ttfb_us * _US)
        if record.ttft_us is not None:
            series.first_token.observe(record.ttft_us * _US)

    def _model(self, model_id: int) -> str:
        return self._models.get(model_id, "unknown")

    def _request_cell(self, arm: Arm, model_id: int, status: int, outcome: Outcome) -> Cell:
        label = _STATUSES.get(status) or f"{status // 100 if 100 <= status < 600 else '?'}xx"
        return self._requests.cell(arm.label, self._model(model_id), label, outcome.label)

    def _resolve(self, arm: Arm, model_id: int, kind: str) -> _Series:
        known = KINDS.get(kind, OTHER)
        model = self._model(model_id)
        series = _Series()
        for_kind, for_model = (arm.label, model, known.name), (arm.label, model)
        series.labels = for_kind
        series.duration = self._duration.cell(*for_kind, Outcome.OK.label)
        series.upstream = self._upstream.cell(*for_kind)
        series.first_byte = self._first_byte.cell(*for_kind)
        series.first_token = self._first_token.cell(*for_kind)
        series.overhead = self._overhead.cell(*for_model)
        series.quality = None if known is TASK else self._quality.cell(*for_model)
        series.tokens_in, series.tokens_out, *parts = (self._tokens.cell(*for_model, name) for name in _TOKENS)
        series.tokens = (parts[0], parts[1], parts[2])
        series.bytes_in, series.bytes_out = (self._bytes.cell(*for_model, d) for d in ("request", "response"))
        series.genai = self._genai.resolve(model, known) if self._genai else None
        self._series[(arm, model_id, kind)] = series
        return series


def _count_tokens(series: _Series, record: TrafficRecord) -> None:
    if record.prompt_tokens is not None:
        series.tokens_in.value += record.prompt_tokens
    if record.completion_tokens is not None:
        series.tokens_out.value += record.completion_tokens
    read, written, thought = series.tokens
    if record.cache_read_tokens is not None:
        read.value += record.cache_read_tokens
    if record.cache_write_tokens is not None:
        written.value += record.cache_write_tokens
    if record.reasoning_tokens is not None:
        thought.value += record.reasoning_tokens


_TOKENS: Final = ("prompt", "completion", "cache_read", "cache_write", "reasoning")
_VOTE_NAMES: Final = {1: "positive", 0: "neutral", -1: "negative", None: "none"}
_VOTES: Final = ("positive", "neutral", "negative", "none", "retracted", "uncounted")
