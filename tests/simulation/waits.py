"""How long `ratchet power` says that a test takes, beside how long simulated tests took.

What is said rests on one week of an installation's own traffic: how often each user came, and how the champion's
metrics varied. The tests are months of the ramp (`tests.simulation.ramp`), with other seeds; one that promoted nothing
took longer than any. `python -m tests.simulation.waits` writes the table of docs/statistics.md.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from policies.estimates import Metric
from policies.power import ExpectedTraffic, PowerAnswer, required_test, shares_of
from policies.profiles import measured_profiles
from policies.records import Arm
from proxy.loop.look.expected import habits_of
from tests.simulation.__main__ import replace_table
from tests.simulation.cases import worth
from tests.simulation.ramp import Ending, simulate_month
from tests.simulation.series import stage_series
from tests.simulation.traffic import Activity, World, month
from tests.simulation.trial import config_for

__all__ = ["WAITS", "WEEKS", "Wait", "said_hours", "said_of", "typical_hours"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "statistics.md"
WEEKS: Final = 9
_WEEK_H: Final = 7 * 24
_WEEKS_SEED: Final = 90_000
_MONTHS_SEED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One kind of traffic and a challenger of some worth."""

    requests_per_day: int
    activity: Activity
    gain: float

    @property
    def world(self) -> World:
        return World(requests_per_day=self.requests_per_day, activity=self.activity, **worth(self.gain))  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        return f"{self.requests_per_day:,} a day, {self.activity}, {self.gain:+.0%}"


WAITS: Final = tuple(
    Wait(requests_per_day=volume, activity=activity, gain=gain)
    for volume in (500, 2000)
    for activity in ("lognormal", "zipf", "geometric")
    for gain in (0.05, 0.1)
)


def said_of(wait: Wait, seed: int = _WEEKS_SEED) -> PowerAnswer:
    """What the product says, after a week of this traffic."""
    week, config = month(wait.world, seed), config_for(wait.world)
    came = week.hour < _WEEK_H
    visits = Counter(np.unique(week.user[came], return_counts=True)[1].tolist())
    series, _ = stage_series(week, 0.01, 0, _WEEK_H, _WEEK_H, slower=1.0)
    rates = {Metric.POSITIVE: float((week.voted_hour[came] < _WEEK_H).mean())}
    profiles = measured_profiles(series.stats(Arm.CHAMPION, _WEEK_H - 1).moments, config, rates=rates)
    traffic = ExpectedTraffic(
        requests_per_day=int(came.sum()) / 7, users=float(visits.total()), habits=habits_of(visits, 7.0)
    )
    a_day = np.mean([np.unique(week.user[week.hour // 24 == day]).size for day in range(7)])
    return required_test(wait.gain, shares_of(config, float(a_day)), traffic, profiles, config)


def said_hours(wait: Wait, weeks: int) -> list[float]:
    """By when half of the tests have promoted it, as so many installations with this traffic are told; rising."""
    found = (said_of(wait, _WEEKS_SEED + week).half_days for week in range(weeks))
    return sorted(math.inf if days is None else 24 * days for days in found)


def typical_hours(wait: Wait, runs: int, pool: ProcessPoolExecutor | None = None) -> float:
    """By when half of the tests have promoted it; infinite where less than half of them ever did."""
    seeds = range(_MONTHS_SEED, _MONTHS_SEED + runs)
    one = partial(_month, wait)
    endings = [one(seed) for seed in seeds] if pool is None else list(pool.map(one, seeds))
    return median(ending.hours if ending.promoted else math.inf for ending in endings)


def _month(wait: Wait, seed: int) -> Ending:
    return simulate_month(wait.world, seed, claimed=False).plain


def table(runs: int) -> str:
    """Markdown."""
    rows = ["| | `ratchet power` after a week, of 9: median (from–to) | simulated |", "|---|--:|--:|"]
    with ProcessPoolExecutor() as pool:
        for wait in WAITS:
            said, seen = said_hours(wait, WEEKS), typical_hours(wait, runs, pool)
            rows.append(f"| {wait.name} | {median(said):.0f} h ({said[0]:.0f}–{said[-1]:.0f}) | {seen:.0f} h |")
    return "\n".join(rows)


def main() -> int:
    """Print it, or with --write put it into the page."""
    made = table(200)
    if "--write" not in sys.argv:
        sys.stdout.write(f"{made}\n")
        return 0
    PAGE.write_text(replace_table(PAGE.read_text(encoding="utf-8"), "waits", made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
