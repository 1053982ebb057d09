"""The same traffic under OpenTelemetry's GenAI names, for dashboards that already know them.

Names, buckets and attributes are those of the semantic conventions (`gen_ai.*` metrics), written as Prometheus writes
them: dots become underscores, the unit a suffix. Off by default (`telemetry.otel_names`). The conventions renamed what
counts tokens in 2026: tokens are there under the names of now and the ones before.

`error.type` is empty for an answer and nothing else. What failed or was refused has a duration under its error type
alone: no first token and no tokens of it are mixed with those of answers.
"""

from __future__ import annotations

from typing import Final, Protocol

from prometheus_client.registry import CollectorRegistry

from policies.kinds import Kind
from policies.records import Outcome
from proxy.metrics.cells import Distribution
from proxy.metrics.families import HistogramFamily

__all__ = ["GenAiMetrics", "GenAiSeries"]

_DURATION_S: Final = tuple(0.01 * 2**n for n in range(14))
_FIRST_TOKEN_S: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_TOKENS: Final = tuple(4**n for n in range(14))
_US: Final = 1e-6
_OK: Final = Outcome.OK


class GenAiRecord(Protocol):
    """What is counted of a record here."""

    @property
    def status(self) -> int: ...
    @property
    def outcome(self) -> Outcome: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def ttft_us(self) -> int | None: ...
    @property
    def prompt_tokens(self) -> int | None: ...
    @property
    def completion_tokens(self) -> int | None: ...


class GenAiSeries:
    """The histograms of one (operation, model), resolved once."""

    __slots__ = ("_family", "_first_token", "_input", "_labels", "_ok", "_output")

    def __init__(
        self,
        duration: HistogramFamily,
        labels: tuple[str, str],
        first_token: Distribution,
        tokens: tuple[tuple[Distribution, Distribution], tuple[Distribution, Distribution]],
    ) -> None:
        """`tokens`: of input and of output, each under its earlier name and the one of now."""
        self._family = duration
        self._labels = labels
        self._ok = duration.cell(*labels, "")
        self._first_token = first_token
        self._input, self._output = tokens

    def observe(self, record: GenAiRecord) -> None:
        """Count one record."""
        outcome = record.outcome
        if outcome is _OK:
            self._ok.observe(record.duration_us * _US)
        else:
            self._family.cell(*self._labels, _error_type(record)).observe(record.duration_us * _US)
            if outcome.failed or outcome.refused:
                return
        if record.ttft_us is not None:
            self._first_token.observe(record.ttft_us * _US)
        if record.prompt_tokens is not None:
            for tokens in self._input:
                tokens.observe(record.prompt_tokens)
        if record.completion_tokens is not None:
            for tokens in self._output:
                tokens.observe(record.completion_tokens)


class GenAiMetrics:
    """The GenAI families."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("gen_ai_operation_name", "gen_ai_response_model")
        self._duration = HistogramFamily(registry, "gen_ai_server_request_duration_seconds",
                                         "Duration of GenAI requests.", (*labels, "error_type"),
                                         _DURATION_S)  # fmt: skip
        self._first_token = HistogramFamily(registry, "gen_ai_server_time_to_first_token_seconds",
                                            "Time until a GenAI answer's first token.", labels,
                                            _FIRST_TOKEN_S)  # fmt: skip
        self._tokens = HistogramFamily(registry, "gen_ai_client_token_usage", "Tokens of a GenAI request.",
                                       (*labels, "gen_ai_token_type"), _TOKENS)  # fmt: skip
        self._input = HistogramFamily(registry, "gen_ai_client_inference_operation_input_tokens",
                                      "Input tokens of a GenAI request.", labels, _TOKENS)  # fmt: skip
        self._output = HistogramFamily(registry, "gen_ai_client_inference_operation_output_tokens",
                                       "Output tokens of a GenAI request.", labels, _TOKENS)  # fmt: skip

    def resolve(self, model: str, kind: Kind) -> GenAiSeries | None:
        """The series of this model and kind; None for a kind that is no GenAI operation."""
        if kind.operation is None:
            return None
        labels = (kind.operation, model)
        tokens = (
            (self._tokens.cell(*labels, "input"), self._input.cell(*labels)),
            (self._tokens.cell(*labels, "output"), self._output.cell(*labels)),
        )
        return GenAiSeries(self._duration, labels, self._first_token.cell(*labels), tokens)


def _error_type(record: GenAiRecord) -> str:
    """`error.type`: the class of the HTTP status, where that is an error, else what became of the answer."""
    return f"{record.status // 100}xx" if 400 <= record.status < 600 else record.outcome.label
