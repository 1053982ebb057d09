"""A month of made-up traffic whose truth is known: users, their habits, and a challenger of a chosen worth.

Users differ in activity (lognormal, Zipf or geometric) and in taste: a tenth of the variance of scores, thumbs and
latency lies between users (intra-class correlation 0.1). Votes come hours late. A better challenger turns some of the
champion's answers perfect, a worse one turns some of them useless, so means are exact and scores stay in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from policies.assignment import unit_interval

Activity = Literal["lognormal", "zipf", "geometric"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOURS = 30 * 24
ICC = 0.1
ERROR_RATE = 0.01
LATENCY_SIGMA = 0.5
SLOW_THRESHOLD_S = float(np.exp(1.645 * LATENCY_SIGMA))
"""The champion's true 95th percentile: what an installation would have frozen before the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One kind of traffic and one kind of challenger."""

    requests_per_day: int
    activity: Activity = "lognormal"
    share: float = 0.1
    declared_share: float | None = None
    """What the experiment believes its share to be, where that is not true."""
    judge: bool = True
    """Whether every answer gets a score; else there are thumbs only."""
    quality_change: float = 0.0
    """The challenger's relative change of the mean score."""
    positive_change: float = 0.0
    """The challenger's relative change of the positive rate."""
    latency_change: float = 0.0
    error_rate: float = ERROR_RATE
    """The challenger's error rate."""
    refused_rate: float = 0.0
    """The share of requests that the challenger refuses with a 4xx …"""
    champion_refused_rate: float = 0.0
    """… and the champion."""
    bad_clients: float = 0.0
    """Share of users whose every request is refused, whichever model serves them: an expired key, a wrong format."""
    quality_mean: float = 0.7
    positive_mean: float = 0.7
    vote_rate: float = 0.2
    vote_delay_hours: float = 3.0
    drift: float = 0.0
    """By how much mean score and share of thumbs up have risen by the end of the month, little by little, whichever
    model answers; below 0 they fall."""
    load: float = 0.0
    """How much longer the challenger takes (1.0: twice as long) if it had all users; less with a share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Thirty days of requests in order of arrival; one array element per request."""

    users: int
    user: Ints
    hour: Ints
    challenger: Bools
    """Per user: whether the challenger serves it."""
    quality: Floats
    positive: Bools
    voted_hour: Ints
    """Hour in which the vote arrives; HOURS when there is none within the month."""
    latency_s: Floats
    error: Bools
    refused: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one model would answer to every request of a month."""

    quality: Floats
    positive: Bools
    latency_s: Floats
    error: Bools
    refused: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What stays with a user from month to month, one element per user."""

    activity: Floats
    """Its part of all requests."""
    quality: Floats
    positive: Floats
    """Means."""
    latency: Floats
    """Logarithm of how many times as long as for others its answers take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What every user had been given before the month began; columns are quality, thumbs, latency."""

    n: Floats
    s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Thirty days of requests in order of arrival, with what either model would make of them."""

    users: int
    user: Ints
    hour: Ints
    place: Floats
    """Per user: in [0, 1); those below a share have the challenger. It is the product's own hash."""
    voted_hour: Ints
    """Hour in which the vote arrives; HOURS when there is none within the month."""
    old: Answers
    new: Answers
    habits: Habits

    def split(self, share: float) -> Stream:
        """As the two models serve it while the challenger has that share of the users."""
        challenger = self.place < share
        served = challenger[self.user]
        return Stream(
            users=self.users,
            user=self.user,
            hour=self.hour,
            challenger=challenger,
            quality=np.where(served, self.new.quality, self.old.quality),
            positive=np.where(served, self.new.positive, self.old.positive),
            voted_hour=self.voted_hour,
            latency_s=np.where(served, self.new.latency_s, self.old.latency_s),
            error=np.where(served, self.new.error, self.old.error),
            refused=np.where(served, self.new.refused, self.old.refused),
        )


def stream(world: World, seed: int) -> Stream:
    """The month that `seed` picks. The split of the users is the product's own."""
    return month(world, seed).split(world.share)


def month(world: World, seed: int) -> Month:
    """The month that `seed` picks, as both models would serve it."""
    rng = np.random.default_rng(seed)
    users = world.requests_per_day  # once a day each, on average
    salt = seed.to_bytes(8, "big")
    place = np.array([unit_interval(salt, b"%d" % i) for i in range(users)])
    hour = _arrivals(rng, world.requests_per_day)
    activity = _activity(rng, world.activity, users)
    user = rng.choice(users, size=hour.size, p=activity)
    voted = rng.random(hour.size) < world.vote_rate
    delay = rng.exponential(world.vote_delay_hours, hour.size).astype(np.int64)
    score_of = _tastes(rng, world.quality_mean, users)
    quality = _drifted(rng, world, hour, world.quality_mean, _scores(rng, world, score_of[user]))
    thumb_of = _tastes(rng, world.positive_mean, users)
    positive = _drifted(rng, world, hour, world.positive_mean, _thumbs(rng, world, thumb_of[user]))
    slow_of = rng.normal(0.0, LATENCY_SIGMA * ICC**0.5, users)
    latency = _latencies(rng, slow_of[user])
    failed = rng.random(hour.size)
    bad = (rng.random(users) < world.bad_clients)[user]
    refused = rng.random(hour.size)
    return Month(
        users=users,
        user=user,
        hour=hour,
        place=place,
        voted_hour=np.where(voted, np.minimum(hour + delay, HOURS), HOURS),
        old=Answers(
            quality=quality[0],
            positive=positive[0] > 0.5,
            latency_s=latency,
            error=failed < ERROR_RATE,
            refused=bad | (refused < world.champion_refused_rate),
        ),
        new=Answers(
            quality=quality[1],
            positive=positive[1] > 0.5,
            latency_s=latency * (1 + world.latency_change),
            error=failed < world.error_rate,
            refused=bad | (refused < world.refused_rate),
        ),
        habits=Habits(activity=activity, quality=score_of, positive=thumb_of, latency=slow_of),
    )


def past_of(world: World, drawn: Month, seed: int, days: int = 28) -> Past:
    """What the champion gave the month's users in so many days before it."""
    rng, habits = np.random.default_rng((seed, 4)), drawn.habits
    rate = world.requests_per_day * days * (1 - ERROR_RATE)
    user = np.repeat(np.arange(drawn.users), rng.poisson(habits.activity * rate))
    taste = habits.quality[user]
    voter = user[rng.random(user.size) < world.vote_rate]
    values = (
        (user, rng.beta(3 * taste, 3 * (1 - taste))),
        (voter, rng.random(voter.size) < habits.positive[voter]),
        (user, _latencies(rng, habits.latency[user])),
    )
    return Past(
        n=np.stack([np.bincount(who, minlength=drawn.users) for who, _ in values], axis=1).astype(np.float64),
        s=np.stack([np.bincount(who, weights=of, minlength=drawn.users) for who, of in values], axis=1),
    )


def _arrivals(rng: np.random.Generator, requests_per_day: int) -> Ints:
    """Poisson arrivals with quiet nights."""
    of_day = 1 + 0.7 * np.sin(2 * np.pi * (np.arange(HOURS) % 24) / 24)
    return np.repeat(np.arange(HOURS), rng.poisson(requests_per_day / 24 * of_day))


def _activity(rng: np.random.Generator, kind: Activity, users: int) -> Floats:
    match kind:
        case "lognormal":
            weights = rng.lognormal(0.0, 1.0, users)
        case "zipf":
            weights = rng.permutation(1.0 / np.arange(1, users + 1))
        case "geometric":
            weights = rng.geometric(0.3, users).astype(np.float64)
    return weights / weights.sum()


def _tastes(rng: np.random.Generator, mean: float, users: int) -> Floats:
    """A mean per user: Beta with a share ICC of the variance that a coin of that mean has."""
    spread = 1 / ICC - 1
    return np.clip(rng.beta(mean * spread, (1 - mean) * spread, users), 1e-6, 1 - 1e-6)


def _scores(rng: np.random.Generator, world: World, taste: Floats) -> tuple[Floats, Floats]:
    return _changed(rng, rng.beta(3 * taste, 3 * (1 - taste)), world.quality_mean, world.quality_change)


def _thumbs(rng: np.random.Generator, world: World, taste: Floats) -> tuple[Floats, Floats]:
    up = (rng.random(taste.size) < taste).astype(np.float64)
    return _changed(rng, up, world.positive_mean, world.positive_change)


def _changed(rng: np.random.Generator, values: Floats, mean: float, change: float) -> tuple[Floats, Floats]:
    """What the champion gives, and the challenger, whose mean is (1 + change) times as high: some of its answers become
    1, or some become 0."""
    hit = rng.random(values.size) < (change * mean / (1 - mean) if change > 0 else -change)
    return values, np.where(hit, 1.0 if change > 0 else 0.0, values)


def _drifted(
    rng: np.random.Generator, world: World, hour: Ints, mean: float, values: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """More and more answers are perfect, or useless, with either model."""
    if not world.drift:
        return values
    most = world.drift / (1 - mean) if world.drift > 0 else -world.drift / mean
    hit = rng.random(hour.size) < most * hour / HOURS
    old, new = (np.where(hit, 1.0 if world.drift > 0 else 0.0, of) for of in values)
    return old, new


def _latencies(rng: np.random.Generator, own: Floats) -> Floats:
    return np.exp(own + rng.normal(0.0, LATENCY_SIGMA * (1 - ICC) ** 0.5, own.size))
