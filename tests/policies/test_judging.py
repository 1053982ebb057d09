"""Which answers a judge reads: drawn by their ids alone, as many as the budget leaves."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.agreement import Label, agreement_of
from policies.judging import JudgeBudget, Spent, is_drawn, label_of_preference

_IDS = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@given(record_id=_IDS, share=st.floats(0, 1), more=st.floats(0, 1))
def test_a_larger_share_draws_the_same_and_more(record_id: str, share: float, more: float) -> None:
    assert is_drawn(record_id, share) <= is_drawn(record_id, max(share, more))
    assert is_drawn(record_id, 1.0)
    assert not is_drawn(record_id, 0.0)


def test_as_many_are_drawn_as_the_share_says() -> None:
    random = Random(4)
    ids = [f"{random.getrandbits(128):032x}" for _ in range(20_000)]
    assert sum(is_drawn(one, 0.2) for one in ids) == pytest.approx(4000, abs=200)


@pytest.mark.parametrize(
    ("spent", "left"),
    [(Spent(), 10), (Spent(hour=4, day=4), 6), (Spent(hour=0, day=97), 3), (Spent(hour=11, day=11), 0)],
)
def test_the_smaller_of_the_two_budgets_decides(spent: Spent, left: int) -> None:
    assert JudgeBudget(max_per_hour=10, max_per_day=100).left(spent) == left


def test_a_preference_is_a_label_of_one_of_the_two_answers() -> None:
    """Whichever is picked: who agrees is right, who disagrees or sees no difference is wrong."""
    keys = [f"3 {at}" for at in range(200)]
    for person in (1, -1):
        agrees = [label_of_preference(key, person=person, judge=0.2 * person) for key in keys]
        assert {label.liked for label in agrees} == {True, False}
        assert agreement_of(agrees).balanced_accuracy == 1.0
        for judge in (-0.2 * person, 0.0):
            wrong = [label_of_preference(key, person=person, judge=judge) for key in keys]
            assert [label.liked for label in wrong] == [label.liked for label in agrees]
            assert agreement_of(wrong).balanced_accuracy == 0.0


def test_labels_are_counted_by_what_people_and_judge_said() -> None:
    labels = [Label(True, True)] * 3 + [Label(True, False)] + [Label(False, False)] * 2 + [Label(False, True)] * 4
    found = agreement_of(labels)
    assert (found.liked, found.called_good, found.disliked, found.called_bad) == (4, 3, 6, 2)
    assert found.balanced_accuracy == pytest.approx((3 / 4 + 2 / 6) / 2)
