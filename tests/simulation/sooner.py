"""Everything that was measured of tests that decide sooner: the tables of docs/statistics.md about it.

`python -m tests.simulation --sooner` makes them; with one core and 200 months a row it takes about two hours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final

from policies.experiment import Verdict
from tests.simulation.ramp import Ending, simulate_month
from tests.simulation.ramps import CELLS, CHALLENGERS, Cell, Triple, ramp_table, triple
from tests.simulation.sequences import Passed, simulate_sequence
from tests.simulation.traffic import Activity, World
from tests.simulation.watched import (
    FIRST_SEED,
    LATE_H,
    WATCHED,
    WatchedCase,
    WatchedOutcome,
    simulate_watch,
    turns_bad,
    watched_outcome,
)

__all__ = ["LATE", "LOADED", "NAMES", "PASTS", "SEQUENCES", "WEATHERS", "Weather", "late_table", "load_table",
           "past_table", "sequence_table", "sooner_tables", "watch_table", "weather_table"]  # fmt: skip

SEQUENCES: Final = (Cell(500, "lognormal"), Cell(2000, "zipf"))
PASTS: Final = tuple(
    (cell, kind)
    for cell in CELLS
    for kind in ("same", "+5 %", "+10 %", "worse")
    if cell in SEQUENCES or kind in ("same", "worse")
)
NAMES: Final = {"same": "equal", "+5 %": "+5 %", "+10 %": "+10 %", "worse": "5 % worse", "errors": "31 % errors"}
_VOLUMES: Final = (500, 2000, 5000)


@dataclass(frozen=True, slots=True)
class Weather:
    """All answers change, whichever model gives them."""

    requests_per_day: int
    activity: Activity
    drift: float

    @property
    def world(self) -> World:
        mean = 0.5 if self.drift > 0 else 0.7
        return World(
            requests_per_day=self.requests_per_day,
            activity=self.activity,
            quality_mean=mean,
            positive_mean=mean,
            drift=self.drift,
        )


WEATHERS: Final = tuple(
    Weather(volume, activity, drift)  # type: ignore[arg-type]
    for volume, activity in ((500, "lognormal"), (2000, "zipf"))
    for drift in (0.4, -0.4)
)
LATE: Final = tuple(
    (cell, after_h, looks)
    for cell in CELLS
    for looks in (1, 6)
    for after_h in LATE_H
    if cell.activity == "lognormal" or (looks == 6 and after_h in (0, 12))
)
"""Users, hours after the promotion in which a model turns bad, looks per hour."""
LOADED: Final = {
    volume: World(requests_per_day=volume, load=1.0, quality_change=0.125, positive_change=0.125) for volume in _VOLUMES
}
"""10 % better, and slower the more users it has: twice as slow with all of them."""


def sooner_tables(runs: int, pool: Executor) -> dict[str, str]:
    """All of them, by the name of their place in the page."""
    cells = [(cell, {kind: _cell(pool, runs, cell, kind) for kind in CHALLENGERS}) for cell in CELLS]
    months = partial(_months, pool, runs)
    weathers = [(w, months(w.world), months(w.world, pooled=True)) for w in WEATHERS]
    pasts = [(cell, kind, months(cell.world(kind)), months(cell.world(kind), cuped=True)) for cell, kind in PASTS]
    loads = [(volume, months(world)) for volume, world in LOADED.items()]
    watches = [(volume, case, _watches(pool, runs, case, volume)) for volume in _VOLUMES for case in WATCHED]
    late = [
        (
            cell,
            after_h,
            looks,
            _watches(pool, runs, turns_bad(after_h), cell.requests_per_day, cell.activity, looks_per_hour=looks),
        )
        for cell, after_h, looks in LATE
    ]
    return {
        "ramp": ramp_table(cells),
        "weather": weather_table(weathers),
        "past": past_table(pasts),
        "load": load_table(loads),
        "sequence": sequence_table(
            (cell, kind, simulate_sequence(cell, kind, range(runs))) for cell in SEQUENCES for kind in CHALLENGERS
        ),
        "watch": watch_table(watches),
        "late": late_table(late),
    }


def weather_table(rows: Iterable[tuple[Weather, Sequence[Ending], Sequence[Ending]]]) -> str:
    """Equal models in months whose answers get better, or worse: the rule beside pooled rows."""
    lines = [
        "| requests a day, users | all answers | months | promoted / rejected | with pooled rows |",
        "|---|---|--:|--:|--:|",
    ]
    for weather, honest, pooled in rows:
        change = f"{'better' if weather.drift > 0 else 'worse'} by {100 * abs(weather.drift):.0f} points"
        both = " | ".join(f"{_share(e, Verdict.PROMOTE)} / {_share(e, Verdict.REJECT)}" for e in (honest, pooled))
        lines.append(
            f"| {weather.requests_per_day:,} {weather.activity} | {change} | {_runs(honest, pooled)} | {both} |"
        )
    return "\n".join(lines)


def past_table(rows: Iterable[tuple[Cell, str, Sequence[Ending], Sequence[Ending]]]) -> str:
    """The same months without and with what the users' past explains."""
    lines = [
        "| requests a day, users | challenger | months | promoted / rolled back: without, with their past "
        "| ended after | its requests |",
        "|---|---|--:|---|---|---|",
    ]
    for cell, kind, plain, past in rows:
        ends = ", ".join(f"{_share(e, Verdict.PROMOTE)} / {_share(e, Verdict.ROLL_BACK)}" for e in (plain, past))
        hours = " → ".join(f"{median(ending.hours for ending in e):.0f}" for e in (plain, past))
        served = " → ".join(f"{sum(ending.served for ending in e) / len(e):.0f}" for e in (plain, past))
        lines.append(f"| {cell} | {NAMES[kind]} | {_runs(plain, past)} | {ends} | {hours} h | {served} |")
    return "\n".join(lines)


def load_table(rows: Iterable[tuple[int, Sequence[Ending]]]) -> str:
    """A challenger that its own users slow down."""
    lines = [
        "| requests a day | months | stopped by latency | with half of the users | hours from there | promoted |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for volume, endings in rows:
        stopped = [ending for ending in endings if "latency" in ending.broken]
        late = [ending for ending in stopped if ending.shares[-1][0] == 0.5]
        hours = f"{median(ending.hours - ending.shares[-1][1] for ending in late):.0f}" if late else "–"
        part = f"{100 * len(late) / len(stopped):.0f} %" if stopped else "–"
        lines.append(
            f"| {volume:,} | {len(endings)} | {100 * len(stopped) / len(endings):.0f} % | {part} | {hours} | "
            f"{_share(endings, Verdict.PROMOTE)} |"
        )
    return "\n".join(lines)


def sequence_table(rows: Iterable[tuple[Cell, str, Passed]]) -> str:
    """Gate and ramp, one after the other."""
    lines = [
        "| requests a day, users | challenger | months | stopped by the gate | promoted | rolled back |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for cell, kind, of in rows:
        shares = " | ".join(_percent(share) for share in (of.stopped, of.promoted, of.rolled_back))
        lines.append(f"| {cell} | {NAMES[kind]} | {of.runs} | {shares} |")
    return "\n".join(lines)


def watch_table(rows: Iterable[tuple[int, WatchedCase, WatchedOutcome]]) -> str:
    """What takes traffic back after a promotion, with users held back and without."""
    lines = [
        "| requests a day | after the promotion | watches | returned | within 200 failing answers "
        "| failing answers: median, most | hours | hours before, with latency | hours before, without |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for volume, case, of in rows:
        bad = case.is_bad and of.median_failing is not None
        within = _percent(of.within) if case.is_bad else "–"
        failing = f"{of.median_failing:.0f}, {of.most_failing}" if bad else "–"
        hours = "–" if of.median_hours is None else f"{of.median_hours:.0f}"
        lines.append(
            f"| {volume:,} | {case.name} | {of.runs} | {_percent(of.returned)} | {within} | {failing} | {hours} | "
            f"{_percent(of.frozen)} | {_percent(of.frozen_without_latency)} |"
        )
    return "\n".join(lines)


def late_table(rows: Iterable[tuple[Cell, int, int, WatchedOutcome]]) -> str:
    """A model that fails 30 % of its answers from some hour after the promotion on."""
    lines = [
        "| requests a day, users | looks | turns bad after | watches | returned | within 200 failing answers "
        "| failing answers: median, most |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for cell, after_h, looks, of in rows:
        every = "every hour" if looks == 1 else f"every {60 // looks} minutes"
        failing = "–" if of.median_failing is None else f"{of.median_failing:.0f}, {of.most_failing}"
        lines.append(
            f"| {cell} | {every} | {after_h} h | {of.runs} | {_percent(of.returned)} | {_percent(of.within)} | "
            f"{failing} |"
        )
    return "\n".join(lines)


def _watches(
    pool: Executor,
    runs: int,
    case: WatchedCase,
    volume: int,
    activity: Activity = "lognormal",
    *,
    looks_per_hour: int = 1,
) -> WatchedOutcome:
    world = World(requests_per_day=volume, activity=activity)
    one = partial(simulate_watch, case, world, looks_per_hour=looks_per_hour)
    return watched_outcome(list(pool.map(one, range(FIRST_SEED, FIRST_SEED + runs), chunksize=5)))


def _cell(pool: Executor, runs: int, cell: Cell, kind: str) -> Triple:
    world = cell.world(kind)
    ramps = list(pool.map(partial(simulate_month, world), range(runs), chunksize=5))
    fixed = _months(pool, runs, world, fixed=True)
    return triple(fixed, [month.plain for month in ramps], [month.survives for month in ramps])


def _months(pool: Executor, runs: int, world: World, **how: bool) -> list[Ending]:
    months = pool.map(partial(simulate_month, world, claimed=False, **how), range(runs), chunksize=5)
    return [month.plain for month in months]


def _runs(*of: Sequence[Ending]) -> str:
    """How many months, where they are as many."""
    return ", ".join(str(runs) for runs in dict.fromkeys(len(endings) for endings in of))


def _share(endings: Sequence[Ending], verdict: Verdict) -> str:
    return _percent(sum(ending.verdict is verdict for ending in endings) / len(endings))


def _percent(share: float) -> str:
    """With a decimal where it would else be all, or next to nothing."""
    return "0" if share == 0 else f"{100 * share:.1f} %" if share < 0.1 or 0.99 < share < 1 else f"{100 * share:.0f} %"
