"""Levers: what is named for which traffic, in which order, and which is the cheapest that suffices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.experiment import ABTestConfig
from policies.levers import Lever, LeverKind, cheapest, levers, months_in_words
from policies.power import ExpectedTraffic, required_test
from policies.profiles import assumed_profiles

CONFIG = ABTestConfig()
RAMP = (0.1, 0.5)
SMALL = ExpectedTraffic(requests_per_day=50, users=40, new_users_per_day=10)
SCORED = assumed_profiles(CONFIG, vote_rate=0.2)
THUMBS = assumed_profiles(replace(CONFIG, quality_weight=0.0), vote_rate=0.2)


def kinds(found: tuple[Lever, ...]) -> list[LeverKind]:
    return [one.kind for one in found]


def test_fifty_requests_a_day_are_told_what_to_do_and_for_how_long() -> None:
    found = levers(0.05, RAMP, SMALL, THUMBS, CONFIG, saving=0.2)
    assert kinds(found) == list(LeverKind), "in the order of what they ask for"
    now = required_test(0.05, RAMP, SMALL, THUMBS, CONFIG).days
    assert now is not None
    assert now > 30
    times = {one.kind: one.days or 0.0 for one in found}
    assert times[LeverKind.LONGER] == now
    assert all(time < now for kind, time in times.items() if kind is not LeverKind.LONGER)
    assert "max_duration_hours = " in found[-1].words
    best = cheapest(found, CONFIG)
    assert best is not None
    assert (best.days or 0) <= 30


def test_where_scores_are_there_no_judge_is_named_and_a_test_that_fits_is_not_made_longer() -> None:
    many = ExpectedTraffic(requests_per_day=2000, users=2000)
    assert LeverKind.JUDGE not in kinds(levers(0.05, RAMP, many, SCORED, CONFIG))
    assert LeverKind.LONGER not in kinds(levers(0.05, RAMP, many, SCORED, CONFIG))
    assert LeverKind.CUPED not in kinds(levers(0.05, RAMP, many, SCORED, CONFIG)), "what it saves is not known"


def test_more_users_help_where_the_share_could_never_rise() -> None:
    few = ExpectedTraffic(requests_per_day=500, users=60)
    assert required_test(0.3, RAMP, few, SCORED, CONFIG).days is None
    found = {one.kind: one.days for one in levers(0.3, RAMP, few, SCORED, CONFIG)}
    assert found[LeverKind.SHARE] is not None
    assert LeverKind.LONGER not in found, "no time suffices"


def test_comparisons_by_hand() -> None:
    """+5 % of a composite whose scores and thumbs weigh 0.8 is +6.25 % of 0.70, 0.044: 0.17 standard deviations of
    two answers' difference, 0.23·√1.2; the better one wins 56.9 % of the pairs."""
    found = next(one for one in levers(0.05, RAMP, SMALL, SCORED, CONFIG) if one.kind is LeverKind.PREFERENCES)
    assert found.comparisons == pytest.approx(685, abs=2)
    assert found.work_hours == pytest.approx(685 / 120, rel=0.01)
    larger = next(one for one in levers(0.1, RAMP, SMALL, SCORED, CONFIG) if one.kind is LeverKind.PREFERENCES)
    assert (larger.comparisons or 0) < 0.3 * (found.comparisons or 0)


def test_what_is_on_already_is_no_lever_and_makes_the_others_shorter() -> None:
    on = replace(CONFIG, cuped=True)
    off_found, on_found = (levers(0.05, RAMP, SMALL, THUMBS, config, saving=0.2) for config in (CONFIG, on))
    assert kinds(on_found) == kinds(off_found)[1:]
    days = [{one.kind: one.days or 0.0 for one in found} for found in (off_found, on_found)]
    assert days[1][LeverKind.SHARE] < days[0][LeverKind.SHARE]


def test_where_nothing_is_rated_nobody_can_compare() -> None:
    latency = assumed_profiles(replace(CONFIG, quality_weight=0.0, feedback_weight=0.0), vote_rate=0.2)
    assert LeverKind.PREFERENCES not in kinds(levers(0.05, RAMP, SMALL, latency, CONFIG))


def test_the_cheapest_is_the_first_that_suffices_else_the_nearest() -> None:
    cuped, share, longer = (
        Lever(kind=kind, days=days, words="") for kind, days in
        ((LeverKind.CUPED, 40.0), (LeverKind.SHARE, 20.0), (LeverKind.LONGER, 50.0))
    )  # fmt: skip
    assert cheapest((cuped, share, longer), CONFIG) is share
    assert cheapest((cuped, longer), CONFIG) is cuped
    assert cheapest((), CONFIG) is None


def test_months() -> None:
    assert [months_in_words(days) for days in (None, 400.0, 61.0, 60.0, 1.0)] == [
        "never with these users", "13 months", "2 months", "60 days", "24.0 hours",
    ]  # fmt: skip
