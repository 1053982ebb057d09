"""Whether a judge's agreement with people is proven: worked examples, an oracle on a grid, and what chance does."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.agreement import (
    LEAST_BOUND,
    LEAST_LABELS,
    Agreement,
    agreement_lower,
    counts_as_judge,
    log_e_agreement,
    standing_of,
)


def _agreement(k: int, n: int, l: int, m: int) -> Agreement:  # noqa: E741 - the names of the formula
    return Agreement(liked=n, called_good=k, disliked=m, called_bad=l)


def test_the_worked_example_is_not_yet_proven() -> None:
    """34 of 40 liked and 16 of 20 disliked agree: .825, ln E(0.6) = 2.4284 < ln 20, the lower bound is .5892."""
    seen = _agreement(34, 40, 16, 20)
    assert seen.balanced_accuracy == pytest.approx(0.825)
    assert log_e_agreement(seen, 0.6) == pytest.approx(2.4284, abs=5e-5)
    assert agreement_lower(seen) == pytest.approx(0.5892, abs=5e-5)
    assert not counts_as_judge(seen)
    standing = standing_of(seen)
    assert not standing.counts
    assert "58.9 % at least" in standing.sentence
    assert "60 % must be proven" in standing.sentence


def test_a_little_more_of_the_same_is() -> None:
    standing = standing_of(_agreement(51, 60, 24, 30))
    assert standing.counts
    assert standing.bound >= LEAST_BOUND
    assert standing.sentence.startswith("The judge's score counts")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (_agreement(39, 39, 10, 10), "39 liked and 10 disliked"),
        (_agreement(400, 400, 9, 9), "400 liked and 9 disliked"),
        (_agreement(0, 0, 0, 0), "0 liked and 0 disliked"),
    ],
)
def test_a_perfect_judge_of_too_few_is_only_shown(seen: Agreement, words: str) -> None:
    standing = standing_of(seen)
    assert not standing.counts
    assert words in standing.sentence


def test_who_calls_everything_good_has_proven_nothing() -> None:
    seen = _agreement(9000, 9000, 0, 1000)
    assert seen.balanced_accuracy == 0.5
    assert agreement_lower(seen) <= 0.5
    assert not counts_as_judge(seen)


def test_one_kind_of_labels_says_nothing() -> None:
    assert log_e_agreement(_agreement(50, 60, 0, 0), 0.1) == -math.inf
    assert agreement_lower(_agreement(50, 60, 0, 0)) == 0.0
    assert _agreement(50, 60, 0, 0).balanced_accuracy is None


_counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(first=_counts, second=_counts, null=st.floats(0.05, 0.95))
def test_the_denominator_is_the_most_that_the_null_allows(
    first: tuple[int, int], second: tuple[int, int], null: float
) -> None:
    """Against every pair of accuracies on a grid whose mean is at most the null's."""
    (k, n), (l, m) = first, second  # noqa: E741

    def log(count: int, chance: float) -> float:
        return 0.0 if not count else count * math.log(chance) if chance > 0 else -math.inf

    def likelihood(t: float, s: float) -> float:
        return log(k, t) + log(n - k, 1 - t) + log(l, s) + log(m - l, 1 - s)

    def mixture(right: int, wrong: int) -> float:
        whole = math.lgamma(right + wrong + 1)
        return math.lgamma(right + 0.5) + math.lgamma(wrong + 0.5) - whole - math.log(math.pi)

    grid = [likelihood(t / 40, s / 40) for t in range(41) for s in range(41) if t + s <= 80 * null]
    most = mixture(k, n - k) + mixture(l, m - l) - log_e_agreement(_agreement(k, n, l, m), null)
    assert most >= max(grid) - 1e-6


@given(first=_counts, second=_counts)
def test_the_bound_is_where_the_evidence_reaches_twenty(first: tuple[int, int], second: tuple[int, int]) -> None:
    seen = _agreement(*first, *second)
    bound = agreement_lower(seen)
    assert 0 <= bound <= (seen.balanced_accuracy or 0.0)
    if bound > 1e-6:
        assert log_e_agreement(seen, bound * (1 - 1e-9)) >= math.log(20) - 1e-6
    assert counts_as_judge(seen) <= (bound >= LEAST_BOUND - 1e-9)


def _labels_until_it_counts(random: Random, *, accuracy: float, likes: float, most: int) -> int | None:
    """A judge that is right with the same chance about liked and disliked answers, looked at after every tenth."""
    counts = [0, 0, 0, 0]
    for label in range(1, most + 1):
        kind = 0 if random.random() < likes else 2
        counts[kind + 1] += 1
        counts[kind] += random.random() < accuracy
        if label % 10 == 0 and counts_as_judge(_agreement(*counts)):
            return label
    return None


@pytest.mark.parametrize(("accuracy", "needed"), [(0.875, 50), (0.775, 120)])
def test_how_many_labels_a_judge_needs(accuracy: float, needed: int) -> None:
    """In the median of 60 judges, at 70 % likes."""
    random = Random(13)
    found = [_labels_until_it_counts(random, accuracy=accuracy, likes=0.7, most=1000) for _ in range(60)]
    median = sorted(10_000 if labels is None else labels for labels in found)[30]
    assert max(LEAST_LABELS, 0.6 * needed) <= median <= 1.5 * needed


def test_a_judge_of_exactly_six_tenths_hardly_ever_counts() -> None:
    """Looked at a hundred times within 1000 labels; by the theory in 5 % at most, as simulated in 0.2 %."""
    random = Random(60)
    found = [_labels_until_it_counts(random, accuracy=0.6, likes=0.7, most=1000) for _ in range(60)]
    assert sum(labels is not None for labels in found) <= 1
