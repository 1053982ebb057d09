"""The workers' shared counters on /metrics: summed over the workers when somebody asks.

A slot `not_recorded_total{reason="disk_full"}` shows as `ratchet_gateway_not_recorded_total{reason="disk_full"}`.
The files outlive their workers, so a restart loses no count; a family exists as soon as one worker declares it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from proxy.metrics.shared import is_counter, sum_counters

__all__ = ["GatewayCollector", "stats_files"]

_PREFIX: Final = "ratchet_gateway_"
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


class GatewayCollector(Collector):
    """Renders the counter files that `files()` names. `texts` are help texts by slot name without labels."""

    def __init__(self, files: Callable[[], Iterable[Path]], texts: Mapping[str, str]) -> None:
        self._files = files
        self._texts = texts

    def describe(self) -> list[CounterMetricFamily]:
        """Nothing: which families there are depends on the files."""
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The sums over all workers, now."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for slot, value in sorted(sum_counters(self._files()).items()):
            name, _, rest = slot.partition("{")
            labels = _LABEL.findall(rest)
            family = families.get(name)
            if family is None:
                family = families[name] = self._family(name, [label for label, _ in labels])
            family.add_metric([text for _, text in labels], value)
        yield from families.values()

    def _family(self, name: str, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
        text = self._texts.get(name, "Sum over the workers.")
        if is_counter(name):
            return CounterMetricFamily(_PREFIX + name.removesuffix("_total"), text, labels=labels)
        return GaugeMetricFamily(_PREFIX + name, text, labels=labels)


def stats_files(run_dir: Path) -> list[Path]:
    """The workers' counter files in the directory `run_dir`."""
    return sorted(run_dir.glob("worker-*.stats"))
