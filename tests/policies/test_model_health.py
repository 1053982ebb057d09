"""When a model's server counts as failing, and when as well again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model_health import Answers, Evidence, ModelHealth, judge

UNKNOWN, WELL, FAILING = ModelHealth.UNKNOWN, ModelHealth.WELL, ModelHealth.FAILING


def after(looks: Sequence[Answers], health: ModelHealth = UNKNOWN) -> ModelHealth:
    """Judge look by look, all within one minute, as the controller does."""
    minute, good, good_row, failed_row = Answers(), 0, 0, 0
    for latest in looks:
        minute += latest
        good += latest.good
        good_row = 0 if latest.bad else good_row + latest.good
        failed_row = 0 if latest.good else failed_row + latest.failed
        seen = Evidence(minute=minute, latest=latest, good=good, good_in_a_row=good_row, failed_in_a_row=failed_row)
        if (now := judge(health, seen)) is not health:
            health, minute, good, good_row, failed_row = now, Answers(), 0, 0, 0
    return health


def ok(number: int) -> Answers:
    return Answers(good=number)


def bad(number: int) -> Answers:
    return Answers(failed=number)


@pytest.mark.parametrize(
    ("looks", "health"),
    [
        ([], UNKNOWN),
        ([bad(1)], UNKNOWN),  # one failure shows nothing
        ([bad(2), bad(1)], FAILING),
        ([bad(2), ok(1), bad(2)], WELL),  # 3 of 5 would be failing, but the good one was news: counting begins anew
        ([ok(2)], WELL),
        ([ok(100), bad(3)], FAILING),  # all of a sudden
        ([ok(1), Answers(good=50, failed=49)], WELL),
        ([ok(1), Answers(good=50, failed=50)], FAILING),
        ([Answers(good=2, failed=2)], WELL),  # too few for a share
        ([Answers(left=4)], UNKNOWN),
        ([Answers(left=5)], FAILING),
        ([Answers(left=50, good=1)], WELL),
        ([Answers(denied=4)], UNKNOWN),
        ([Answers(denied=5)], FAILING),
        ([ok(1), Answers(denied=5)], FAILING),
        ([Answers(denied=5, good=1)], WELL),
    ],
)
def test_failing_needs_more_than_one_bad_answer(looks: Sequence[Answers], health: ModelHealth) -> None:
    assert after(looks) is health


@pytest.mark.parametrize(
    ("looks", "health"),
    [
        ([], FAILING),
        ([bad(1)], FAILING),
        ([Answers(left=3)], FAILING),
        ([ok(1)], WELL),  # nothing had come through: the first good answer is the end of it
        ([bad(300), Answers(good=1, failed=10)], WELL),
        ([Answers(failed=3, good=1)], WELL),
    ],
)
def test_one_good_answer_ends_an_outage(looks: Sequence[Answers], health: ModelHealth) -> None:
    assert after(looks, FAILING) is health


def seen(minute: Answers, latest: Answers, *, good: int, good_in_a_row: int = 0) -> Evidence:
    return Evidence(minute=minute, latest=latest, good=good, good_in_a_row=good_in_a_row, failed_in_a_row=0)


@pytest.mark.parametrize(
    ("evidence", "health"),
    [
        (seen(Answers(good=4, failed=4), ok(1), good=4, good_in_a_row=1), FAILING),
        (seen(Answers(good=6, failed=4), ok(2), good=6, good_in_a_row=3), WELL),
        (seen(Answers(good=80, failed=20), Answers(good=40, failed=1), good=80), FAILING),
        (seen(Answers(good=81, failed=19), Answers(good=40, failed=1), good=81), WELL),
        (seen(Answers(good=3), ok(1), good=9, good_in_a_row=1), FAILING),  # too few for a share
    ],
)
def test_where_some_came_through_it_takes_more(evidence: Evidence, health: ModelHealth) -> None:
    assert judge(FAILING, evidence) is health


looks = st.lists(
    st.builds(
        Answers,
        good=st.integers(0, 9),
        failed=st.integers(0, 9),
        denied=st.integers(0, 9),
        left=st.integers(0, 9),
    ),
    max_size=8,
)


@given(looks, st.sampled_from(ModelHealth))
def test_silence_changes_nothing(looks: list[Answers], health: ModelHealth) -> None:
    assert after([*looks, Answers()], health) is after(looks, health)


@given(looks)
def test_without_a_good_answer_nothing_is_well_and_without_a_bad_one_nothing_fails(looks: list[Answers]) -> None:
    assert after([Answers(failed=look.failed, left=look.left) for look in looks]) is not WELL
    assert after([Answers(good=look.good) for look in looks]) is not FAILING


def test_shares_are_of_what_has_an_end() -> None:
    assert Answers(left=3).bad_share is None
    assert Answers(good=6, failed=1, denied=1, left=9).bad_share == 0.25
