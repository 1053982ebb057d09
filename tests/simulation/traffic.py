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

from policies.assignment import assign
from policies.records import Arm

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


def stream(world: World, seed: int) -> Stream:
    """The month that `seed` picks. The split of the users is the product's own."""
    rng = np.random.default_rng(seed)
    users = world.requests_per_day  # once a day each, on average
    salt = seed.to_bytes(8, "big")
    challenger = np.array([assign(salt, b"%d" % i, world.share) is Arm.CHALLENGER for i in range(users)])
    hour = _arrivals(rng, world.requests_per_day)
    user = rng.choice(users, size=hour.size, p=_activity(rng, world.activity, users))
    served = challenger[user]
    voted = rng.random(hour.size) < world.vote_rate
    delay = rng.exponential(world.vote_delay_hours, hour.size).astype(np.int64)
    return Stream(
        users=users,
        user=user,
        hour=hour,
        challenger=challenger,
        quality=_scores(rng, world, user, served, users),
        positive=_thumbs(rng, world, user, served, users),
        voted_hour=np.where(voted, np.minimum(hour + delay, HOURS), HOURS),
        latency_s=_latencies(rng, user, users) * np.where(served, 1 + world.latency_change, 1.0),
        error=rng.random(hour.size) < np.where(served, world.error_rate, ERROR_RATE),
        refused=_refusals(rng, world, user, served, users),
    )


def _refusals(rng: np.random.Generator, world: World, user: Ints, served: Bools, users: int) -> Bools:
    bad = (rng.random(users) < world.bad_clients)[user]
    return bad | (rng.random(user.size) < np.where(served, world.refused_rate, world.champion_refused_rate))


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


def _scores(rng: np.random.Generator, world: World, user: Ints, served: Bools, users: int) -> Floats:
    taste = _tastes(rng, world.quality_mean, users)[user]
    return _changed(rng, rng.beta(3 * taste, 3 * (1 - taste)), world.quality_mean, world.quality_change, served)


def _thumbs(rng: np.random.Generator, world: World, user: Ints, served: Bools, users: int) -> Bools:
    taste = _tastes(rng, world.positive_mean, users)[user]
    up = (rng.random(user.size) < taste).astype(np.float64)
    return _changed(rng, up, world.positive_mean, world.positive_change, served) > 0.5


def _changed(rng: np.random.Generator, values: Floats, mean: float, change: float, served: Bools) -> Floats:
    """The challenger's mean is (1 + change) times the champion's: some answers become 1, or some become 0."""
    hit = rng.random(values.size) < (change * mean / (1 - mean) if change > 0 else -change)
    return np.where(served & hit, 1.0 if change > 0 else 0.0, values)


def _latencies(rng: np.random.Generator, user: Ints, users: int) -> Floats:
    own = rng.normal(0.0, LATENCY_SIGMA * ICC**0.5, users)[user]
    return np.exp(own + rng.normal(0.0, LATENCY_SIGMA * (1 - ICC) ** 0.5, user.size))
