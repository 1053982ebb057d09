"""The fast part of the simulation, fixed seeds: what must hold does, and the simulated books are the product's."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.records import TESTED, Arm
from tests.harness.require import FULL
from tests.simulation.__main__ import replace_table
from tests.simulation.cases import CASES, Case, Outcome, simulate
from tests.simulation.drops import DROPS, simulate_drop
from tests.simulation.traffic import HOURS, World, stream
from tests.simulation.trial import Book

RUNS = 200 if FULL else 12


@cache
def outcome_of(name: str) -> Outcome:
    """The case's outcome, simulated once for all tests that look at it."""
    return simulate(next(case for case in CASES if case.name == name), RUNS)


def _marked(case: Case) -> object:
    return pytest.param(case, id=case.name, marks=[] if case.fast else [pytest.mark.full])


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 900)
@pytest.mark.parametrize("case", [_marked(case) for case in CASES])
def test_the_rule_keeps_its_promise(case: Case) -> None:
    if not (case.fast or FULL):
        pytest.skip("the long version: RATCHET_FULL=1 or `make simulate`")
    outcome = outcome_of(case.name)
    assert case.holds(outcome), f"{case.must}, but {outcome}"


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 900)
@pytest.mark.parametrize("index", range(len(DROPS)), ids=[f"{d.scored_per_day}-{d.change:+.0%}" for d in DROPS])
def test_the_drop_trigger_is_quiet_and_quick(index: int) -> None:
    outcome = simulate_drop(index, RUNS)
    assert outcome.holds, outcome.row()


@pytest.mark.slow
@pytest.mark.timeout(3600 if FULL else 900)
def test_the_plain_rule_promotes_the_identical() -> None:
    """The control: the same streams fool the rule that ours replaces."""
    assert outcome_of("identical, 2,000/day, zipf").naive_promoted > 0


def test_the_books_are_the_products_own() -> None:
    """Simulated hour by hour with arrays, the moments are those of one `replaced` per request and vote."""
    world = World(requests_per_day=100)
    traffic = stream(world, seed=7)
    book = Book(traffic, world)
    for hour in range(HOURS):
        book.advance(hour)
    for arm in TESTED:
        moments = getattr(book.facts(), arm.label).moments
        expected = _by_hand(traffic.users, arm, book)
        assert moments.users == expected.users
        assert moments.sums == pytest.approx(expected.sums)
        assert moments.products == pytest.approx(expected.products)


def _by_hand(users: int, arm: Arm, book: Book) -> Moments:
    moments = Moments()
    for user in range(users):
        n, s = book.totals(user)
        if n[METRICS.index(Metric.ERROR)] and book.arm_of(user) is arm:
            moments = moments.replaced(None, UserTotals(n=n, s=s).vector())
    return moments


def test_the_streams_have_the_truth_they_claim() -> None:
    world = World(requests_per_day=5000, share=0.5, quality_change=0.125, positive_change=-0.1, error_rate=0.31)
    traffic = stream(world, seed=1)
    served = traffic.challenger[traffic.user]
    assert traffic.quality[served].mean() / traffic.quality[~served].mean() == pytest.approx(1.125, rel=0.02)
    assert traffic.positive[served].mean() / traffic.positive[~served].mean() == pytest.approx(0.9, rel=0.02)
    assert traffic.error[served].mean() == pytest.approx(0.31, rel=0.05)
    assert served.mean() == pytest.approx(0.5, abs=0.05)
    assert np.all((traffic.quality >= 0) & (traffic.quality <= 1))


def test_a_table_takes_its_place_in_the_page() -> None:
    assert replace_table("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="markers"):
        replace_table("nothing here", "x", "new")
