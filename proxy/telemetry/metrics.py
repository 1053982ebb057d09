"""How the sending of telemetry fares, where it is switched on. Counts by this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["DROPPED", "TelemetryMetrics"]

DROPPED: Final = ("too_old", "refused", "rejected", "too_large")
_SIGNALS: Final = ("traces", "logs")


class TelemetryMetrics(Collector):
    """Spans and events that were sent, and those that were not."""

    def __init__(self, registry: CollectorRegistry, *, enabled: bool) -> None:
        """Without `enabled` nothing is shown."""
        self._sent: Counter[str] = Counter()
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._failures = 0
        self.lag_s: float | None = None
        """Age of what is to be sent next; None while another controller sends, or nothing waits."""
        if enabled:
            registry.register(self)

    def sent(self, signal: str, count: int) -> None:
        """The receiver took so many."""
        self._sent[signal] += count

    def dropped(self, signal: str, reason: str, count: int) -> None:
        """So many are left out for good; `reason` is one of DROPPED."""
        self._dropped[signal, reason] += count

    def failed(self) -> None:
        """A request was not answered, or the receiver wants to be asked later."""
        self._failures += 1

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        sent = CounterMetricFamily("ratchet_telemetry_sent", "Spans and events that the receiver took.",
                                   labels=["signal"])  # fmt: skip
        dropped = CounterMetricFamily("ratchet_telemetry_dropped", "Spans and events that were left out for good.",
                                      labels=["signal", "reason"])  # fmt: skip
        for signal in _SIGNALS:
            sent.add_metric([signal], self._sent[signal])
            for reason in DROPPED:
                dropped.add_metric([signal, reason], self._dropped[signal, reason])
        failures = CounterMetricFamily("ratchet_telemetry_failures",
                                       "Requests that the receiver did not answer, or put off.")  # fmt: skip
        failures.add_metric([], self._failures)
        lag = GaugeMetricFamily("ratchet_telemetry_lag_seconds", "Age of what is to be sent next; 0 if nothing waits.")
        lag.add_metric([], self.lag_s or 0.0)
        yield from (sent, dropped, failures, lag)
