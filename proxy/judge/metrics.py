"""The judge's metrics: what it scored, what it failed at, what it cost, and whether its score counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from policies.agreement import JudgeStanding
from proxy.judge.ports import Failure, Judgement
from proxy.store.control.judgements import LOST

__all__ = ["JudgeMetrics"]

_REASONS: Final = (*(failure.value for failure in Failure), LOST)


class JudgeMetrics(Collector):
    """Counts by this process, 0 without a judge, and the standing while it is this process that judges."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._scores = 0
        self._tokens = 0
        self._failures: Counter[str] = Counter()
        self.standing: JudgeStanding | None = None
        """None: another controller judges, or nothing is known yet."""
        self.lag_s: float | None = None
        """None: nothing waits."""
        registry.register(self)

    def judged(self, judgement: Judgement) -> None:
        """The judge has answered, or failed to."""
        self._tokens += judgement.tokens
        if judgement.score is not None:
            self._scores += 1
        else:
            self._failures[judgement.failure or Failure.FAILED] += 1

    def lost(self, count: int) -> None:
        """So many questions were open when an earlier process ended."""
        self._failures[LOST] += count

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """See prometheus_client."""
        yield CounterMetricFamily("ratchet_judge_scores", "Answers that the judge scored.", value=self._scores)
        failures = CounterMetricFamily(
            "ratchet_judge_failures", "Answers drawn for the judge that have no score.", labels=["reason"]
        )
        for reason in _REASONS:
            failures.add_metric([reason], self._failures[reason])
        yield failures
        yield CounterMetricFamily("ratchet_judge_tokens", "Tokens that the judge used.", value=self._tokens)
        if self.standing is None:
            return
        yield GaugeMetricFamily(
            "ratchet_judge_lag_seconds", "Age of the oldest answer that waits for the judge.", value=self.lag_s or 0.0
        )
        yield GaugeMetricFamily(
            "ratchet_judge_agreement_lower_ratio",
            "What the judge's agreement with people's votes is at least.",
            value=self.standing.bound,
        )
        yield GaugeMetricFamily(
            "ratchet_judge_counts", "1 while the judge's score counts.", value=float(self.standing.counts)
        )
