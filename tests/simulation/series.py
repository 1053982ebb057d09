"""What the store would hold after every hour of a stage, in one pass over its requests and votes.

`trial.Book` books hour by hour as the product does, one after the other; a month in stages takes a hundred times as
many numbers, so here all hours are made at once, with sums over sorted arrays. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Final

import numpy as np

from policies.estimates import METRICS, PRODUCT_PAIRS, Metric, Moments, Vector
from policies.experiment import ArmStats
from policies.past import PAST, PastMoments
from policies.records import Arm
from tests.simulation.traffic import SLOW_THRESHOLD_S, Answers, Floats, Ints, Month, Past

__all__ = ["KEPT", "StageSeries", "UserVectors", "pooled_rows", "stage_series"]

KEPT: Final = (
    Metric.QUALITY, Metric.POSITIVE, Metric.LATENCY, Metric.ERROR, Metric.SLOW, Metric.VOTED, Metric.REFUSED,
)  # fmt: skip
"""What a simulated request has; the other metrics stay unobserved."""
UserVectors = Mapping[int, Vector]
_COLUMN: Final = {metric: place for place, metric in enumerate(KEPT)}
_SUMS: Final = [2 * METRICS.index(metric) + side for metric in KEPT for side in (0, 1)]
_SMALL: Final = {full: small for small, full in enumerate(_SUMS)}
_PAIRS: Final = [(at, pair) for at, pair in enumerate(PRODUCT_PAIRS) if pair[0] in _SMALL and pair[1] in _SMALL]
_LEFT: Final = [_SMALL[pair[0]] for _, pair in _PAIRS]
_RIGHT: Final = [_SMALL[pair[1]] for _, pair in _PAIRS]
_PLACE: Final = {(_SMALL[pair[0]], _SMALL[pair[1]]): place for place, (_, pair) in enumerate(_PAIRS)}
_ICC: Final = 0.1
_PAST_DIM: Final = 2 * len(PAST)
_SQUARES: Final = list(combinations_with_replacement(range(_PAST_DIM), 2))
_SQUARE_LEFT, _SQUARE_RIGHT = [left for left, _ in _SQUARES], [right for _, right in _SQUARES]
_PAST_WIDTH: Final = _PAST_DIM + len(_SQUARE_LEFT) + _PAST_DIM**2


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSeries:
    """Both arms of a stage after each hour of the month. Arrays have the arm first, then the hour."""

    share: float
    """Of the users, who have the challenger."""
    first: int
    """Hour in which it begins."""
    users: Ints
    requests: Ints
    failed: Ints
    """Of the requests: errors, and answers that are worth nothing."""
    sums: Floats
    products: Floats
    past: Floats | None = None
    """Of users' past: how many have one, sums, squares, and how the test goes with it; None where it is not used."""

    def stats(self, arm: Arm, hour: int, *, claimed: bool = False, of: int | None = None) -> ArmStats:
        """What the store holds of an arm after that hour. `of`: the place of the arm here, where it has another."""
        at = int(arm) if of is None else of
        sums, products = [0.0] * (2 * len(METRICS)), [0.0] * len(PRODUCT_PAIRS)
        for full, value in zip(_SUMS, self.sums[at, hour].tolist(), strict=True):
            sums[full] = value
        for (full, _), value in zip(_PAIRS, self.products[at, hour].tolist(), strict=True):
            products[full] = value
        users = int(self.users[at, hour])
        moments = Moments(users=users, sums=tuple(sums), products=tuple(products))
        names = users if claimed else 0
        return ArmStats(
            arm=arm,
            requests=int(self.requests[at, hour]),
            moments=moments,
            claimed_users=names,
            clusters=names,
            past=None if self.past is None else _past_moments(self.past[at, hour].tolist()),
        )

    def mean(self, arm: int, metric: Metric) -> tuple[Floats, Floats, Floats]:
        """Mean, weight and ΣN² of a metric after each hour; not a number where it was not observed."""
        column = 2 * _COLUMN[metric]
        weight = self.sums[arm, :, column + 1]
        weight = np.where(weight > 1e-9, weight, np.nan)
        return self.sums[arm, :, column] / weight, weight, self.product(arm, column + 1, column + 1)

    def product(self, arm: int, row: int, column: int) -> Floats:
        """Σ over users of v[row]·v[column], after each hour."""
        return self.products[arm, :, _PLACE[min(row, column), max(row, column)]]

    def residual(self, arm: int, one: Metric, other: Metric) -> Floats:
        """Σ over users of (S − R·N) of two metrics, after each hour."""
        i, j = 2 * _COLUMN[one], 2 * _COLUMN[other]
        r, q = self.mean(arm, one)[0], self.mean(arm, other)[0]
        return (
            self.product(arm, i, j)
            - q * self.product(arm, i, j + 1)
            - r * self.product(arm, i + 1, j)
            + r * q * self.product(arm, i + 1, j + 1)
        )


def stage_series(
    month: Month, share: float, first: int, last: int, until: int, *, slower: float = 1.0, past: Past | None = None
) -> tuple[StageSeries, Callable[[int], tuple[UserVectors, UserVectors]]]:
    """The stage of `share` that serves from the hour `first` to before `last`, looked at up to before `until` (votes
    still come in then). `slower`: how many times as long the challenger takes in this stage.

    Beside it a function that gives each arm's users who have voted, by an hour, with what they add to the moments.
    """
    begin, end = np.searchsorted(month.hour, (first, last))
    mine = np.arange(begin, end)
    served = (month.place < share)[month.user[mine]]
    old, new = _rows(month.old, mine, 1.0), _rows(month.new, mine, slower)
    rows = np.where(served[:, None], new, old)
    votes = np.flatnonzero(month.voted_hour[mine] < until)
    who = np.concatenate((month.user[mine], month.user[mine][votes]))
    when = np.concatenate((month.hour[mine], month.voted_hour[mine][votes]))
    events = np.concatenate((rows, _votes(month, mine[votes], served[votes])))
    lost = rows[:, _COLUMN[Metric.ERROR] + len(KEPT)] + (rows[:, len(KEPT)] == 0) * (rows[:, 0] > 0)
    arms = 2 * until
    place = served * until + month.hour[mine]
    pasts = None if past is None else _vectors(np.concatenate((past.n, past.s), axis=1))
    series = _counted(who, when, events, (month.place < share)[who], until, pasts)
    requests, failed = (np.bincount(place, weights=w, minlength=arms).reshape(2, until) for w in (None, lost))
    return (
        StageSeries(
            share=share,
            first=first,
            users=series[0],
            requests=np.cumsum(requests, axis=1),
            failed=np.cumsum(failed, axis=1).astype(np.int64),
            sums=series[1],
            products=series[2],
            past=series[3],
        ),
        lambda hour: _by_user(who, when, events, (month.place < share)[who], hour),
    )


def pooled_rows(stages: Sequence[StageSeries]) -> StageSeries:
    """All rows in one, as if the share had always been the same: what the rule must not do."""
    return replace(
        stages[-1],
        first=stages[0].first,
        users=sum(stage.users for stage in stages),
        requests=sum(stage.requests for stage in stages),
        failed=sum(stage.failed for stage in stages),
        sums=sum(stage.sums for stage in stages),
        products=sum(stage.products for stage in stages),
    )


def _rows(answers: Answers, mine: Ints, slower: float) -> Floats:
    """What a request adds to its user: counts of `KEPT`, then sums. Votes come by themselves."""
    rows = np.zeros((mine.size, 2 * len(KEPT)))
    error = answers.error[mine]
    refused = answers.refused[mine] & ~error
    answered = (~error & ~refused).astype(np.float64)
    latency = answers.latency_s[mine] * slower
    for metric, count, value in (
        (Metric.QUALITY, answered, answers.quality[mine]),
        (Metric.LATENCY, answered, latency),
        (Metric.SLOW, answered, latency > SLOW_THRESHOLD_S),
        (Metric.ERROR, 1.0, error),
        (Metric.REFUSED, 1.0, refused),
        (Metric.VOTED, 1.0, 0.0),
    ):
        rows[:, _COLUMN[metric]] = count
        rows[:, _COLUMN[metric] + len(KEPT)] = count * value
    return rows


def _votes(month: Month, mine: Ints, served: Floats) -> Floats:
    rows = np.zeros((mine.size, 2 * len(KEPT)))
    rows[:, _COLUMN[Metric.POSITIVE]] = 1.0
    rows[:, _COLUMN[Metric.POSITIVE] + len(KEPT)] = np.where(served, month.new.positive[mine], month.old.positive[mine])
    rows[:, _COLUMN[Metric.VOTED] + len(KEPT)] = 1.0
    return rows


def _counted(
    who: Ints, when: Ints, events: Floats, served: Floats, until: int, pasts: Floats | None
) -> tuple[Ints, Floats, Floats, Floats | None]:
    """Users, sums, products, and what is kept of the past, by arm and hour."""
    if not who.size:
        kept = [np.zeros((2, until, width)) for width in (len(_SUMS), len(_PAIRS), 1 + _PAST_WIDTH)]
        return np.zeros((2, until), dtype=np.int64), kept[0], kept[1], None if pasts is None else kept[2]
    order = np.argsort(who * until + when, kind="stable")
    who, served = who[order], served[order]
    total = np.cumsum(events[order], axis=0)
    starts = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
    before = np.zeros_like(total[starts])
    before[1:] = total[starts[1:] - 1]
    total -= np.repeat(before, np.diff(np.r_[starts, who.size]), axis=0)
    vectors = _vectors(total)
    after = np.concatenate((vectors, vectors[:, _LEFT] * vectors[:, _RIGHT]), axis=1)
    gained = after.copy()
    gained[1:] -= after[:-1]
    gained[starts] = after[starts]
    if pasts is not None:
        gained = np.concatenate((gained, _with_past(pasts[who], gained[:, : len(_SUMS)], starts)), axis=1)
    place = served * until + when[order]
    by_place = np.argsort(place, kind="stable")
    found, first = np.unique(place[by_place], return_index=True)
    hours = np.zeros((2 * until, gained.shape[1]))
    hours[found] = np.add.reduceat(gained[by_place], first, axis=0)
    hours = np.cumsum(hours.reshape(2, until, -1), axis=1)
    users = np.bincount(place[starts], minlength=2 * until).reshape(2, until)
    sums_end, products_end = len(_SUMS), len(_SUMS) + len(_PAIRS)
    return (
        np.cumsum(users, axis=1),
        hours[:, :, :sums_end],
        hours[:, :, sums_end:products_end],
        None if pasts is None else hours[:, :, products_end:],
    )


def _with_past(pasts: Floats, moved: Floats, starts: Ints) -> Floats:
    """What an event adds to `PastMoments`: the past of a user who is new, and how the test moved with the past."""
    first = np.zeros((pasts.shape[0], 1))
    first[starts] = 1.0
    has = (pasts[:, 1::2] > 0).any(axis=1, keepdims=True)
    squares = pasts[:, _SQUARE_LEFT] * pasts[:, _SQUARE_RIGHT]
    crosses = (moved[:, :_PAST_DIM, None] * pasts[:, None, :]).reshape(pasts.shape[0], -1)
    return np.concatenate((first * has, first * pasts, first * squares, crosses), axis=1)


def _past_moments(values: list[float]) -> PastMoments:
    """Nothing is known of the other metrics that may go with a past: the judge's."""
    users, *rest = values
    sums, squares = rest[:_PAST_DIM], rest[_PAST_DIM : _PAST_DIM + len(_SQUARE_LEFT)]
    crosses = rest[_PAST_DIM + len(_SQUARE_LEFT) :]
    unseen = (0.0,) * (len(PastMoments().crosses) - len(crosses))
    return PastMoments(users=round(users), sums=tuple(sums), squares=tuple(squares), crosses=(*crosses, *unseen))


def _vectors(totals: Floats) -> Floats:
    """As `UserTotals.vector`, of many users."""
    half = totals.shape[1] // 2
    n, s = totals[:, :half], totals[:, half:]
    divisor = 1 + (n - 1) * _ICC
    vectors = np.empty(totals.shape)
    vectors[:, 0::2] = np.where(n > 0, s / divisor, 0.0)
    vectors[:, 1::2] = np.where(n > 0, n / divisor, 0.0)
    return vectors


def _by_user(who: Ints, when: Ints, events: Floats, served: Floats, hour: int) -> tuple[UserVectors, UserVectors]:
    """Of both arms, the vectors of all users that have voted by then."""
    size = int(who.max(initial=-1)) + 1
    found: list[UserVectors] = []
    for arm in (0, 1):
        mine = (when <= hour) & (served == bool(arm))
        columns = [np.bincount(who[mine], weights=column, minlength=size) for column in events[mine].T]
        totals = np.stack(columns, axis=1)
        voting = np.flatnonzero(totals[:, _COLUMN[Metric.POSITIVE]])
        full = np.zeros((voting.size, 2 * len(METRICS)))
        full[:, _SUMS] = _vectors(totals[voting])
        found.append({user: tuple(row) for user, row in zip(voting.tolist(), full.tolist(), strict=True)})
    return found[0], found[1]
