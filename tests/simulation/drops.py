"""The quality-drop trigger over a month, beside the plain rule "the 24-hour mean is 10 % lower"."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np

from policies.triggers import DropDetector, Trigger, TriggerConfig, TriggerFacts, evaluate_triggers
from tests.simulation.traffic import HOURS, ICC, Floats

_MEAN, _WARM_UP_HOURS = 0.7, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Scored requests a day, and the change that happens at once when the month begins."""

    scored_per_day: int
    change: float
    most_alarms: float = 1.0
    fewest_alarms: float = 0.0


DROPS: tuple[Drop, ...] = (
    Drop(scored_per_day=30, change=0.0, most_alarms=0.05),
    Drop(scored_per_day=100, change=0.0, most_alarms=0.05),
    Drop(scored_per_day=300, change=0.0, most_alarms=0.05),
    Drop(scored_per_day=1000, change=0.0, most_alarms=0.05),
    Drop(scored_per_day=100, change=-0.2, fewest_alarms=0.95),
    Drop(scored_per_day=300, change=-0.2, fewest_alarms=0.95),
    Drop(scored_per_day=1000, change=-0.2, fewest_alarms=0.95),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOutcome:
    """How often, and how soon."""

    drop: Drop
    alarms: float
    median_hours: float | None
    naive_alarms: float

    @property
    def holds(self) -> bool:
        """Whether the alarms stay within what the case demands."""
        return self.drop.fewest_alarms <= self.alarms <= self.drop.most_alarms

    def row(self) -> str:
        """The row of the table."""
        d = self.drop
        must = f"≤ {d.most_alarms:.0%}" if d.most_alarms < 1 else f"≥ {d.fewest_alarms:.0%}"
        hours = "–" if self.median_hours is None else f"{self.median_hours:.0f} h"
        return (
            (
                f"| {d.scored_per_day:,} | {d.change:+.0%} | {self.alarms:.1%} | {hours} | {self.naive_alarms:.0%} "
                f"| {must}: {'holds' if self.holds else '**broken**'} |"
            )
            .replace("-", "−")
            .replace("|−−", "|--")
        )


def simulate_drop(index: int, runs: int) -> DropOutcome:
    """`runs` months of DROPS[index]."""
    drop = DROPS[index]
    months = [_month(drop, seed) for seed in range(runs)]
    found = [hours for hours, _ in months if hours is not None]
    return DropOutcome(
        drop=drop,
        alarms=len(found) / runs,
        median_hours=median(found) if found else None,
        naive_alarms=sum(naive for _, naive in months) / runs,
    )


def _month(drop: Drop, seed: int) -> tuple[int | None, bool]:
    """When the trigger is due (hours after the change), and whether the plain rule would have fired."""
    rng = np.random.default_rng(seed)
    hours = [_hour(rng, drop, hour) for hour in range(_WARM_UP_HOURS + HOURS)]
    # Frozen at promotion from ten days of the old traffic: nearly, but not quite, the true mean.
    baseline = _MEAN + rng.normal(0.0, 0.23 / (10 * drop.scored_per_day) ** 0.5)
    detector, config, naive = DropDetector(baseline=baseline), TriggerConfig(), False
    for hour in range(_WARM_UP_HOURS, len(hours)):
        detector = detector.update(hours[hour].tolist())
        recent = np.concatenate(hours[hour - 23 : hour + 1])
        if not recent.size:
            continue
        facts = TriggerFacts(
            installed_at=0.0,
            usable_samples=1000,
            quality_baseline=baseline,
            quality_recent=float(recent.mean()),
            detector=detector,
        )
        report = evaluate_triggers(facts, config, 3600.0 * (hour - _WARM_UP_HOURS))
        naive |= float(recent.mean()) <= (1 - config.quality_drop_threshold) * baseline
        if any(progress.due for progress in report.progress if progress.name is Trigger.QUALITY_DROP):
            return hour - _WARM_UP_HOURS + 1, naive
    return None, naive


def _hour(rng: np.random.Generator, drop: Drop, hour: int) -> Floats:
    """Mean scores of the users of one hour; most come once."""
    mean = _MEAN * (1 + drop.change) if hour >= _WARM_UP_HOURS else _MEAN
    spread = 1 / ICC - 1
    taste = np.clip(rng.beta(mean * spread, (1 - mean) * spread, rng.poisson(drop.scored_per_day / 24)), 1e-6, 1 - 1e-6)
    return rng.beta(3 * taste, 3 * (1 - taste))
