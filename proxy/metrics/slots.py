"""A counter of the workers, said once by the room that counts: its name, its labels' values, and what it means.

From it follow the slots of the shared file (`proxy.metrics.shared`), what /metrics says beside the number, and the row
of docs/reference/metrics.md that a test asks for. What is counted is a literal of one of these slots, or made by
`WorkerCounter.slot`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from proxy.metrics.shared import is_counter

__all__ = ["WorkerCounter", "slots_of", "texts_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCounter:
    """A family of slots. A name that ends in `_total` is a counter's, any other a gauge's."""

    name: str
    """Without the prefix `ratchet_gateway_`."""
    text: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each label with all its values; there is a slot for every combination."""

    def slot(self, *values: str) -> str:
        """The slot with these values of the labels, in their order."""
        if not values:
            return self.name
        pairs = ",".join(f'{label}="{value}"' for (label, _), value in zip(self.labels, values, strict=True))
        return f"{self.name}{{{pairs}}}"

    def slots(self) -> Iterator[str]:
        """All of them."""
        return (self.slot(*values) for values in product(*(known for _, known in self.labels)))

    @property
    def row(self) -> str:
        """How its row in docs/reference/metrics.md begins."""
        kind = "counter" if is_counter(self.name) else "gauge"
        names = ", ".join(label for label, _ in self.labels)
        return f"| `ratchet_gateway_{self.name}` | {kind} | {names + ' ' if names else ''}|"


def slots_of(counters: Iterable[WorkerCounter]) -> tuple[str, ...]:
    """The slots of all of them, for `SharedCounters`."""
    return tuple(slot for counter in counters for slot in counter.slots())


def texts_of(counters: Iterable[WorkerCounter]) -> dict[str, str]:
    """What they mean, by name, for `GatewayCollector`."""
    return {counter.name: counter.text for counter in counters}
