"""One month of traffic under both rules, looked at every hour: what they decide, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.estimates import METRICS, PRODUCT_PAIRS, Metric, Moments
from policies.experiment import ABTestConfig, ArmStats, ExperimentFacts, Verdict, evaluate
from policies.records import TESTED, Arm
from tests.simulation.traffic import HOURS, SLOW_THRESHOLD_S, Bools, Floats, Ints, Stream, World, stream

_KEPT = tuple(np.array(PRODUCT_PAIRS).T)
_FINAL = (Verdict.PROMOTE, Verdict.ROLL_BACK, Verdict.REJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one month went."""

    verdict: Verdict
    """The last one: PROMOTE, ROLL_BACK and REJECT end the test, INVALID only holds."""
    hours: int
    was_invalid: bool
    naive_hours: int | None
    """When "≥ 5 % better after 48 h" promoted; None when it never did."""


def config_for(world: World) -> ABTestConfig:
    """The defaults; without a judge the quality score is switched off, as the documentation says to."""
    return ABTestConfig() if world.judge else ABTestConfig(quality_weight=0.0)


def run(world: World, seed: int) -> Trial:
    """Look every hour for thirty days, or until the test ends."""
    traffic, config = stream(world, seed), config_for(world)
    book = Book(traffic, world)
    verdict, hours, was_invalid = Verdict.CONTINUE, HOURS, False
    for hour in range(HOURS):
        book.advance(hour)
        verdict = evaluate(book.facts(), config, 3600.0 * (hour + 1)).verdict
        was_invalid |= verdict is Verdict.INVALID
        if verdict in _FINAL:
            hours = hour + 1
            break
    return Trial(verdict=verdict, hours=hours, was_invalid=was_invalid, naive_hours=_naive(traffic, world, config))


class Book:
    """The statistics that the store keeps, hour by hour: totals per user, moments per arm."""

    def __init__(self, traffic: Stream, world: World) -> None:
        self._traffic, self._world = traffic, world
        self._n = np.zeros((traffic.users, len(METRICS)))
        self._s = np.zeros((traffic.users, len(METRICS)))
        self._products = [np.zeros((2 * len(METRICS),) * 2) for _ in TESTED]
        self._sums = [np.zeros(2 * len(METRICS)) for _ in TESTED]
        self._requests = [0, 0]
        self._order = np.argsort(traffic.voted_hour, kind="stable")
        self._arrivals = np.searchsorted(traffic.hour, np.arange(HOURS + 1))
        self._votes = np.searchsorted(traffic.voted_hour[self._order], np.arange(HOURS + 1))

    def advance(self, hour: int, hours: int = 1) -> None:
        """Book the requests and votes that arrive in `hour`, or in so many from then on."""
        new = np.arange(self._arrivals[hour], self._arrivals[hour + hours])
        votes = self._order[self._votes[hour] : self._votes[hour + hours]]
        touched = np.unique(self._traffic.user[np.concatenate((new, votes))])
        before = self._vectors(touched)
        self._book_requests(new)
        self._book_votes(votes)
        after = self._vectors(touched)
        for arm in TESTED:
            mine = self._traffic.challenger[touched] == bool(arm)
            self._sums[arm] += after[mine].sum(0) - before[mine].sum(0)
            self._products[arm] += after[mine].T @ after[mine] - before[mine].T @ before[mine]

    def facts(self) -> ExperimentFacts:
        """What the controller would see now."""
        champion, challenger = self._stats(Arm.CHAMPION), self._stats(Arm.CHALLENGER)
        return ExperimentFacts(
            started_at=0.0,
            epoch_started_at=0.0,
            share=self._world.declared_share or self._world.share,
            champion=champion,
            challenger=challenger,
            slow_threshold_s=SLOW_THRESHOLD_S,
        )

    def totals(self, user: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Counts and sums of one user."""
        return tuple(self._n[user].tolist()), tuple(self._s[user].tolist())

    def arm_of(self, user: int) -> Arm:
        """The arm that serves `user`."""
        return Arm(int(self._traffic.challenger[user]))

    def _book_requests(self, new: Ints) -> None:
        t, user = self._traffic, self._traffic.user[new]
        error, refused = t.error[new], t.refused[new] & ~t.error[new]
        ok = ~error & ~refused
        one = np.ones(new.size)
        self._add(user, Metric.ERROR, one, error.astype(float))
        self._add(user, Metric.REFUSED, one, refused.astype(float))
        self._add(user, Metric.VOTED, one, 0.0 * one)
        self._add(user[ok], Metric.LATENCY, one[ok], t.latency_s[new][ok])
        self._add(user[ok], Metric.SLOW, one[ok], (t.latency_s[new][ok] > SLOW_THRESHOLD_S).astype(float))
        if self._world.judge:
            self._add(user[ok], Metric.QUALITY, one[ok], t.quality[new][ok])
        challengers = int(t.challenger[user].sum())
        self._requests[Arm.CHALLENGER] += challengers
        self._requests[Arm.CHAMPION] += new.size - challengers

    def _book_votes(self, votes: Ints) -> None:
        user, one = self._traffic.user[votes], np.ones(votes.size)
        self._add(user, Metric.POSITIVE, one, self._traffic.positive[votes].astype(float))
        self._add(user, Metric.VOTED, 0.0 * one, one)

    def _add(self, user: Ints, metric: Metric, n: Floats, s: Floats) -> None:
        column = METRICS.index(metric)
        np.add.at(self._n[:, column], user, n)
        np.add.at(self._s[:, column], user, s)

    def _vectors(self, users: Ints) -> Floats:
        """The same numbers as `UserTotals.vector`, for many users at once (a test holds the two together)."""
        n, s = self._n[users], self._s[users]
        weight = np.where(n > 0, n / (1 + (n - 1) * 0.1), 0.0)
        vectors = np.empty((users.size, 2 * len(METRICS)))
        vectors[:, 0::2] = weight * s / np.maximum(n, 1.0)
        vectors[:, 1::2] = weight
        return vectors

    def _stats(self, arm: Arm) -> ArmStats:
        seen = (self._n[:, METRICS.index(Metric.ERROR)] > 0) & (self._traffic.challenger == bool(arm))
        moments = Moments(
            users=int(seen.sum()),
            sums=tuple(self._sums[arm].tolist()),
            products=tuple(self._products[arm][_KEPT].tolist()),
        )
        return ArmStats(arm=arm, requests=self._requests[arm], moments=moments)


def _naive(traffic: Stream, world: World, config: ABTestConfig) -> int | None:
    """The plain rule: after 48 hours and 100 requests a side, the weighted change of the plain means is ≥ 5 %."""
    served, ok = traffic.challenger[traffic.user], ~(traffic.error | traffic.refused)
    votes = traffic.voted_hour < HOURS
    gain = np.zeros(HOURS)
    with np.errstate(divide="ignore", invalid="ignore"):
        if world.judge:
            gain += config.quality_weight * _change(traffic.hour[ok], traffic.quality[ok], served[ok])
        positive = traffic.positive[votes].astype(float)
        gain += config.feedback_weight * _change(traffic.voted_hour[votes], positive, served[votes])
        gain -= config.latency_weight * _change(traffic.hour[ok], traffic.latency_s[ok], served[ok])
    enough = np.minimum(_count(traffic.hour[served]), _count(traffic.hour[~served])) >= 100
    promoted = np.flatnonzero(enough & (np.arange(1, HOURS + 1) >= 48) & (gain >= config.promotion_threshold))
    return int(promoted[0]) + 1 if promoted.size else None


def _change(hour: Ints, value: Floats, served: Bools) -> Floats:
    old = _count(hour[~served], value[~served]) / _count(hour[~served])
    new = _count(hour[served], value[served]) / _count(hour[served])
    return new / old - 1


def _count(hour: Ints, value: Floats | None = None) -> Floats:
    return np.cumsum(np.bincount(hour, weights=value, minlength=HOURS)).astype(np.float64)
