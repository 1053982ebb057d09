"""The cases that the decision rule must hold in, and what must hold: one row each in docs/statistics.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from policies.experiment import Verdict
from tests.simulation.traffic import Activity, World
from tests.simulation.trial import Trial, run

_COMPOSITE_SHARE = 0.8
"""Quality and thumbs together carry 0.8 of the composite: +12.5 % in both is +10 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Shares of the runs of one case, and how long the decisions took."""

    runs: int
    promoted: float
    rolled_back: float
    rejected: float
    invalid: float
    naive_promoted: float
    median_hours: float | None
    """Of the runs that were decided; None when none was."""

    @property
    def ended_against(self) -> float:
        """Rolled back or rejected."""
        return self.rolled_back + self.rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Some traffic, and what must come of it."""

    name: str
    world: World
    must: str
    holds: Callable[[Outcome], bool]
    fast: bool = False
    """Part of `make test`, with fewer runs."""


def simulate(case: Case, runs: int, seed: int = 0) -> Outcome:
    """Run `runs` months of `case`; the same seeds give the same outcome."""
    return summarise([run(case.world, seed + i) for i in range(runs)])


def summarise(trials: Sequence[Trial]) -> Outcome:
    """Count the verdicts."""

    def share(verdict: Verdict) -> float:
        return sum(trial.verdict is verdict for trial in trials) / len(trials)

    decided = [t.hours for t in trials if t.verdict in (Verdict.PROMOTE, Verdict.ROLL_BACK, Verdict.REJECT)]
    return Outcome(
        runs=len(trials),
        promoted=share(Verdict.PROMOTE),
        rolled_back=share(Verdict.ROLL_BACK),
        rejected=share(Verdict.REJECT),
        invalid=sum(trial.was_invalid for trial in trials) / len(trials),
        naive_promoted=sum(trial.naive_hours is not None for trial in trials) / len(trials),
        median_hours=median(decided) if decided else None,
    )


def worth(gain: float) -> dict[str, float]:
    """A challenger whose composite changes by `gain`."""
    change = gain / _COMPOSITE_SHARE
    return {"quality_change": change, "positive_change": change}


def _same(requests_per_day: int, activity: Activity, **world: float) -> Case:
    kind = "thumbs only, " if not world.get("judge", True) else ""
    rate = f", {world['positive_mean']:.0%} up" if "positive_mean" in world else ""
    return Case(
        name=f"identical, {requests_per_day:,}/day, {kind}{activity}{rate}",
        world=World(requests_per_day=requests_per_day, activity=activity, **world),  # type: ignore[arg-type]
        must="promoted ≤ 2 %, rolled back ≤ 5 %",
        holds=lambda outcome: outcome.promoted <= 0.02 and outcome.rolled_back <= 0.05,
        fast=requests_per_day == 2000 and activity == "zipf",
    )


def _alike(what: str, **world: float) -> Case:
    """Neither arm is better, and clients err."""
    same = _same(2000, "lognormal", **world)
    return replace(same, name=f"identical, 2,000/day, {what}")


def _worse(requests_per_day: int, **world: float) -> Case:
    kind = ", thumbs only" if not world.get("judge", True) else ""
    return Case(
        name=f"5 % worse, {requests_per_day:,}/day{kind}",
        world=World(requests_per_day=requests_per_day, **world),  # type: ignore[arg-type]
        must="promoted 0 %",
        holds=lambda outcome: outcome.promoted == 0,
        fast=requests_per_day == 2000,
    )


_ACTIVITIES: tuple[Activity, ...] = ("lognormal", "zipf", "geometric")

CASES: tuple[Case, ...] = (
    *(_same(volume, activity) for volume in (500, 2000, 5000) for activity in _ACTIVITIES),
    _same(500, "lognormal", judge=False),
    _same(2000, "lognormal", judge=False, positive_mean=0.9),
    _same(2000, "lognormal", judge=False, positive_mean=0.97),
    _alike("5 % of the requests refused by both", refused_rate=0.05, champion_refused_rate=0.05),
    _alike("5 % of the users refused by both", bad_clients=0.05),
    _worse(500, **worth(-0.05)),
    _worse(500, judge=False, positive_change=-0.05 / 0.3),
    _worse(2000, **worth(-0.05)),
    Case(
        name="10 % better, 2,000/day",
        world=World(requests_per_day=2000, **worth(0.10)),
        must="promoted ≥ 95 %, median ≤ 4 days",
        holds=lambda o: o.promoted >= 0.95 and o.median_hours is not None and o.median_hours <= 96,
        fast=True,
    ),
    Case(
        name="20 % better, 500/day",
        world=World(requests_per_day=500, **worth(0.20)),
        must="promoted ≥ 95 %",
        holds=lambda o: o.promoted >= 0.95,
        fast=True,
    ),
    Case(
        name="5 % worse, 2,000/day, geometric",
        world=World(requests_per_day=2000, activity="geometric", **worth(-0.05)),
        must="rolled back or rejected ≥ 95 %",
        holds=lambda o: o.ended_against >= 0.95,
        fast=True,
    ),
    Case(
        name="answers 15 % worse, 90 % faster, 2,000/day",
        world=World(requests_per_day=2000, latency_change=-0.9, quality_change=-0.15, positive_change=-0.15),
        must="promoted ≤ 2 %: speed buys no quality",
        holds=lambda o: o.promoted <= 0.02,
    ),
    Case(
        # Guardrails that block go by the estimate, so a small loss can slip through on a lucky look.
        name="answers 8 % worse, 60 % faster, 2,000/day",
        world=World(requests_per_day=2000, latency_change=-0.6, quality_change=-0.08, positive_change=-0.08),
        must="promoted ≤ 25 %",
        holds=lambda o: o.promoted <= 0.25,
    ),
    Case(
        name="31 % errors, 500/day",
        world=World(requests_per_day=500, error_rate=0.31),
        must="rolled back ≥ 95 %, median ≤ 24 h",
        holds=lambda o: o.rolled_back >= 0.95 and o.median_hours is not None and o.median_hours <= 24,
        fast=True,
    ),
    Case(
        name="31 % refused, 500/day",
        world=World(requests_per_day=500, refused_rate=0.31),
        must="rolled back ≥ 95 %, median ≤ 24 h",
        holds=lambda o: o.rolled_back >= 0.95 and o.median_hours is not None and o.median_hours <= 24,
        fast=True,
    ),
    Case(
        name="5 % refused, 2,000/day",
        world=World(requests_per_day=2000, refused_rate=0.05),
        must="rolled back or rejected ≥ 95 %, rolled back ≥ 80 %, promoted 0 %",
        holds=lambda o: o.ended_against >= 0.95 and o.rolled_back >= 0.8 and o.promoted == 0,
    ),
    Case(
        name="all refused, a share of 50 %, 500/day",
        world=World(requests_per_day=500, share=0.5, refused_rate=1.0),
        must="rolled back 100 %, median ≤ 2 h",
        holds=lambda o: o.rolled_back == 1 and o.median_hours is not None and o.median_hours <= 2,
        fast=True,
    ),
    Case(
        # A wrong split takes thousands of users to see, and a good challenger may have won by then.
        name="10 % better, 12 % of the users instead of 10 %, 5,000/day",
        world=World(requests_per_day=5_000, share=0.12, declared_share=0.10, **worth(0.10)),
        must="noticed ≥ 30 %",
        holds=lambda o: o.invalid >= 0.3,
    ),
    Case(
        name="10 % better, 12 % of the users instead of 10 %, 20,000/day",
        world=World(requests_per_day=20_000, share=0.12, declared_share=0.10, **worth(0.10)),
        must="noticed ≥ 95 %, promoted 0 %",
        holds=lambda o: o.invalid >= 0.95 and o.promoted == 0,
    ),
)
