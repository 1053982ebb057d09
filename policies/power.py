"""How many users, votes and days a test takes, before it is started.

The answer is for one look at 80 % power, by the same model as the soft cap: an observation has the standard deviation
`sd` around the metric's `mean`, one user's n of them are worth w(n), users are equally active, and the metrics are
independent. Then 1/SE² = W·s(1 − s) / Σ ω²(sd/mean)²/rate for a share s, so 10 % of the users take 2.8 times as long as
50 %, and twice the gain a quarter of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.assessment import ABTestConfig
from policies.composite import composite_weights
from policies.estimates import Metric, Moments, metric_mean, observation_sd, user_weight
from policies.evidence import information_needed

__all__ = [
    "ExpectedTraffic",
    "MetricProfile",
    "PowerAnswer",
    "assumed_profiles",
    "detectable_gain",
    "measured_profiles",
    "observations_needed",
    "required_test",
]  # fmt: skip

_LONGEST_DAYS: Final = 3650.0
"""A test of ten years is one that never ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricProfile:
    """How one metric of the composite behaves in the champion's traffic."""

    metric: Metric
    weight: float
    """Signed weight in the composite."""
    mean: float
    sd: float
    """Standard deviation of one observation."""
    per_request: float
    """Observations per request, 0 to 1: the vote rate for thumbs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTraffic:
    """Who comes, and how often."""

    requests_per_day: float
    users: float
    """Users of the first day on."""
    new_users_per_day: float = 0.0
    """Users added each following day; the requests are shared among all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerAnswer:
    """What a test needs. None: it never ends with these users at this share."""

    gain: float
    share: float
    information: float
    """1/SE² that shows `gain` at 80 % power."""
    days: float | None
    requests: int | None
    users: int | None
    """Users in both arms by then."""
    observations: dict[str, int] | None
    """Scores, votes and timings in both arms by then, by metric."""


def assumed_profiles(
    config: ABTestConfig, *, vote_rate: float, scored_rate: float = 1.0, positive_rate: float = 0.7
) -> tuple[MetricProfile, ...]:
    """Typical numbers for an installation without history: scores 0.70 ± 0.23, latency spread by half its mean."""
    thumbs_sd = math.sqrt(positive_rate * (1 - positive_rate))
    shapes = {
        Metric.QUALITY: (0.7, 0.23, scored_rate),
        Metric.POSITIVE: (positive_rate, thumbs_sd, vote_rate),
        Metric.LATENCY: (1.0, 0.5, 1.0),
    }
    return tuple(
        MetricProfile(metric=metric, weight=weight, mean=shape[0], sd=shape[1], per_request=shape[2])
        for metric, weight in composite_weights(config).items()
        if weight and (shape := shapes[metric])
    )


def measured_profiles(champion: Moments, config: ABTestConfig) -> tuple[MetricProfile, ...]:
    """The champion's own numbers. ValueError naming the first weighted metric that was never observed."""
    requests = metric_mean(champion, Metric.ERROR)
    profiles: list[MetricProfile] = []
    for metric, weight in composite_weights(config).items():
        if not weight:
            continue
        mean, sd = metric_mean(champion, metric), observation_sd(champion, metric)
        if requests is None or mean is None or sd is None or mean.mean <= 0:
            raise ValueError(f"{metric.value}: too little was observed to say how it varies; assume numbers instead")
        rate = min(mean.observations / requests.observations, 1.0)
        profiles.append(MetricProfile(metric=metric, weight=weight, mean=mean.mean, sd=sd, per_request=rate))
    return tuple(profiles)


def observations_needed(gain: float, profile: MetricProfile, share: float, config: ABTestConfig) -> float:
    """Independent observations in both arms that show a relative `gain` of this metric alone."""
    return _information(gain, config) * (profile.sd / profile.mean) ** 2 / (share * (1 - share))


def required_test(
    gain: float, share: float, traffic: ExpectedTraffic, profiles: Sequence[MetricProfile], config: ABTestConfig
) -> PowerAnswer:
    """What shows a composite `gain` (0.05 = 5 %) at a challenger's `share`. ValueError naming what makes no sense."""
    _check(share, traffic, profiles)
    information = _information(gain, config)
    days = _days(information, share, traffic, profiles, config.icc)
    if days is None:
        return PowerAnswer(
            gain=gain, share=share, information=information, days=None, requests=None, users=None, observations=None
        )
    requests = traffic.requests_per_day * days
    return PowerAnswer(
        gain=gain,
        share=share,
        information=information,
        days=days,
        requests=math.ceil(requests),
        users=math.ceil(min(_users(traffic, days), requests)),
        observations={profile.metric.value: math.ceil(requests * profile.per_request) for profile in profiles},
    )


def detectable_gain(
    days: float, share: float, traffic: ExpectedTraffic, profiles: Sequence[MetricProfile], config: ABTestConfig
) -> float:
    """The smallest composite gain that `days` of traffic show at 80 % power. ValueError as above."""
    _check(share, traffic, profiles)
    if days <= 0:
        raise ValueError(f"days: {days:g} must be above 0")
    known = _information_after(days, share, traffic, profiles, config.icc)
    least = config.promotion_threshold if config.evidence == "strict" else 0.0
    low, high = 1e-4, 1e2
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _information(least + middle, config) <= known else (middle, high)
    return least + high


def _information(gain: float, config: ABTestConfig) -> float:
    """Strict evidence has to show the gain beyond the threshold."""
    margin = gain - config.promotion_threshold if config.evidence == "strict" else gain
    if margin <= 0:
        least = config.promotion_threshold if config.evidence == "strict" else 0.0
        raise ValueError(f"gain: {gain:g} is not above {least:g}; no amount of data shows it")
    deltas = config.promotion_threshold, 4 * config.promotion_threshold
    return information_needed(margin, deltas=deltas, alpha=config.alpha)


def _days(
    information: float, share: float, traffic: ExpectedTraffic, profiles: Sequence[MetricProfile], icc: float
) -> float | None:
    low, high = 0.0, _LONGEST_DAYS
    if _information_after(high, share, traffic, profiles, icc) < information:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        enough = _information_after(middle, share, traffic, profiles, icc) >= information
        low, high = (low, middle) if enough else (middle, high)
    return high


def _information_after(
    days: float, share: float, traffic: ExpectedTraffic, profiles: Sequence[MetricProfile], icc: float
) -> float:
    users = _users(traffic, days)
    requests_per_user = traffic.requests_per_day * days / users
    variance = 0.0
    for profile in profiles:
        n = requests_per_user * profile.per_request
        # Below one observation a user there is nothing to cap: that share of the users has one each.
        observations = users * (n if n <= 1 else user_weight(n, icc))
        variance += (profile.weight * profile.sd / profile.mean) ** 2 / (observations * share * (1 - share))
    return 1.0 / variance


def _users(traffic: ExpectedTraffic, days: float) -> float:
    return traffic.users + traffic.new_users_per_day * days


def _check(share: float, traffic: ExpectedTraffic, profiles: Sequence[MetricProfile]) -> None:
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
