"""A judge that likes a model more than it deserves never gets a worse one promoted, as votes rectify it."""

from __future__ import annotations

from functools import cache

import pytest

from tests.harness.require import FULL
from tests.simulation.cases import Outcome
from tests.simulation.judged import JUDGED, simulate_judged

RUNS = 150 if FULL else 10


@cache
def outcome_of(name: str) -> Outcome:
    return simulate_judged(next(case for case in JUDGED if case.name == name), RUNS)


pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if FULL else 900)]


@pytest.mark.parametrize("name", ["equal", "equal, the judge likes it +.05", "10 % worse, the judge likes it +.10"])
def test_rectified_by_votes_it_promotes_no_model_that_is_not_better(name: str) -> None:
    outcome = outcome_of(name)
    assert outcome.promoted <= (0.02 if FULL else 0.0), outcome
    assert outcome.rolled_back <= (0.02 if FULL else 0.1) or "worse" in name, outcome


def test_a_worse_one_is_ended_by_the_votes() -> None:
    outcome = outcome_of("10 % worse, the judge likes it +.10")
    assert outcome.ended_against >= 0.9, outcome


def test_a_better_one_is_found() -> None:
    outcome = outcome_of("10 % better")
    assert outcome.promoted >= 0.8, outcome


@pytest.mark.parametrize("name", ["equal, +.05, the judge believed", "10 % worse, +.10, the judge believed"])
def test_the_same_judge_believed_as_it_is_promotes_them(name: str) -> None:
    """The control: without the votes nothing shows that it takes sides."""
    outcome = outcome_of(name)
    assert outcome.promoted >= 0.8, outcome


def test_votes_that_depend_on_the_arm_deceive_it_as_they_deceive_votes_alone() -> None:
    """The honest limit: where who votes depends on the arm, nothing computed from votes is valid. The check of the
    feedback rates looks for that, and needs time."""
    outcome = outcome_of("equal, its users vote on bad answers half as often")
    assert outcome.promoted > 0.2, outcome
