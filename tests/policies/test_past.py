"""The sums of users' pasts: exact in any order, and the same whoever comes, goes or changes their mind."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import METRICS, Metric, UserTotals
from policies.past import PAST, PastChange, PastMoments, PastTotals, past_gain

counts = st.integers(0, 40).map(float)
tests = st.builds(
    lambda n, share: UserTotals(n=n, s=tuple(a * b for a, b in zip(n, share, strict=True))),
    st.tuples(*[counts] * len(METRICS)),
    st.tuples(*[st.floats(0, 1)] * len(METRICS)),
)
pasts = st.builds(
    lambda n, share: PastTotals(n=n, s=tuple(a * b for a, b in zip(n, share, strict=True))),
    st.tuples(*[counts] * len(PAST)),
    st.tuples(*[st.floats(0, 1)] * len(PAST)),
)


def numbers(moments: PastMoments) -> tuple[float, ...]:
    return (moments.users, *moments.sums, *moments.squares, *moments.crosses)


def close(one: PastMoments, other: PastMoments) -> bool:
    pairs = zip(numbers(one), numbers(other), strict=True)
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6) for a, b in pairs)


def test_one_users_past_by_hand() -> None:
    """Ten scores that sum up to 8: worth 10/1.9 observations, of which 0.8 each."""
    past = PastTotals(n=(10.0, 0.0, 0.0), s=(8.0, 0.0, 0.0)).vector()
    weight = 10 / 1.9
    assert past == pytest.approx((0.8 * weight, weight, 0, 0, 0, 0))
    test = UserTotals(n=(2.0, *[0.0] * 20), s=(1.0, *[0.0] * 20)).vector()
    arm = PastMoments().replaced(past, None, test)
    quality = arm.mean(Metric.QUALITY)
    assert quality is not None
    assert (arm.users, quality.mean) == (1, pytest.approx(0.8))
    assert quality.effective_users == pytest.approx(1.0)
    assert arm.mean(Metric.POSITIVE) is None
    # e of the test is S − 0·N = S, e of the past likewise: their product is that of the two S
    assert arm.shared(Metric.QUALITY, Metric.QUALITY, (0.0, 0.0)) == pytest.approx(test[0] * past[0])
    assert arm.spread(Metric.QUALITY, Metric.QUALITY, (0.8, 0.8)) == 0.0


def test_only_metrics_with_products_can_be_asked_for() -> None:
    with pytest.raises(KeyError):
        PastMoments().shared(Metric.ERROR, Metric.QUALITY, (0.0, 0.0))


@given(users=st.lists(st.tuples(pasts, tests, tests), min_size=1, max_size=6))
def test_late_votes_and_deletion_are_exact(users: list[tuple[PastTotals, UserTotals, UserTotals]]) -> None:
    """In whatever order: who votes later has what they would have had at once, and who is deleted was never there."""
    at_once, bit_by_bit = PastMoments(), PastMoments()
    for past, first, later in users:
        at_once = at_once.replaced(past.vector(), None, first.plus(later).vector())
        bit_by_bit = bit_by_bit.replaced(past.vector(), None, first.vector())
    for past, first, later in reversed(users):
        bit_by_bit = bit_by_bit.replaced(past.vector(), first.vector(), first.plus(later).vector())
    assert close(at_once, bit_by_bit)
    past, first, later = users[0]
    gone = bit_by_bit.replaced(past.vector(), first.plus(later).vector(), None)
    others = past_gain(PastChange(p.vector(), None, f.plus(more).vector()) for p, f, more in users[1:])
    assert close(gone, others)
    assert close(others + past_gain([PastChange(past.vector(), None, first.plus(later).vector())]), at_once)


@given(past=pasts, test=tests)
def test_bytes_and_back(past: PastTotals, test: UserTotals) -> None:
    arm = PastMoments().replaced(past.vector(), None, test.vector())
    assert PastMoments.from_bytes(arm.to_bytes()) == arm
    assert len(arm.to_bytes()) == 704


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        PastMoments.from_bytes(b"\0" * 8)


def test_pasts_add_up() -> None:
    day = PastTotals(n=(1.0, 0.0, 2.0), s=(0.5, 0.0, 3.0))
    assert day.plus(day) == PastTotals(n=(2.0, 0.0, 4.0), s=(1.0, 0.0, 6.0))
