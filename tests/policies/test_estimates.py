"""Sufficient statistics and effects: by hand, against the oracle, and as properties of any order of arrival."""

from __future__ import annotations

import math
import struct
import timeit
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import (
    METRICS,
    Metric,
    Moments,
    UserTotals,
    metric_mean,
    moments_delta,
    moments_gain,
    observation_sd,
    relative_change,
    user_weight,
)
from policies.records import Arm
from tests.harness.arms import arm_stats

WEIGHTS = {Metric.QUALITY: 0.5, Metric.POSITIVE: 0.3, Metric.LATENCY: -0.2}
CHAMPION, CHALLENGER = Arm.CHAMPION, Arm.CHALLENGER


def totals_of(n: Sequence[float], s: Sequence[float]) -> UserTotals:
    """Of the first metrics; of the others nothing was observed."""
    return UserTotals(
        n=(*n, *(0.0,) * (len(METRICS) - len(n))),
        s=(*s, *(0.0,) * (len(METRICS) - len(s))),
    )


counts = st.tuples(*[st.integers(0, 50).map(float)] * len(METRICS))
totals = st.builds(
    lambda n, share: UserTotals(n=n, s=tuple(a * b for a, b in zip(n, share, strict=True))),
    counts,
    st.tuples(*[st.floats(0, 1)] * len(METRICS)),
)


def test_metrics_keep_the_order_of_the_stored_vectors() -> None:
    assert METRICS == (
        "quality", "positive", "latency", "error", "slow", "voted", "refused", "given", "judge", "judge_voted",
        "length", "declined", "malformed", "truncated", "language",
        "conversation", "regenerated", "rephrased", "retried", "abandoned", "copied",
    )  # fmt: skip


def test_fewer_products_are_kept_than_of_seven_metrics_once() -> None:
    """All pairs of what can stand in one sum, and of every other metric its own three."""
    moments = arm_stats(CHAMPION, 3).moments
    assert len(moments.products) == 55 + 16 * 3 < 105
    quality, judge, error = (2 * METRICS.index(metric) for metric in (Metric.QUALITY, Metric.JUDGE, Metric.ERROR))
    assert moments.product(judge, quality) == moments.product(quality, judge) == 0.0
    assert moments.product(error, error + 1) == moments.product(error + 1, error)
    with pytest.raises(KeyError):
        moments.product(quality, error)


def test_no_user_weighs_more_than_ten_observations() -> None:
    assert user_weight(0) == 0
    assert user_weight(1) == 1
    assert user_weight(11) == pytest.approx(5.5)
    assert 9.99 < user_weight(1e6) < 10
    assert user_weight(7, icc=0.0) == 7


def test_a_users_vector_is_the_capped_sum_and_count_per_metric() -> None:
    user = totals_of((11, 0, 1, 0, 0, 0, 2), (5.5, 0, 2.5, 0, 0, 0, 1))
    assert user.vector() == pytest.approx((2.75, 5.5, 0, 0, 2.5, 1, 0, 0, 0, 0, 0, 0, 1 / 1.1, 2 / 1.1, *[0] * 28))


def test_a_retracted_vote_leaves_no_trace() -> None:
    user = totals_of((3, 0, 3, 3, 3, 3, 3), (2, 0, 3))
    vote = totals_of((0, 1), (0, 1))
    back = totals_of((0, -1), (0, -1))
    assert user.plus(vote).plus(back) == user


def test_moments_of_two_users_by_hand() -> None:
    one = totals_of((1, 1), (0.5, 1)).vector()
    two = totals_of((1,), (0.9,)).vector()
    both = Moments().replaced(None, one).replaced(None, two)
    assert both.users == 2
    assert both.sums[:4] == pytest.approx((1.4, 2.0, 1.0, 1.0))
    assert both.product(0, 0) == pytest.approx(0.25 + 0.81)
    assert both.product(2, 0) == both.product(0, 2) == pytest.approx(0.5)
    assert both.replaced(two, None).users == 1


def test_moments_survive_the_database() -> None:
    before = arm_stats(CHAMPION, 7).moments
    assert Moments.from_bytes(before.to_bytes()) == before
    with pytest.raises(ValueError, match="8 bytes, 1168 expected"):
        Moments.from_bytes(b"12345678")


def older(users: list[UserTotals], metrics: int) -> tuple[list[float], list[float]]:
    """The sums and products as a version kept them that knew so many metrics: of all pairs."""
    vectors = [user.vector()[: 2 * metrics] for user in users]
    pairs = [(row, column) for row in range(2 * metrics) for column in range(row, 2 * metrics)]
    sums = [math.fsum(vector[row] for vector in vectors) for row in range(2 * metrics)]
    products = [0.0] * len(pairs)
    for vector in vectors:  # in the order, and so with the rounding, of the moments
        products = [known + vector[row] * vector[column] for known, (row, column) in zip(products, pairs, strict=True)]
    return sums, products


@pytest.mark.parametrize("metrics", [6, 7])
@given(before=st.lists(totals, max_size=4), after=st.lists(totals, max_size=4))
def test_moments_of_an_older_version_go_on_counting_exactly(
    metrics: int, before: list[UserTotals], after: list[UserTotals]
) -> None:
    """Users who were counted by a version that knew fewer metrics, and users, old and new, who came after it."""
    known = [totals_of(user.n[:metrics], user.s[:metrics]) for user in before]
    now = Moments()
    for user in known:
        now = now.replaced(None, user.vector())
    sums, products = older(known, metrics)
    data = struct.pack(f"<{1 + len(sums) + len(products)}d", now.users, *sums, *products)
    moments, expected = Moments.from_bytes(data), Moments()
    assert moments == Moments(users=now.users, sums=tuple(sums), products=tuple(products))
    assert moments.sums == pytest.approx(now.sums)
    assert moments.products == pytest.approx(now.products)
    for i, user in enumerate(after):
        old = known[i] if i < len(known) else None
        new = user.plus(old) if old else user
        moments = moments.replaced(old.vector() if old else None, new.vector())
    for user in (*after[len(known) :], *(u.plus(after[i]) if i < len(after) else u for i, u in enumerate(known))):
        expected = expected.replaced(None, user.vector())
    assert moments.users == expected.users
    assert moments.sums == pytest.approx(expected.sums, abs=1e-9)
    assert moments.products == pytest.approx(expected.products, abs=1e-9)


def test_moments_of_no_version_are_refused() -> None:
    for sums, products in ((11, 66), (12, 105), (14, 78)):
        with pytest.raises(ValueError, match="no version"):
            Moments(users=1, sums=(0.0,) * sums, products=(0.0,) * products)


@given(st.lists(totals, min_size=1, max_size=6), st.data())
def test_moments_do_not_depend_on_the_order_of_arrival(users: list[UserTotals], data: st.DataObject) -> None:
    at_once = Moments()
    for user in users:
        at_once = at_once.replaced(None, user.vector())
    by_halves = Moments()
    halves = [UserTotals(n=tuple(n // 2 for n in u.n), s=tuple(s / 3 for s in u.s)) for u in users]
    for half in halves:
        by_halves += moments_delta(None, half.vector())
    for i in data.draw(st.permutations(range(len(users)))):
        by_halves = by_halves.replaced(halves[i].vector(), users[i].vector())
    changed = [
        (None if data.draw(st.booleans()) else halves[i].vector(), user.vector()) for i, user in enumerate(users)
    ]
    one_by_one = sum((moments_delta(old, new) for old, new in changed), Moments())
    together = moments_gain(changed)
    assert together.users == one_by_one.users
    assert together.sums == pytest.approx(one_by_one.sums, abs=1e-9)
    assert together.products == pytest.approx(one_by_one.products, abs=1e-9)
    assert by_halves.users == at_once.users
    assert by_halves.sums == pytest.approx(at_once.sums, abs=1e-9)
    assert by_halves.products == pytest.approx(at_once.products, abs=1e-9)


def test_the_mean_and_the_effective_users() -> None:
    arm = arm_stats(CHAMPION, 8, quality=(0.5, 0.7), thumbs=None)
    quality = metric_mean(arm.moments, Metric.QUALITY)
    assert quality is not None
    assert quality.mean == pytest.approx(0.6)
    assert quality.observations == quality.effective_users == 8
    assert metric_mean(arm.moments, Metric.POSITIVE) is None
    assert metric_mean(Moments(), Metric.QUALITY) is None


def test_the_spread_of_one_observation() -> None:
    arm = arm_stats(CHAMPION, 8, quality=(0.5, 0.7)).moments
    assert observation_sd(arm, Metric.QUALITY) == pytest.approx(0.1 * math.sqrt(8 / 7))
    assert observation_sd(arm_stats(CHAMPION, 1).moments, Metric.QUALITY) is None
    assert observation_sd(Moments(users=4), Metric.QUALITY) is None


def test_the_relative_change_of_nothing_is_unknown() -> None:
    some = metric_mean(arm_stats(CHAMPION, 4, quality=(0.5,)).moments, Metric.QUALITY)
    more = metric_mean(arm_stats(CHAMPION, 4, quality=(0.6,)).moments, Metric.QUALITY)
    none = metric_mean(arm_stats(CHAMPION, 4, quality=(0.0,)).moments, Metric.QUALITY)
    assert relative_change(some, more) == pytest.approx(0.2)
    assert relative_change(none, more) is None
    assert relative_change(None, more) is None
    assert relative_change(some, None) is None


def test_an_update_is_cheap() -> None:
    """Some 15 µs on an idle core (tests/bench/decisions.py); the best of many rounds, with room for a busy one."""
    arm, old = arm_stats(CHAMPION, 20).moments, UserTotals(n=(1.0,) * len(METRICS), s=(0.5,) * len(METRICS))
    one = UserTotals(n=(1.0,) * len(METRICS), s=(0.2,) * len(METRICS))
    rounds = timeit.repeat(lambda: arm.replaced(old.vector(), old.plus(one).vector()), number=20, repeat=50)
    assert min(rounds) / 20 < 200e-6
