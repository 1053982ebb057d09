"""The ramp beside a fixed share on the same months: nine kinds of traffic, five challengers, and what must hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

from policies.experiment import Verdict
from tests.simulation.cases import worth
from tests.simulation.ramp import Ending, simulate_month
from tests.simulation.traffic import HOURS, Activity, World

__all__ = ["CELLS", "CHALLENGERS", "Cell", "Found", "Triple", "broken_bounds", "found", "ramp_row", "ramp_table",
           "simulate_cell", "triple"]  # fmt: skip

CHALLENGERS: Final[Mapping[str, Mapping[str, float]]] = {
    "same": {},
    "+5 %": worth(0.05),
    "+10 %": worth(0.10),
    "worse": worth(-0.05),
    "errors": {"error_rate": 0.31},
}
"""What they are worth: equal, better, 5 % worse, as good with 31 % errors."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of traffic."""

    requests_per_day: int
    activity: Activity

    def world(self, challenger: str) -> World:
        return World(requests_per_day=self.requests_per_day, activity=self.activity, **CHALLENGERS[challenger])  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.requests_per_day:,} {self.activity}"


CELLS: Final = tuple(
    Cell(volume, activity) for volume in (500, 2000, 5000) for activity in ("lognormal", "zipf", "geometric")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one rule came to in the months of one cell with one challenger."""

    runs: int
    promoted: float
    rolled_back: float
    rejected: float
    median_hours: float
    """To the promotion, over all months: one without is longer than any. Infinite: it was found in fewer than half."""
    served: float
    """Requests that the challenger answered until the end, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """The same months under three rules."""

    fixed: Found
    ramp: Found
    survives: Found
    """The ramp, where a promotion has to survive leaving out those who carry it."""


def simulate_cell(cell: Cell, challenger: str, seeds: Iterable[int]) -> Triple:
    """One month a seed."""
    world, fixed, ramps = cell.world(challenger), list[Ending](), []
    for seed in seeds:
        fixed.append(simulate_month(world, seed, fixed=True, claimed=False).plain)
        ramps.append(simulate_month(world, seed))
    return triple(fixed, [month.plain for month in ramps], [month.survives for month in ramps])


def triple(fixed: Sequence[Ending], ramp: Sequence[Ending], survives: Sequence[Ending]) -> Triple:
    return Triple(fixed=found(fixed), ramp=found(ramp), survives=found(survives))


def found(endings: Sequence[Ending]) -> Found:
    """Count them."""

    def share(verdict: Verdict) -> float:
        return sum(ending.verdict is verdict for ending in endings) / len(endings)

    hours = sorted(float(ending.hours) if ending.promoted else math.inf for ending in endings)
    middle = len(hours) // 2
    return Found(
        runs=len(endings),
        promoted=share(Verdict.PROMOTE),
        rolled_back=share(Verdict.ROLL_BACK),
        rejected=share(Verdict.REJECT),
        median_hours=hours[middle] if len(hours) % 2 else (hours[middle - 1] + hours[middle]) / 2,
        served=mean(ending.served for ending in endings),
    )


def broken_bounds(cell: Cell, of: Mapping[str, Triple]) -> list[str]:
    """What must hold, and does not, in words."""
    broken = []
    for name, rule in (("ramp", lambda t: t.ramp), ("leaving out", lambda t: t.survives)):
        same, worse = rule(of["same"]), rule(of["worse"])
        broken += [f"{name}: an equal one is promoted in {same.promoted:.1%}"] * (same.promoted > 0.02)
        broken += [f"{name}: an equal one is rolled back in {same.rolled_back:.1%}"] * (same.rolled_back > 0.05)
        broken += [f"{name}: a worse one is promoted in {worse.promoted:.1%}"] * (worse.promoted > 0)
    served = of["worse"].ramp.served / of["worse"].fixed.served
    broken += [f"a worse one serves {served:.2f} times as many requests"] * (served > 1.25)
    if cell.requests_per_day == 500:
        broken += [f"+5 % is found in {of['+5 %'].ramp.promoted:.0%}"] * (of["+5 %"].ramp.promoted < 0.55)
        broken += _too_slow(of, "+10 %", 0.65)
    if cell.requests_per_day == 2000:
        broken += _too_slow(of, "+5 %", 0.7)
    return [f"{cell}: {what}" for what in broken]


def _too_slow(of: Mapping[str, Triple], gain: str, most: float) -> list[str]:
    ramp, fixed = of[gain].ramp.median_hours, min(of[gain].fixed.median_hours, float(HOURS))
    return [f"{gain} takes {ramp / fixed:.2f} of the fixed share's time"] * (ramp > most * fixed)


def ramp_table(rows: Iterable[tuple[Cell, Mapping[str, Triple]]]) -> str:
    """One line a cell."""
    head = (
        "| requests a day, users | months | equal: promoted / rolled back | +5 %: promoted (median) | "
        "+10 %: promoted (median) | 5 % worse: promoted; ended; its requests | 31 % errors: rolled back; its requests |"
    )
    return "\n".join((head, "|---|--:|---|---|---|---|---|", *(ramp_row(cell, of) for cell, of in rows)))


def ramp_row(cell: Cell, of: Mapping[str, Triple]) -> str:
    runs = [outcome.ramp.runs for outcome in of.values()]
    same = ", ".join(f"{_percent(f.promoted)} / {_percent(f.rolled_back)}" for f in _rules(of["same"]))
    gains = (" → ".join(_with_median(f) for f in _rules(of[gain])) for gain in ("+5 %", "+10 %"))
    worse, errors = of["worse"], of["errors"]
    promoted = max(f.promoted for f in _rules(worse))
    ended = " → ".join(f"{100 * (f.rolled_back + f.rejected):.0f}" for f in (worse.fixed, worse.ramp))
    against = f"{_percent(promoted)} %; {ended} %; {worse.fixed.served:.0f} → {worse.ramp.served:.0f}"
    back = " → ".join(f"{100 * f.rolled_back:.0f}" for f in (errors.fixed, errors.ramp))
    failing = f"{back} %; {errors.fixed.served:.0f} → {errors.ramp.served:.0f}"
    months = "–".join(str(runs) for runs in sorted({min(runs), max(runs)}))
    return f"| {cell} | {months} | {same} | {' | '.join(gains)} | {against} | {failing} |"


def _rules(of: Triple) -> tuple[Found, Found, Found]:
    return of.fixed, of.ramp, of.survives


def _with_median(of: Found) -> str:
    hours = "–" if math.isinf(of.median_hours) else f"{of.median_hours:.0f} h"
    return f"{100 * of.promoted:.0f} % ({hours})"


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{100 * share:.1f}"
