"""Each user's own past, as sufficient statistics beside those of the test (`policies.cuped` says what they are for).

The past of a user is counted as the test is: per metric a count and a sum over what was served to them before the
experiment began, soft-capped to a vector (S, N, S, N, …). It is frozen then. It enters an arm's sums when the user is
first seen in it, also if they never vote, and stays the same while their test vector changes, so that four groups of
sums are exact in any order, under late and retracted votes and when a user is deleted:

    how many users have a past, Σ past, Σ past pastᵀ (upper triangle), Σ test pastᵀ

Of the test those numbers take part that can stand in one weighted sum (`WEIGHABLE`). Who has no past adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from operator import add, itemgetter, mul, sub
from struct import Struct
from typing import Final, NamedTuple, Self

from policies.estimates import DEFAULT_ICC, METRICS, WEIGHABLE, Metric, MetricMean, Vector, user_weight

__all__ = ["PAST", "PastChange", "PastMoments", "PastTotals", "PastVector", "past_gain"]

PAST: Final = (Metric.QUALITY, Metric.POSITIVE, Metric.LATENCY)
"""Metrics of which the past is kept: those that the settings weigh, and that every traffic may have had before."""

PastVector = tuple[float, ...]
"""One user's weighted past: (S, N) for each of PAST."""

_DIM: Final = 2 * len(PAST)
_TEST_ROWS: Final = tuple(2 * METRICS.index(metric) + side for metric in WEIGHABLE for side in (0, 1))
"""Rows of a test vector that take part."""
_SQUARES: Final = tuple(combinations_with_replacement(range(_DIM), 2))
_CROSSES: Final = tuple(product(range(len(_TEST_ROWS)), range(_DIM)))
_LEFT: Final = itemgetter(*(row for row, _ in _SQUARES))
_RIGHT: Final = itemgetter(*(column for _, column in _SQUARES))
_TEST: Final = itemgetter(*(_TEST_ROWS[row] for row, _ in _CROSSES))
_PAST: Final = itemgetter(*(column for _, column in _CROSSES))
_PLACE_OF_SQUARE: Final = {pair: place for place, pair in enumerate(_SQUARES)}
_PLACE_OF_CROSS: Final = {(_TEST_ROWS[row], column): place for place, (row, column) in enumerate(_CROSSES)}
_ROW: Final = {metric: 2 * METRICS.index(metric) for metric in WEIGHABLE}
_PAST_ROW: Final = {metric: 2 * place for place, metric in enumerate(PAST)}
_PACKED: Final = Struct(f"<{1 + _DIM + len(_SQUARES) + len(_CROSSES)}d")
_NONE: Final = (0.0,) * len(PAST)
_UNSEEN: Final[Vector] = (0.0,) * (2 * len(METRICS))
_NOTHING: Final = 1e-9
_ROUNDING: Final = 1e-12
"""As of `policies.estimates`: below this fraction of its terms a sum of products is rounding noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTotals:
    """One user's counts and sums from before the experiment, in the order of PAST."""

    n: tuple[float, ...] = _NONE
    s: tuple[float, ...] = _NONE

    def plus(self, other: PastTotals) -> PastTotals:
        """These totals and `other`'s."""
        return PastTotals(n=tuple(map(add, self.n, other.n)), s=tuple(map(add, self.s, other.s)))

    def vector(self, icc: float = DEFAULT_ICC) -> PastVector:
        """The weighted past that goes into an arm's `PastMoments`."""
        values: list[float] = []
        for n, s in zip(self.n, self.s, strict=True):
            weight = user_weight(n, icc)
            values += (weight * s / n, weight) if n > 0 else (0.0, 0.0)
        return tuple(values)


class PastChange(NamedTuple):
    """A user's test vector went from `old` to `new`; their past is always the same. None: not in the arm."""

    past: PastVector
    old: Vector | None
    new: Vector | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastMoments:
    """The past of an arm's users, and how what they do in the test goes with it. They add up."""

    users: int = 0
    """Those with a past."""
    sums: tuple[float, ...] = (0.0,) * _DIM
    squares: tuple[float, ...] = (0.0,) * len(_SQUARES)
    crosses: tuple[float, ...] = (0.0,) * len(_CROSSES)

    def __add__(self, other: PastMoments) -> PastMoments:
        return PastMoments(
            users=self.users + other.users,
            sums=tuple(map(add, self.sums, other.sums)),
            squares=tuple(map(add, self.squares, other.squares)),
            crosses=tuple(map(add, self.crosses, other.crosses)),
        )

    def replaced(self, past: PastVector, old: Vector | None, new: Vector | None) -> PastMoments:
        """With the test vector of one user changed; `old` is None for a new user, `new` for one who is deleted."""
        return self + past_gain([PastChange(past, old, new)])

    def mean(self, metric: Metric) -> MetricMean | None:
        """Of a metric of PAST; None where no user of the arm was observed before."""
        row = _PAST_ROW[metric]
        weight, squares = self.sums[row + 1], self.squares[_PLACE_OF_SQUARE[row + 1, row + 1]]
        if weight < _NOTHING or squares < _NOTHING:
            return None
        return MetricMean(mean=self.sums[row] / weight, observations=weight, effective_users=weight * weight / squares)

    def spread(self, one: Metric, other: Metric, means: tuple[float, float]) -> float:
        """Σ over users of e₁·e₂, the residuals S − R·N of two metrics' pasts; `means` are their R."""
        row, column, (mean1, mean2) = _PAST_ROW[one], _PAST_ROW[other], means

        def at(left: int, right: int) -> float:
            return self.squares[_PLACE_OF_SQUARE[min(left, right), max(left, right)]]

        return _residual(
            at(row, column), at(row, column + 1), at(row + 1, column), at(row + 1, column + 1), mean1, mean2
        )

    def shared(self, test: Metric, past: Metric, means: tuple[float, float]) -> float:
        """The same of a metric of the test and of one's past. KeyError for one that is not WEIGHABLE."""
        row, column, (mean1, mean2) = _ROW[test], _PAST_ROW[past], means

        def at(left: int, right: int) -> float:
            return self.crosses[_PLACE_OF_CROSS[left, right]]

        return _residual(
            at(row, column), at(row, column + 1), at(row + 1, column), at(row + 1, column + 1), mean1, mean2
        )

    def to_bytes(self) -> bytes:
        """704 bytes for a database column, little-endian doubles: users, sums, squares, crosses."""
        return _PACKED.pack(self.users, *self.sums, *self.squares, *self.crosses)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`. ValueError for bytes of another length."""
        if len(data) != _PACKED.size:
            raise ValueError(
                f"the users' past: {len(data)} bytes, {_PACKED.size} expected; the row is of another version"
            )
        users, *rest = _PACKED.unpack(data)
        squares_end = _DIM + len(_SQUARES)
        return cls(
            users=round(users),
            sums=tuple(rest[:_DIM]),
            squares=tuple(rest[_DIM:squares_end]),
            crosses=tuple(rest[squares_end:]),
        )


def past_gain(changes: Iterable[PastChange]) -> PastMoments:
    """What an arm's sums gain when users' test vectors change."""
    users, sums, squares, crosses = 0, PastMoments().sums, PastMoments().squares, PastMoments().crosses
    for past, old, new in changes:
        moved = tuple(map(sub, new or _UNSEEN, old or _UNSEEN))
        crosses = tuple(map(add, crosses, map(mul, _TEST(moved), _PAST(past))))
        came = (new is not None) - (old is not None)
        if came:
            users += came
            sums = _added(sums, past, came)
            squares = _added(squares, map(mul, _LEFT(past), _RIGHT(past)), came)
    return PastMoments(users=users, sums=sums, squares=squares, crosses=crosses)


def _added(totals: tuple[float, ...], values: Iterable[float], sign: int) -> tuple[float, ...]:
    return tuple(map(add if sign > 0 else sub, totals, values))


def _residual(square: float, left: float, right: float, weights: float, mean1: float, mean2: float) -> float:
    """Σ (S₁ − R₁N₁)(S₂ − R₂N₂) from the raw products ΣS₁S₂, ΣS₁N₂, ΣN₁S₂, ΣN₁N₂."""
    value = square - mean2 * left - mean1 * right + mean1 * mean2 * weights
    return value if abs(value) > _ROUNDING * abs(square) else 0.0
