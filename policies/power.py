"""How long a test takes, before it is started: days, requests, users, votes.

By the same model as the estimate over the stages of a ramp (`policies.stages`): an observation has the standard
deviation `sd` around its metric's `mean`, metrics are independent, and a stage with a share p gives a metric with the
soft-capped weight W the information h = W p(1 − p), so that

    1/I = Σ_k ω_k² (sd/mean)² (Σ_s h + 2 Σ_{s<t} r_st √(f_s f_t h_s h_t)) / (Σ_s h)²

Half of all users give 2.8 times as much as a tenth, and twice the gain takes a quarter. Users who come back are worth
less each time, so who comes how often matters more than how many requests there are (`ExpectedTraffic.habits`).

Two things have to happen before a challenger is promoted: the evidence that it is no worse, which grows with I, and a
best estimate that reaches the threshold. Where the true gain *is* the threshold the estimate is above it half of the
time, so four of five tests take about three times as long as one of two. docs/statistics.md has simulated months beside
these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple

from policies.estimates import user_weight
from policies.evidence import information_needed
from policies.experiment_terms import ABTestConfig
from policies.profiles import MetricProfile
from policies.ramp import canary_share, least_hours, planned_shares
from policies.stages import share_correlation

__all__ = ["ExpectedTraffic", "Habit", "PowerAnswer", "detectable_gain", "observations_needed", "required_test",
           "shares_of"]  # fmt: skip

LONGEST_DAYS: Final = 3650.0
"""A test of ten years is one that never ends."""
_MOST: Final = 0.84
"""Standard normal quantile of four in five."""
_HALF: Final = 0.0
"""Of one in two."""
_STEPS: Final = 64
_LEAST_LEFT: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """So many users who come equally often."""

    users: float
    requests_per_day: float
    """Of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTraffic:
    """Who comes, and how often."""

    requests_per_day: float
    users: float
    """Users of the first day on."""
    new_users_per_day: float = 0.0
    """Users added each following day; the requests are shared among all."""
    habits: tuple[Habit, ...] = ()
    """How often they come, where that is known: few users make most of the requests. Empty: all equally often."""
    strangers_per_day: float = 0.0
    """Requests that name nobody, where that is known: a test counts each as a user of its own, who never comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerAnswer:
    """What a test needs. None: it never ends with these users at these shares."""

    gain: float
    shares: tuple[float, ...]
    """Of the challenger, stage by stage."""
    information: float
    """1/SE² that shows `gain` at 80 % power."""
    half_days: float | None
    """By then one of two tests has promoted it …"""
    days: float | None
    """… and by then four of five; what follows is of that moment."""
    requests: int | None
    users: int | None
    """Users in both arms by then."""
    observations: dict[str, int] | None
    """Scores, votes and timings in both arms by then, by metric."""


class _Stage(NamedTuple):
    share: float
    since: float
    until: float
    """Days."""


class _Weight(NamedTuple):
    """What one metric's observations in both arms of a stage are worth."""

    total: float
    of_users: float
    """Of the average observation's user: ΣN²/ΣN."""


def shares_of(config: ABTestConfig, users_a_day: float) -> tuple[float, ...]:
    """The stages of a test under these settings, where so many users come a day."""
    return planned_shares(config, canary_share(users_a_day, config.initial_challenger_traffic))


def observations_needed(gain: float, profile: MetricProfile, share: float, config: ABTestConfig) -> float:
    """Independent observations in both arms that show a relative `gain` of this metric alone, at 80 % power."""
    return _information(gain, config, _MOST) * (profile.sd / profile.mean) ** 2 / (share * (1 - share))


def required_test(
    gain: float,
    shares: Sequence[float],
    traffic: ExpectedTraffic,
    profiles: Sequence[MetricProfile],
    config: ABTestConfig,
    *,
    saving: float = 0.0,
) -> PowerAnswer:
    """What shows a composite `gain` (0.05 = 5 %) in a test with these `shares`, of which the last goes on.

    `saving`: the part of the variance that CUPED takes out (0 to 1). ValueError naming what makes no sense.
    """
    _check(shares, traffic, profiles)
    test = _Test(tuple(shares), traffic, tuple(profiles), config, _left(saving))
    information = _information(gain, config, _MOST)
    half = test.days(_information(gain, config, _HALF))
    most = test.days(_of_four_in_five(gain, config))
    if most is None:
        return PowerAnswer(
            gain=gain,
            shares=test.shares,
            information=information,
            half_days=half,
            days=None,
            requests=None,
            users=None,
            observations=None,
        )
    requests = traffic.requests_per_day * most
    return PowerAnswer(
        gain=gain,
        shares=test.shares,
        information=information,
        half_days=half,
        days=most,
        requests=math.ceil(requests),
        users=math.ceil(min(_users_by(traffic, most), requests)),
        observations={profile.metric.value: math.ceil(requests * profile.per_request) for profile in profiles},
    )


def detectable_gain(
    days: float,
    shares: Sequence[float],
    traffic: ExpectedTraffic,
    profiles: Sequence[MetricProfile],
    config: ABTestConfig,
    *,
    saving: float = 0.0,
) -> float:
    """The smallest composite gain that `days` of traffic show at 80 % power. ValueError as above."""
    _check(shares, traffic, profiles)
    if days <= 0:
        raise ValueError(f"days: {days:g} must be above 0")
    known = _Test(tuple(shares), traffic, tuple(profiles), config, _left(saving)).information_after(days)
    least = config.promotion_threshold if config.evidence == "strict" else 0.0
    low, high = 1e-4, 1e2
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _of_four_in_five(least + middle, config) <= known else (middle, high)
    return least + high


@dataclass(frozen=True, slots=True)
class _Test:
    shares: tuple[float, ...]
    traffic: ExpectedTraffic
    profiles: tuple[MetricProfile, ...]
    config: ABTestConfig
    left: float
    """Of the variance, by CUPED."""

    def days(self, information: float) -> float | None:
        """When there is so much, and what a promotion needs besides."""
        found = _first(lambda days: self.information_after(days) >= information)
        counted = self._days_of_least_counts()
        if found is None or counted is None:
            return None
        return max(found, counted, self.config.min_duration_hours / 24)

    def information_after(self, days: float) -> float:
        """1/SE² of the gain."""
        stages = [stage for stage in self._stages() if stage.since < days]
        spans = [(stage.share, stage.since, min(stage.until, days)) for stage in stages]
        weights = [[self._weight(since, until, profile) for profile in self.profiles] for _, since, until in spans]
        between = [min(1.0, self.config.icc * max(one.of_users for one in stage)) for stage in weights]
        variance = 0.0
        for at, profile in enumerate(self.profiles):
            h = [stage[at].total * share * (1 - share) for stage, (share, _, _) in zip(weights, spans, strict=True)]
            together = sum(h)
            for one, other in combinations(range(len(h)), 2):
                r = share_correlation(spans[one][0], spans[other][0])
                together += 2.0 * r * math.sqrt(between[one] * between[other] * h[one] * h[other])
            variance += (profile.weight * profile.sd / profile.mean) ** 2 * together / sum(h) ** 2
        return 1.0 / (variance * self.left)

    def _stages(self) -> list[_Stage]:
        """When each begins: as soon as it may."""
        since, found = 0.0, []
        for share, following in zip(self.shares, (*self.shares[1:], None), strict=True):
            until = math.inf if following is None else since + self._lasts(share, following, since)
            if until > since:  # one that may be left at once has no evidence (min_duration_hours = 0)
                found.append(_Stage(share, since, until))
            since = until
        return found

    def _lasts(self, share: float, following: float, since: float) -> float:
        """Days in a stage before the share rises; above the first measured share there must be enough users, too."""
        least = least_hours(share, self.config) / 24
        if following <= self.config.initial_challenger_traffic:
            return least
        enough = _first(lambda days: self._effective_users(share, since, since + days) >= self._wanted)
        return max(least, LONGEST_DAYS if enough is None else enough)

    @property
    def _wanted(self) -> float:
        return self.config.min_effective_users

    def _effective_users(self, share: float, since: float, until: float) -> float:
        """In the challenger's arm, of the metric with the fewest."""
        found = (self._weight(since, until, profile) for profile in self.profiles)
        return min(share * one.total / one.of_users for one in found)

    def _days_of_least_counts(self) -> float | None:
        """When the challenger has as many requests and effective users as a promotion needs, whatever they show."""

        def enough(days: float) -> bool:
            spans = [(stage.share, min(stage.until, days) - stage.since) for stage in self._stages()]
            served = self.traffic.requests_per_day * sum(share * max(long, 0.0) for share, long in spans)
            last = max((stage for stage in self._stages() if stage.since < days), key=lambda stage: stage.since)
            users = self._effective_users(last.share, 0.0, days)
            return served >= self.config.min_samples_per_version and users >= self._wanted

        return _first(enough)

    def _weight(self, since: float, until: float, profile: MetricProfile) -> _Weight:
        """Under the soft cap, which is per user and stage."""
        total = squares = 0.0
        for users, rate in _crowds(self.traffic, since, until):
            n = rate * (until - since) * profile.per_request
            # n is an average: of users with few, some have none, and Σ w(N) is that of a Poisson number.
            worth = users * n / (1.0 + n * self.config.icc)
            total += worth
            squares += worth * user_weight(1.0 + n, self.config.icc)
        return _Weight(total, squares / total)


def _left(saving: float) -> float:
    """Of the variance. Where few users always say the same their past seems to explain all of it; none does."""
    return max(1.0 - saving, _LEAST_LEFT)


def _first(holds: Callable[[float], bool]) -> float | None:
    """The first day, in tenths of a percent, from which `holds(days)`; None within ten years."""
    low, high = 1e-3, LONGEST_DAYS
    if not holds(high):
        return None
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _information(gain: float, config: ABTestConfig, z_power: float) -> float:
    """Strict evidence has to show the gain beyond the threshold."""
    margin = gain - config.promotion_threshold if config.evidence == "strict" else gain
    if margin <= 0:
        least = config.promotion_threshold if config.evidence == "strict" else 0.0
        raise ValueError(f"gain: {gain:g} is not above {least:g}; no amount of data shows it")
    return _needed(margin, config.promotion_threshold, config.alpha, z_power)


@lru_cache(maxsize=512)
def _needed(margin: float, threshold: float, alpha: float, z_power: float) -> float:
    return information_needed(margin, deltas=(threshold, 4 * threshold), alpha=alpha, z_power=z_power)


def _of_four_in_five(gain: float, config: ABTestConfig) -> float:
    """Information by which four of five tests have promoted it."""
    return max(_information(gain, config, _MOST), _estimate_reaches(gain, config))


def _estimate_reaches(gain: float, config: ABTestConfig) -> float:
    """Information by which, in four of five tests, the estimate has been at the threshold at some look since there was
    evidence enough in half of them. Infinite where the gain is too far below it."""
    begins = _information(gain, config, 0.0)
    if config.evidence == "strict":
        return begins
    margin, power = gain - config.promotion_threshold, 0.8
    if _reached(margin, begins, begins * 1e4) < power:
        return math.inf
    low, high = begins, begins * 1e4
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _reached(margin, begins, middle) >= power else (middle, high)
    return high


def _reached(margin: float, begins: float, ends: float) -> float:
    """Chance that the estimate of a gain that is `margin` above the threshold reaches it between two amounts of
    information. What it lacks, times the information, moves as a Brownian motion with that drift."""
    spread, long = math.sqrt(begins), ends - begins
    chance = _phi(margin * spread)
    for step in range(_STEPS):
        lacking = (step + 0.5) * 6.0 * spread / _STEPS
        density = math.exp(-0.5 * (lacking / spread + margin * spread) ** 2) / math.sqrt(2 * math.pi) * 6.0 / _STEPS
        chance += density * _crosses(lacking, margin, long)
    return min(chance, 1.0)


def _crosses(distance: float, drift: float, long: float) -> float:
    """Chance that a Brownian motion with a drift towards a line reaches it in time (Siegmund 1985, III)."""
    root = math.sqrt(long)
    reflected = _phi((-distance - drift * long) / root)
    again = math.exp(min(2 * drift * distance, 700.0)) * reflected if reflected > 0 else 0.0
    return min(_phi((drift * long - distance) / root) + again, 1.0)


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _crowds(traffic: ExpectedTraffic, since: float, until: float) -> list[tuple[float, float]]:
    """Users, and requests of each a day, between two days."""
    if not traffic.habits and not traffic.strangers_per_day:
        users = traffic.users + traffic.new_users_per_day * until
        return [(users, traffic.requests_per_day / users)]
    found = [(habit.users, habit.requests_per_day) for habit in traffic.habits]
    if traffic.strangers_per_day:
        found.append((traffic.strangers_per_day * (until - since), 1.0 / (until - since)))
    return found


def _users_by(traffic: ExpectedTraffic, days: float) -> float:
    if not traffic.habits and not traffic.strangers_per_day:
        return traffic.users + traffic.new_users_per_day * days
    known = sum(habit.users * -math.expm1(-habit.requests_per_day * days) for habit in traffic.habits)
    return known + traffic.strangers_per_day * days


def _check(shares: Sequence[float], traffic: ExpectedTraffic, profiles: Sequence[MetricProfile]) -> None:
    for share in shares:
        if not 0.0 < share < 1.0:
            raise ValueError(f"share: {share} must lie between 0 and 1 (0.1 is a tenth of the users)")
    if traffic.requests_per_day <= 0 or traffic.users <= 0:
        raise ValueError("traffic: requests per day and users must be above 0")
    if not profiles:
        raise ValueError("no metric has a weight: set quality_weight, feedback_weight or latency_weight above 0")
    for profile in profiles:
        if profile.per_request <= 0 or profile.mean <= 0 or profile.sd <= 0:
            what = f"mean {profile.mean:g}, sd {profile.sd:g}, per request {profile.per_request:g}"
            raise ValueError(f"{profile.metric.value}: {what}; all three must be above 0, or its weight 0")
