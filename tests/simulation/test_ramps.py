"""The ramp keeps its promises: a few months of a few cells, fixed seeds; all of them with RATCHET_FULL=1.

docs/statistics.md has the tables of 200 months a cell (`python -m tests.simulation --sooner`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from statistics import median

import numpy as np
import pytest

from policies.estimates import Moments, UserTotals
from policies.experiment import Verdict
from policies.past import PAST, PastMoments, PastTotals
from policies.records import TESTED, Arm
from tests.harness.require import FULL
from tests.simulation import ramp
from tests.simulation.cases import worth
from tests.simulation.ramp import Ending, simulate_month
from tests.simulation.ramps import CELLS, CHALLENGERS, Cell, Triple, broken_bounds, ramp_table, simulate_cell, triple
from tests.simulation.sequences import Passed, sequence, simulate_sequence, stopped_by_the_gate
from tests.simulation.series import stage_series
from tests.simulation.traffic import HOURS, World, month, past_of, stream
from tests.simulation.trial import Book

MONTHS = range(200 if FULL else 8)
FAST = CELLS if FULL else (Cell(500, "lognormal"), Cell(2000, "zipf"))

slow = pytest.mark.slow
patient = pytest.mark.timeout(7200 if FULL else 300)


@cache
def outcome_of(cell: Cell) -> Mapping[str, Triple]:
    return {challenger: simulate_cell(cell, challenger, MONTHS) for challenger in CHALLENGERS}


@slow
@patient
@pytest.mark.parametrize("cell", FAST, ids=str)
def test_the_ramp_errs_as_seldom_as_it_says(cell: Cell) -> None:
    of, once = outcome_of(cell), 1 / len(MONTHS)
    for rule in ("fixed", "ramp", "survives"):
        found = {challenger: getattr(outcome, rule) for challenger, outcome in of.items()}
        assert found["same"].promoted <= max(0.02, once), (rule, found["same"])
        assert found["same"].rolled_back <= max(0.05, once), (rule, found["same"])
        assert found["worse"].promoted == 0, (rule, found["worse"])
        assert found["errors"].rolled_back == 1, (rule, found["errors"])


@slow
@patient
@pytest.mark.parametrize("cell", FAST, ids=str)
def test_the_ramp_finds_gains_sooner_and_exposes_few_to_a_loss(cell: Cell) -> None:
    of = outcome_of(cell)
    if FULL:
        assert not broken_bounds(cell, of)
        return
    assert of["+10 %"].ramp.promoted == 1
    assert of["+5 %"].ramp.promoted >= of["+5 %"].fixed.promoted
    assert of["worse"].ramp.served <= 1.5 * of["worse"].fixed.served
    gain = "+10 %" if cell.requests_per_day == 500 else "+5 %"
    assert of[gain].ramp.median_hours <= 0.85 * min(of[gain].fixed.median_hours, HOURS)


@slow
@patient
@pytest.mark.parametrize("drift", [0.4, -0.4])
def test_weather_promotes_nothing_but_where_rows_are_pooled(drift: float) -> None:
    """All answers get better, or worse, with either model. Pooled, a share that rises with the weather looks better."""
    mean = 0.5 if drift > 0 else 0.7
    world = World(requests_per_day=2000, activity="zipf", quality_mean=mean, positive_mean=mean, drift=drift)
    honest = [simulate_month(world, seed, claimed=False).plain for seed in MONTHS]
    pooled = [simulate_month(world, seed, claimed=False, pooled=True).plain for seed in MONTHS]
    assert sum(ending.promoted for ending in honest) <= 0.02 * len(MONTHS)
    if drift > 0:
        assert sum(ending.promoted for ending in pooled) >= 0.35 * len(MONTHS)
    else:
        assert sum(ending.verdict is Verdict.REJECT for ending in pooled) >= 0.95 * len(MONTHS)


@slow
@patient
def test_a_challenger_that_its_users_slow_down_is_stopped_by_the_latency_of_the_running_stage() -> None:
    """10 % better answers, and twice as slow with all users: a tenth of them is fine, half of them is not."""
    world = World(requests_per_day=500, load=1.0, **worth(0.10))
    endings = [simulate_month(world, seed, claimed=False).plain for seed in MONTHS]
    stopped = [ending for ending in endings if ending.broken == ("latency",) and ending.shares[-1][0] == 0.5]
    assert len(stopped) >= 0.9 * len(endings), endings
    assert median(ending.hours - ending.shares[-1][1] for ending in stopped) <= 24


@slow
@patient
@pytest.mark.parametrize("challenger", ["same", "worse", "+10 %"])
def test_users_past_inside_the_ramp_promotes_no_more(challenger: str) -> None:
    world = Cell(500, "lognormal").world(challenger)
    endings = [simulate_month(world, seed, claimed=False, cuped=True).plain for seed in MONTHS]
    promoted = sum(ending.promoted for ending in endings)
    assert promoted == len(MONTHS) if challenger == "+10 %" else promoted <= 0.02 * len(MONTHS), endings
    assert sum(e.verdict is Verdict.ROLL_BACK for e in endings) <= 0.05 * len(MONTHS) or challenger == "worse"


@slow
@patient
def test_gate_and_ramp_in_sequence_keep_the_bounds() -> None:
    cell = Cell(500, "lognormal")
    same, worse, errors = (simulate_sequence(cell, kind, MONTHS) for kind in ("same", "worse", "errors"))
    assert max(same.promoted, worse.promoted, errors.promoted) <= 0.02, (same, worse, errors)
    assert same.stopped + same.rolled_back <= 0.1, same
    assert errors.stopped == 1
    assert sum(stopped_by_the_gate("+10 %", seed) for seed in range(100)) == 0


def test_of_the_gate_and_the_month_each_is_counted_once() -> None:
    found = sequence([None, Ending(verdict=Verdict.PROMOTE), Ending(verdict=Verdict.ROLL_BACK), Ending()])
    assert found == Passed(runs=4, stopped=0.25, promoted=0.25, rolled_back=0.25)


@slow
@patient
@pytest.mark.parametrize(
    ("world", "seed"),
    [
        (World(requests_per_day=500), 1),
        (World(requests_per_day=500, **worth(0.10)), 0),
        (World(requests_per_day=2000, activity="zipf", **worth(-0.05)), 1),
        (World(requests_per_day=500, error_rate=0.31), 2),
    ],
    ids=["equal", "better", "worse", "errors"],
)
def test_the_looks_that_are_left_out_would_have_decided_nothing(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product decides, at the hours that the arrays pick. Asked at every hour, it ends the month as well."""
    picked = [simulate_month(world, seed, fixed=fixed, claimed=False) for fixed in (False, True)]
    monkeypatch.setattr(ramp.Ramp, "_worth", lambda self, stages, until: np.ones(until, dtype=bool))
    assert [simulate_month(world, seed, fixed=fixed, claimed=False) for fixed in (False, True)] == picked


def test_all_hours_at_once_are_those_that_are_booked_one_after_the_other() -> None:
    world = World(requests_per_day=100, error_rate=0.1, refused_rate=0.05)
    book, (series, _) = Book(stream(world, 7), world), stage_series(month(world, 7), world.share, 0, HOURS, HOURS)
    for hour in range(48):
        book.advance(hour)
        facts = book.facts()
        for arm in TESTED:
            expected, found = getattr(facts, arm.label), series.stats(arm, hour)
            assert (found.users, found.requests) == (expected.users, expected.requests)
            assert found.moments.sums == pytest.approx(expected.moments.sums)
            assert found.moments.products == pytest.approx(expected.moments.products)


def test_the_past_beside_a_stage_is_that_of_its_users() -> None:
    world = World(requests_per_day=60)
    drawn = month(world, 5)
    past = past_of(world, drawn, 5, days=3)
    series, voters = stage_series(drawn, 0.3, 10, 40, 60, past=past)
    for arm, users in zip(TESTED, voters(59), strict=True):
        found = series.stats(arm, 59).past
        assert found is not None
        served = {user for user, hour in zip(drawn.user, drawn.hour, strict=True) if 10 <= hour < 40}
        mine = [user for user in served if (drawn.place[user] < 0.3) == (arm is Arm.CHALLENGER)]
        totals = [PastTotals(n=tuple(past.n[user]), s=tuple(past.s[user])) for user in mine]
        assert found.users == sum(any(of.n) for of in totals)
        assert found.sums == pytest.approx(np.sum([of.vector() for of in totals], axis=0))
        crosses = PastMoments()
        for user, vector in users.items():
            crosses = crosses.replaced(PastTotals(n=tuple(past.n[user]), s=tuple(past.s[user])).vector(), None, vector)
        # thumbs are those of the voters alone: rows 2 and 3 of the test's vector
        assert found.crosses[12:24] == pytest.approx(crosses.crosses[12:24])
        assert len(found.sums) == 2 * len(PAST)


def test_late_votes_count_in_the_stage_that_served_the_answer() -> None:
    world = World(requests_per_day=300, vote_delay_hours=12.0)
    drawn = month(world, 9)
    short, _ = stage_series(drawn, 0.3, 0, 24, 72)
    users = int(short.users[:, 71].sum())
    assert users == int(short.users[:, 23].sum())
    assert short.requests[:, 71].sum() == short.requests[:, 23].sum() == (drawn.hour < 24).sum()
    votes = ((drawn.hour < 24) & (drawn.voted_hour < 72)).sum()
    empty = UserTotals()
    assert votes > ((drawn.hour < 24) & (drawn.voted_hour < 24)).sum()
    assert Moments().replaced(None, empty.vector()).users == 1
    assert short.sums[:, 71, 3].sum() > short.sums[:, 23, 3].sum()  # the weight of the votes


def test_the_table() -> None:
    endings = [Ending(verdict=Verdict.PROMOTE, hours=60, served=40), Ending(hours=HOURS, served=100)]
    of = {challenger: triple(endings[:1], endings, endings[1:]) for challenger in CHALLENGERS}
    row = ramp_table([(Cell(500, "zipf"), of)]).splitlines()[2]
    assert row == (
        "| 500 zipf | 2 | 100.0 / 0, 50.0 / 0, 0 / 0 | 100 % (60 h) → 50 % (–) → 0 % (–) | "
        "100 % (60 h) → 50 % (–) → 0 % (–) | 100.0 %; 0 → 0 %; 40 → 70 | 0 → 0 %; 40 → 70 |"
    )
    assert len(broken_bounds(Cell(500, "zipf"), of)) == 5
