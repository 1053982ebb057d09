"""How well a judge's word agrees with people's: whether its score may count.

On answers that people voted on and the judge scored, one answer a user, k of n liked ones were called good and l of m
disliked ones bad. What is bounded is the balanced accuracy (k/n + l/m)/2: unlike Cohen's kappa it does not move with
the share of likes, and a judge who calls everything good has ½. Against "the balanced accuracy is at most b₀":

    E = B(k, n−k) B(l, m−l) / max { tᵏ(1−t)ⁿ⁻ᵏ sˡ(1−s)ᵐ⁻ˡ : (t + s)/2 ≤ b₀ },  B(a, b) = Γ(a+½)Γ(b+½)/(Γ(a+b+1)π)

The numerator is what a gambler with Jeffreys' prior would have bet on these answers, the denominator the most that the
null allows them (Wasserman, Ramdas, Balakrishnan, "Universal inference", PNAS 117(29), 2020): E ≥ 1/α happens to a true
null with probability α at most, however often one looks. The lower bound is the largest b₀ that is rejected.

A label is independent of the others where each is another user's. Who votes is not drawn by chance, so this is the
agreement with those who vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from policies.wording import many, percent, share

__all__ = [
    "GOOD_FROM",
    "LEAST_BOUND",
    "LEAST_LABELS",
    "LEAST_OF_EACH",
    "Agreement",
    "JudgeStanding",
    "Label",
    "agreement_lower",
    "agreement_of",
    "counts_as_judge",
    "log_e_agreement",
    "standing_of",
]

GOOD_FROM: Final = 0.5
"""From this score on, a judge has called an answer good."""
LEAST_BOUND: Final = 0.6
LEAST_LABELS: Final = 50
LEAST_OF_EACH: Final = 10
_ALPHA: Final = 0.05
_HALVINGS: Final = 50
"""Steps of a bisection: 2⁻⁵⁰ is what a float can tell of numbers around ½."""


class Label(NamedTuple):
    """One answer of which both people and the judge have said something."""

    liked: bool
    called_good: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What people and a judge said of the same answers, one answer a user."""

    liked: int = 0
    called_good: int = 0
    """Of those that people liked."""
    disliked: int = 0
    called_bad: int = 0
    """Of those that people disliked."""

    @property
    def labels(self) -> int:
        """Answers that both have judged."""
        return self.liked + self.disliked

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of the shares of liked and of disliked answers that the judge called right; None without both."""
        if not self.liked or not self.disliked:
            return None
        return (self.called_good / self.liked + self.called_bad / self.disliked) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeStanding:
    """Whether a judge's score counts, and why."""

    counts: bool = False
    """False: it is only shown (diagnostic), and no decision reads it."""
    agreement: Agreement = Agreement()
    """What it rests on."""
    balanced_accuracy: float | None = None
    """As estimated; null without both liked and disliked answers."""
    bound: float = 0.0
    """What the balanced accuracy is at least, 0 to 1, at 95 %, valid at every look."""
    sentence: str = ""
    """The same in words."""


def agreement_of(labels: Iterable[Label]) -> Agreement:
    """The labels, counted; each must be another user's."""
    counts = Counter(labels)
    right, missed = counts[Label(True, True)], counts[Label(True, False)]
    caught, let_by = counts[Label(False, False)], counts[Label(False, True)]
    return Agreement(liked=right + missed, called_good=right, disliked=caught + let_by, called_bad=caught)


def log_e_agreement(agreement: Agreement, null: float) -> float:
    """Log of the evidence that the balanced accuracy is above `null` (0 to 1); −inf without both kinds of labels."""
    if not agreement.liked or not agreement.disliked:
        return -math.inf
    k, missed = agreement.called_good, agreement.liked - agreement.called_good
    l, let_by = agreement.called_bad, agreement.disliked - agreement.called_bad  # noqa: E741 - as in the formula
    return _log_mixture(k, missed) + _log_mixture(l, let_by) - _log_most((k, missed), (l, let_by), null)


def agreement_lower(agreement: Agreement, *, alpha: float = _ALPHA) -> float:
    """What the balanced accuracy is at least, wrong at any time with probability at most `alpha`; 0: nothing known."""
    seen = agreement.balanced_accuracy
    if seen is None:
        return 0.0
    low, high, target = 0.0, seen, -math.log(alpha)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if log_e_agreement(agreement, middle) >= target:
            low = middle
        else:
            high = middle
    return low


def counts_as_judge(agreement: Agreement) -> bool:
    """Whether the agreement is proven: enough labels, some of each kind, and a lower bound of 0.6 or more."""
    enough = agreement.labels >= LEAST_LABELS and min(agreement.liked, agreement.disliked) >= LEAST_OF_EACH
    return enough and log_e_agreement(agreement, LEAST_BOUND) >= -math.log(_ALPHA)


def standing_of(agreement: Agreement) -> JudgeStanding:
    """Whether this judge counts, with its sentence."""
    counts, bound = counts_as_judge(agreement), agreement_lower(agreement)
    return JudgeStanding(
        counts=counts,
        agreement=agreement,
        balanced_accuracy=agreement.balanced_accuracy,
        bound=bound,
        sentence=_counting(agreement, bound) if counts else _missing(agreement, bound),
    )


def _counting(agreement: Agreement, bound: float) -> str:
    seen = agreement.balanced_accuracy or 0.0
    return (
        f"The judge's score counts: on {many(agreement.labels)} answers it agrees with people's votes in "
        f"{percent(seen)} (liked and disliked ones weighed alike), and in {percent(bound)} at least."
    )


def _missing(agreement: Agreement, bound: float) -> str:
    shown = "The judge's score is shown and decides nothing"
    if agreement.labels < LEAST_LABELS or min(agreement.liked, agreement.disliked) < LEAST_OF_EACH:
        return (
            f"{shown}: {many(agreement.liked)} liked and {many(agreement.disliked)} disliked answers were judged "
            f"so far, each of another user; {LEAST_LABELS} are needed, {LEAST_OF_EACH} of each kind."
        )
    return (
        f"{shown}: on {many(agreement.labels)} answers its agreement with people's votes is {percent(bound)} at least, "
        f"and {share(LEAST_BOUND)} must be proven."
    )


def _log_mixture(right: int, wrong: int) -> float:
    """Log of B(right, wrong): Bernoulli's likelihood, averaged over Jeffreys' prior."""
    return math.lgamma(right + 0.5) + math.lgamma(wrong + 0.5) - math.lgamma(right + wrong + 1) - math.log(math.pi)


def _log_most(first: tuple[int, int], second: tuple[int, int], null: float) -> float:
    """Log of the most that any two accuracies with a mean of at most `null` allow."""
    t, s = first[0] / sum(first), second[0] / sum(second)
    if (t + s) / 2 <= null:
        return _log_likelihood(*first, t) + _log_likelihood(*second, s)
    low, high = max(0.0, 2 * null - 1), min(1.0, 2 * null)
    for _ in range(_HALVINGS):  # the slope falls in t: the likelihood is log-concave
        t = (low + high) / 2
        if _slope(*first, t) > _slope(*second, 2 * null - t):
            low = t
        else:
            high = t
    t = (low + high) / 2
    return _log_likelihood(*first, t) + _log_likelihood(*second, 2 * null - t)


def _log_likelihood(right: int, wrong: int, accuracy: float) -> float:
    total = 0.0
    for count, chance in ((right, accuracy), (wrong, 1 - accuracy)):
        if count:
            total += count * math.log(chance) if chance > 0 else -math.inf
    return total


def _slope(right: int, wrong: int, accuracy: float) -> float:
    up = right / accuracy if right and accuracy > 0 else math.inf if right else 0.0
    down = wrong / (1 - accuracy) if wrong and accuracy < 1 else math.inf if wrong else 0.0
    return up - down
