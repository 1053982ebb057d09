"""What forged votes reach, and what it costs to hold them off: the two tables of docs/statistics.md about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from tests.simulation.cases import worth
from tests.simulation.forgers import Ending, by_cluster, by_user
from tests.simulation.traffic import World

__all__ = ["ADDRESSES", "POWERS", "Attacked", "Power", "Powered", "attacked", "forged_table", "power_table", "powered"]

ADDRESSES: Final = (0, 1, 5, 10, 20)
_NAMED: Final = 5
"""With more addresses than this nobody asks any more what names alone would come to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """Shares of A/A months that end with a promotion, by what is a unit of evidence."""

    addresses: int
    user: float | None
    cluster: float
    survives: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Traffic without a forger and a challenger that is better."""

    name: str
    world: World


POWERS: Final = (
    Power(name="2,000 a day, +5 %", world=World(requests_per_day=2000, **worth(0.05))),
    Power(name="2,000 a day, +10 %", world=World(requests_per_day=2000, **worth(0.10))),
    Power(name="500 a day, +10 %", world=World(requests_per_day=500, **worth(0.10))),
    Power(name="500 a day, half of the users, +10 %", world=World(requests_per_day=500, share=0.5, **worth(0.10))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Powered:
    """Share of months with a promotion, and the median hours to it."""

    promoted: float
    median_hours: float | None

    @classmethod
    def of(cls, endings: Sequence[Ending]) -> Powered:
        hours = [ending.hours for ending in endings if ending.promoted]
        return cls(promoted=len(hours) / len(endings), median_hours=median(hours) if hours else None)

    def __str__(self) -> str:
        hours = "" if self.median_hours is None else f" ({self.median_hours:.0f} h)"
        return f"{_percent(self.promoted)}{hours}"


def attacked(addresses: int, seeds: Iterable[int]) -> Attacked:
    """A/A months, one a seed, with so many forging addresses."""
    world, seeds = World(requests_per_day=2000), list(seeds)
    pairs = [by_cluster(world, addresses, seed) for seed in seeds]
    plain = _promoted(pair[0] for pair in pairs)
    user: float | None = plain  # as long as everybody honest has an address of his own
    if addresses:
        user = _promoted(by_user(world, addresses, seed) for seed in seeds) if addresses <= _NAMED else None
    return Attacked(addresses=addresses, user=user, cluster=plain, survives=_promoted(pair[1] for pair in pairs))


def powered(power: Power, seeds: Iterable[int]) -> tuple[Powered, Powered]:
    """With clusters alone, and where a promotion has to survive leaving out."""
    pairs = [by_cluster(power.world, 0, seed) for seed in seeds]
    return Powered.of([pair[0] for pair in pairs]), Powered.of([pair[1] for pair in pairs])


def forged_table(rows: Iterable[Attacked]) -> str:
    """Falsely promoted, by addresses."""
    lines = ["| forging addresses | key = user | cluster | cluster, survives leaving out |", "|---|--:|--:|--:|"]
    for row in rows:
        lines.append(f"| {row.addresses} | {' | '.join(map(_percent, (row.user, row.cluster, row.survives)))} |")
    return "\n".join(lines)


def power_table(rows: Iterable[tuple[str, tuple[Powered, Powered]]]) -> str:
    """Promoted, with the median time to it."""
    lines = ["| promoted (median) | cluster | cluster, survives leaving out |", "|---|--:|--:|"]
    return "\n".join((*lines, *(f"| {name} | {plain} | {held} |" for name, (plain, held) in rows)))


def _promoted(endings: Iterable[Ending]) -> float:
    decided = [ending.promoted for ending in endings]
    return sum(decided) / len(decided)


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return f"{100 * share:.1f} %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
