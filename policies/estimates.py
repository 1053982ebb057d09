"""What users told us, as sufficient statistics, and how sure it makes us.

The unit is the user (the sticky key), not the request: one user's requests resemble each other, and a test that
counts them as independent promotes two to eight times too often. Per user and metric the store keeps a count n and a
sum s. The soft cap w = n / (1 + (n − 1)·icc) is how many independent observations those n are worth; no user weighs
more than 1/icc. Per arm the sums and products of the users' vectors (S₁, N₁, S₂, N₂, …), S = w·s/n, N = w, are all
that a decision needs (`Moments`): one upsert per record or late vote, exact in any order. Of the products only those
are kept that a decision can ask for: all pairs of the metrics that can stand in one weighted sum (`WEIGHABLE`), and of
each other metric its own three.

How two arms differ, and how sure that is, `policies.stages` makes of these sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations_with_replacement
from operator import add, itemgetter, mul, sub
from struct import Struct
from typing import Final, Self

__all__ = ["DEFAULT_ICC", "METRICS", "NOT_ACCEPTED", "PRODUCT_PAIRS", "SIGNALS", "WEIGHABLE", "EffectEstimate",
           "Metric", "MetricMean", "Moments", "UserTotals", "Vector", "clustered", "covariance", "metric_mean",
           "moments_delta", "moments_gain", "observation_sd", "relative_change", "user_weight"]  # fmt: skip


class Metric(StrEnum):
    """What is measured per user; the order is the order of every statistics vector in the store."""

    QUALITY = "quality"
    POSITIVE = "positive"
    LATENCY = "latency"
    ERROR = "error"
    SLOW = "slow"
    VOTED = "voted"
    REFUSED = "refused"
    GIVEN = "given"
    """Of the quality scores: the share that somebody gave, the application or people; the others are format checks."""
    JUDGE = "judge"
    """The judge's score of all judged answers."""
    JUDGE_VOTED = "judge_voted"
    """The judge's score of those that have votes, once for each vote: what says how far judge and voters differ."""
    LENGTH = "length"
    """ln(1 + characters) of the answer: one that is twice as long counts the same however long answers are."""
    DECLINED = "declined"
    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    LANGUAGE = "language"
    """Answers in another language than their question's, of those where both are known."""
    CONVERSATION = "conversation"
    """Positive votes on whole conversations, one a user and conversation."""
    REGENERATED = "regenerated"
    """Answers that the user had made anew. Like those that follow, a share of all answers that it could happen to."""
    REPHRASED = "rephrased"
    """Answers after which the user asked the same in other words, or complained."""
    RETRIED = "retried"
    """Answers that the client's SDK asked for again."""
    ABANDONED = "abandoned"
    """Answers that the client did not wait for."""
    COPIED = "copied"
    """Answers that the user has copied, as the UI says."""


METRICS: Final[tuple[Metric, ...]] = tuple(Metric)
DEFAULT_ICC: Final = 0.1
"""Intra-class correlation behind the soft cap when nothing else is configured."""

Vector = tuple[float, ...]
"""One user's weighted contribution: (S, N) for each of METRICS, 42 numbers."""

WEIGHABLE: Final = (Metric.QUALITY, Metric.POSITIVE, Metric.LATENCY, Metric.JUDGE, Metric.JUDGE_VOTED)
"""What can stand together in one weighted sum."""
SIGNALS: Final = (
    Metric.CONVERSATION, Metric.REGENERATED, Metric.REPHRASED, Metric.RETRIED, Metric.ABANDONED, Metric.COPIED,
)  # fmt: skip
"""What users show without rating an answer: with a vote on the whole conversation, or without any."""
NOT_ACCEPTED: Final = frozenset((Metric.REGENERATED, Metric.REPHRASED, Metric.RETRIED, Metric.ABANDONED))
"""Shares of which the rest weighs: the answers that were accepted."""
_DIM: Final = 2 * len(METRICS)


def _kept(row: int, column: int) -> bool:
    """Whether the product of two of a vector's numbers is kept."""
    one, other = METRICS[row // 2], METRICS[column // 2]
    return one is other or (one in WEIGHABLE and other in WEIGHABLE)


PRODUCT_PAIRS: Final = tuple(pair for pair in combinations_with_replacement(range(_DIM), 2) if _kept(*pair))
"""Rows and columns of the products that are kept, in their order."""
_PRODUCTS: Final = len(PRODUCT_PAIRS)
_LEFT: Final = itemgetter(*(row for row, _ in PRODUCT_PAIRS))
_RIGHT: Final = itemgetter(*(column for _, column in PRODUCT_PAIRS))
_PLACE: Final = {pair: place for place, pair in enumerate(PRODUCT_PAIRS)}
_INDEX: Final = {metric: 2 * i for i, metric in enumerate(METRICS)}
_PACKED: Final = Struct(f"<{1 + _DIM + _PRODUCTS}d")
_OLDER: Final = (12, 14, 30)
"""How many sums there were before: version 0.1 did not know refusals, and then came how answers behave, with the judge.
The first two had all products."""
_UNSEEN: Final = (0.0, 0.0)
_EMPTY: Final[Vector] = (0.0,) * _DIM
_ROUNDING: Final = 1e-12
"""Sums of squares below this fraction of their terms are rounding noise, not spread."""
_NOTHING: Final = 1e-9
"""A mean or weight below this is what rounding leaves of zero: the smallest real weight is 1, one observation."""


def user_weight(n: float, icc: float = DEFAULT_ICC) -> float:
    """How many independent observations `n` observations of one user are worth; at most 1/icc."""
    return n / (1.0 + (n - 1.0) * icc) if n > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTotals:
    """One user's counts and sums, in the order of METRICS. A metric never observed has n = 0."""

    n: tuple[float, ...] = (0.0,) * len(METRICS)
    s: tuple[float, ...] = (0.0,) * len(METRICS)

    def plus(self, other: UserTotals) -> UserTotals:
        """These totals and `other`'s (negative counts take a retracted vote back)."""
        return UserTotals(n=tuple(map(add, self.n, other.n)), s=tuple(map(add, self.s, other.s)))

    def vector(self, icc: float = DEFAULT_ICC) -> Vector:
        """The weighted contribution (S, N) per metric that goes into an arm's `Moments`."""
        values: list[float] = []
        for n, s in zip(self.n, self.s, strict=True):
            if n > 0:
                weight = n / (1.0 + (n - 1.0) * icc)  # user_weight, without the call
                values += (weight * s / n, weight)
            else:
                values += _UNSEEN
        return tuple(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Users, sums and pairwise products of their vectors: an arm, or the change to one. Moments add up."""

    users: int = 0
    sums: tuple[float, ...] = _EMPTY
    products: tuple[float, ...] = (0.0,) * _PRODUCTS
    """Of Σ v vᵀ the upper triangle by rows, as far as it is kept."""

    def __post_init__(self) -> None:
        """Take the sums of an older version, which knew fewer metrics: of those that came since nothing was observed.

        ValueError when there are neither as many as now nor as many as then.
        """
        dim = len(self.sums)
        if dim == _DIM and len(self.products) == _PRODUCTS:
            return
        pairs = _pairs_of(dim) if dim in _OLDER else ()
        if len(self.products) != len(pairs):
            raise ValueError(f"moments: {dim} sums and {len(self.products)} products are those of no version")
        older = dict(zip(pairs, self.products, strict=True))
        known = tuple(older.get(pair, 0.0) for pair in PRODUCT_PAIRS)
        object.__setattr__(self, "sums", (*self.sums, *_EMPTY[dim:]))
        object.__setattr__(self, "products", known)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            users=self.users + other.users,
            sums=tuple(map(add, self.sums, other.sums)),
            products=tuple(map(add, self.products, other.products)),
        )

    def replaced(self, old: Vector | None, new: Vector | None) -> Moments:
        """With one user's vector changed; `old` is None for a new user, `new` for one who is deleted."""
        return self + moments_delta(old, new)

    def product(self, row: int, column: int) -> float:
        """Σ over users of v[row]·v[column]. KeyError for two metrics that never stand in one sum."""
        return self.products[_PLACE[(row, column) if row <= column else (column, row)]]

    def to_bytes(self) -> bytes:
        """1,168 bytes for a database column, little-endian doubles: users, sums, products."""
        return _PACKED.pack(self.users, *self.sums, *self.products)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`, also of an older version's. ValueError when `data` has the length of neither."""
        for dim, products in ((_DIM, _PRODUCTS), *((dim, len(_pairs_of(dim))) for dim in _OLDER)):
            if len(data) == 8 * (1 + dim + products):
                users, *rest = Struct(f"<{len(data) // 8}d").unpack(data)
                return cls(users=round(users), sums=tuple(rest[:dim]), products=tuple(rest[dim:]))
        raise ValueError(f"moments: {len(data)} bytes, {_PACKED.size} expected; the row is of another version")


def _pairs_of(dim: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the products that an older version kept."""
    if dim <= _OLDER[1]:
        return tuple(combinations_with_replacement(range(dim), 2))
    return tuple((row, column) for row, column in PRODUCT_PAIRS if column < dim)


def moments_delta(old: Vector | None, new: Vector | None) -> Moments:
    """What an arm's moments gain when one user's vector goes from `old` to `new` (None: not in the arm)."""
    before, after = old or _EMPTY, new or _EMPTY
    gained = map(mul, _LEFT(after), _RIGHT(after))
    lost = map(mul, _LEFT(before), _RIGHT(before))
    return Moments(
        users=(new is not None) - (old is not None),
        sums=tuple(map(sub, after, before)),
        products=tuple(map(sub, gained, lost)),
    )


def moments_gain(changes: Iterable[tuple[Vector | None, Vector]]) -> Moments:
    """The sum of `moments_delta` over many users, at a fraction of the price: ingest counts hundreds at once."""
    users, sums, products = 0, _EMPTY, (0.0,) * _PRODUCTS
    for old, new in changes:
        gained = map(mul, _LEFT(new), _RIGHT(new))
        if old is None:
            users += 1
            sums = tuple(map(add, sums, new))
            products = tuple(map(add, products, gained))
        else:
            sums = tuple(map(add, sums, map(sub, new, old)))
            products = tuple(map(add, products, map(sub, gained, map(mul, _LEFT(old), _RIGHT(old)))))
    return Moments(users=users, sums=sums, products=products)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricMean:
    """One metric in one arm."""

    mean: float
    observations: float
    """Weighted observations W: what the raw ones are worth after the soft cap."""
    effective_users: float
    """W² / ΣN²: so many users of equal weight would be worth the same."""


def metric_mean(moments: Moments, metric: Metric) -> MetricMean | None:
    """Mean of `metric` over the arm's users, or None when nobody was observed."""
    s = _INDEX[metric]
    weight, squares = moments.sums[s + 1], moments.product(s + 1, s + 1)
    if weight < _NOTHING or squares < _NOTHING:
        return None
    return MetricMean(mean=moments.sums[s] / weight, observations=weight, effective_users=weight * weight / squares)


def observation_sd(moments: Moments, metric: Metric) -> float | None:
    """Standard deviation of one weighted observation of `metric`; None when fewer than two users were observed."""
    mean = metric_mean(moments, metric)
    if mean is None or moments.users < 2:
        return None
    return math.sqrt(clustered(moments, [(metric, mean.mean, 1.0)]) / mean.observations)


def relative_change(champion: MetricMean | None, challenger: MetricMean | None) -> float | None:
    """R₁/R₀ − 1; None when an arm was not observed, or when the champion's mean is zero."""
    if champion is None or challenger is None or champion.mean < _NOTHING:
        return None
    return challenger.mean / champion.mean - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectEstimate:
    """Challenger minus champion."""

    theta: float
    se: float
    """Standard error of theta; inf when the spread is not known (fewer than two users, or no spread at all)."""
    effective_users: float
    """The smallest over metrics and arms."""


def covariance(arm: Moments, one: Mapping[Metric, float], other: Mapping[Metric, float]) -> float:
    """Of two linear combinations of an arm's means, by users; 0 where a metric was not observed, or by one user only.
    KeyError for metrics that never stand in one sum."""
    means = {metric: metric_mean(arm, metric) for metric in (*one, *other)}
    if arm.users < 2 or any(mean is None for mean in means.values()):
        return 0.0
    known = {metric: mean for metric, mean in means.items() if mean is not None}
    total = sum(
        x * y * _residuals(arm, _INDEX[a], _INDEX[b], known[a].mean, known[b].mean)
        / known[a].observations / known[b].observations
        for a, x in one.items()
        for b, y in other.items()
    )  # fmt: skip
    return total * arm.users / (arm.users - 1)


def clustered(arm: Moments, parts: Sequence[tuple[Metric, float, float]]) -> float:
    """K/(K−1) Σ_users (Σ_k c_k e_k)², with e_k = S_k − R_k N_k; parts are (metric, R, c). At least two users.

    KeyError for metrics that never stand in one sum.
    """
    total = 0.0
    for i, (metric1, mean1, c1) in enumerate(parts):
        row1 = _INDEX[metric1]
        total += c1 * c1 * _residuals(arm, row1, row1, mean1, mean1)
        for metric2, mean2, c2 in parts[:i]:
            total += 2.0 * c1 * c2 * _residuals(arm, row1, _INDEX[metric2], mean1, mean2)
    return max(total, 0.0) * arm.users / (arm.users - 1)


def _residuals(arm: Moments, row1: int, row2: int, mean1: float, mean2: float) -> float:
    """Σ_users e₁·e₂ from the raw products; what is left of nothing but rounding is nothing."""
    square = arm.product(row1, row2)
    value = (
        square
        - mean2 * arm.product(row1, row2 + 1)
        - mean1 * arm.product(row1 + 1, row2)
        + mean1 * mean2 * arm.product(row1 + 1, row2 + 1)
    )
    return value if abs(value) > _ROUNDING * abs(square) else 0.0
