"""Who has the failures: by hand, as odds that a fair game keeps small, and against clumps of failures by user."""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random

import pytest

from policies.estimates import METRICS, Metric, Moments, UserTotals, moments_gain
from policies.failures import log_e_of_failures

ERROR = METRICS.index(Metric.ERROR)


def arm(users: list[tuple[int, int]]) -> Moments:
    """Of each user: requests, and how many of them failed."""
    vectors = {user: _vector(*user) for user in set(users)}
    return moments_gain((None, vectors[user]) for user in users)


def _vector(requests: int, failed: int) -> tuple[float, ...]:
    n, s = [0.0] * len(METRICS), [0.0] * len(METRICS)
    n[ERROR], s[ERROR] = requests, failed
    return UserTotals(n=tuple(n), s=tuple(s)).vector(icc=0.0)


def evidence(control: Moments, other: Moments, tolerance: float = 0.0) -> float:
    return log_e_of_failures(control, other, Metric.ERROR, tolerance=tolerance)


def test_by_hand() -> None:
    """Of 1,000 requests a tenth is the control's, and it has none of 44 failures: odds of 40 : 1."""
    assert math.exp(evidence(arm([(1, 0)] * 100), arm([(1, 1)] * 44 + [(1, 0)] * 856))) == pytest.approx(40, rel=0.1)
    mixed = (((i + 0.5) / 64) ** 2 for i in range(64))
    expected = math.log(sum(p**3 * ((1 - 0.1 * p) / 0.9) ** 60 for p in mixed) / 64)
    got = evidence(arm([(1, 1)] * 3 + [(1, 0)] * 97), arm([(1, 1)] * 60 + [(1, 0)] * 840))
    assert got == pytest.approx(expected, rel=1e-9)


def test_what_is_tolerated_is_no_evidence() -> None:
    control, other = arm([(1, 0)] * 100), arm([(1, 1)] * 44 + [(1, 0)] * 856)
    assert evidence(control, other, tolerance=44 / 900) == -math.inf
    assert (
        evidence(control, other, tolerance=0.02) < evidence(control, other, tolerance=0.01) < evidence(control, other)
    )


@pytest.mark.parametrize(
    ("control", "other"),
    [([], [(1, 1)]), ([(1, 1)], []), ([(1, 0)], [(1, 0)]), ([], [])],
    ids=["no control", "nobody else", "no failure", "nothing"],
)
def test_without_numbers_there_is_no_evidence(control: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert evidence(arm(control), arm(other)) == -math.inf


def test_failures_of_few_users_are_few_failures() -> None:
    spread = evidence(arm([(10, 0)] * 10), arm([(10, 1)] * 60 + [(10, 0)] * 30))
    clumped = evidence(arm([(10, 0)] * 10), arm([(10, 10)] * 6 + [(10, 0)] * 84))
    assert spread > math.log(40)
    assert clumped < math.log(3)


@pytest.mark.parametrize("failing_users", [False, True], ids=["any request fails", "some users' requests fail"])
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_models_that_fail_alike_are_seldom_told_apart(rate: float, failing_users: bool) -> None:
    """80 watches, a look after each of 6 hours: odds of 40 are reached in at most one of 40 of them."""
    draw, alarms = Random(5), 0
    for _ in range(80):
        users = [(draw.random() < 0.1, draw.random() < rate) for _ in range(150)]
        looks = []
        seen = [[0, 0] for _ in users]
        for _ in range(6):
            for user, (_, fails) in enumerate(users):
                if draw.random() < 0.4:
                    seen[user][0] += 1
                    seen[user][1] += fails if failing_users else draw.random() < rate
            control = arm([(n, s) for (held, _), (n, s) in zip(users, seen, strict=True) if held and n])
            other = arm([(n, s) for (held, _), (n, s) in zip(users, seen, strict=True) if not held and n])
            looks.append(evidence(control, other))
        alarms += list(accumulate(looks, max))[-1] >= math.log(40)
    assert alarms <= 80 / 40
