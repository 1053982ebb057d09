"""`python -m tests.simulation`: every case in full, and the tables of docs/statistics.md.

Seeds are fixed, so the tables can be reproduced. The exit status is 1 when a case does not hold. With one core and
the default number of runs this takes about half an hour.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tests.simulation.cases import CASES, Case, Outcome, summarise
from tests.simulation.drops import DROPS, DropOutcome, simulate_drop
from tests.simulation.forged import ADDRESSES, POWERS, attacked, forged_table, power_table, powered
from tests.simulation.sooner import sooner_tables
from tests.simulation.trial import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "statistics.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="months per case")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="also write the outcomes here")
    parser.add_argument("--forged", action="store_true", help="only the tables of forged votes (ten minutes)")
    parser.add_argument(
        "--sooner", action="store_true", help="only the tables of what decides sooner (about two hours)"
    )
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        if arguments.forged:
            _put(_forged_tables(arguments.runs, pool), write=arguments.write)
            return 0
        if arguments.sooner:
            _put(sooner_tables(arguments.runs, pool), write=arguments.write)
            return 0
        outcomes = [_case(case, arguments.runs, pool) for case in CASES]
        drops = list(pool.map(partial(simulate_drop, runs=arguments.runs), range(len(DROPS))))
    if arguments.json:
        arguments.json.write_text(json.dumps({c.name: asdict(o) for c, o in zip(CASES, outcomes, strict=True)}))
    _put({"rule": _table(outcomes), "drops": _drop_table(drops)}, write=arguments.write)
    held = all(c.holds(o) for c, o in zip(CASES, outcomes, strict=True)) and all(d.holds for d in drops)
    return 0 if held else 1


def _put(tables: dict[str, str], *, write: bool) -> None:
    for name, table in tables.items():
        print(f"\n{table}")
        if write:
            PAGE.write_text(replace_table(PAGE.read_text(), name, table))


def _forged_tables(runs: int, pool: ProcessPoolExecutor) -> dict[str, str]:
    rows = list(pool.map(partial(attacked, seeds=range(runs)), ADDRESSES))
    powers = list(pool.map(partial(powered, seeds=range(runs)), POWERS))
    named = zip((power.name for power in POWERS), powers, strict=True)
    return {"forged": forged_table(rows), "forged-power": power_table(named)}


def _case(case: Case, runs: int, pool: ProcessPoolExecutor) -> Outcome:
    outcome = summarise(list(pool.map(partial(run, case.world), range(runs), chunksize=5)))
    print(_row(case, outcome), flush=True)
    return outcome


def _table(outcomes: list[Outcome]) -> str:
    columns = "challenger, traffic | runs | promoted | rolled back | rejected | invalid | median | plain rule promotes"
    head = f"| {columns} | must hold |\n|---|{'--:|' * 7}---|\n"
    return head + "\n".join(_row(case, outcome) for case, outcome in zip(CASES, outcomes, strict=True))


def _row(case: Case, o: Outcome) -> str:
    hours = "–" if o.median_hours is None else f"{o.median_hours:.0f} h"
    verdict = "holds" if case.holds(o) else "**broken**"
    shares = " | ".join(f"{100 * s:.1f} %" for s in (o.promoted, o.rolled_back, o.rejected, o.invalid))
    return f"| {case.name} | {o.runs} | {shares} | {hours} | {100 * o.naive_promoted:.0f} % | {case.must}: {verdict} |"


def _drop_table(drops: list[DropOutcome]) -> str:
    head = "| scored a day | true change | alarms in 30 days | median | plain 24 h mean alarms | must hold |"
    return "\n".join((head, "|--:|--:|--:|--:|--:|---|", *(drop.row() for drop in drops)))


def replace_table(page: str, name: str, table: str) -> str:
    """`page` with the text between `<!-- name -->` and `<!-- /name -->` replaced. ValueError when they are missing."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in page or end not in page:
        raise ValueError(f"{PAGE.name}: the markers {start} and {end} are missing, so the table has no place")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    raise SystemExit(main())
