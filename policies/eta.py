"""When a decision may be expected: a range, because nobody knows whether new users come.

The earliest end takes information to grow in proportion to time, and to the share p as p(1 − p). The latest takes only
the users seen so far to come back: under the soft cap a user of n observations is worth w(n) = n / (1 + (n − 1)·icc)
and never more than 1/icc, so information stops at a ceiling, and where the needed amount lies above it the answer is
"never, as things are".
"""

from __future__ import annotations

import math
from functools import lru_cache

from policies.assessment import Eta
from policies.estimates import EffectEstimate, Metric, metric_mean
from policies.evidence import information_needed
from policies.experiment_terms import ABTestConfig
from policies.facts import ExperimentFacts
from policies.ramp import least_hours
from policies.wording import duration, signed_percent

__all__ = ["estimate_eta", "eta_in_words"]


def estimate_eta(
    facts: ExperimentFacts, config: ABTestConfig, effect: EffectEstimate, metrics: list[Metric], now: float
) -> Eta | None:
    """Hours from `now` (Unix seconds) until the evidence suffices with power 80 %, if the true gain is the estimate or
    the threshold. `metrics` are those in the composite. None while nothing is known about the pace.

    Information grows with p(1 − p) of the share p, and the share is taken to rise as soon as it may.
    """
    gain = max(effect.theta, config.promotion_threshold)
    margin = gain - config.promotion_threshold if config.evidence == "strict" else gain
    seen = _share_hours(facts, now)
    if not math.isfinite(effect.se) or seen <= 0 or margin <= 0:
        return None
    deltas = config.promotion_threshold, 4 * config.promotion_threshold
    factor = max(_information(round(margin, 3) or margin, deltas, config.alpha) * effect.se**2, 1.0)
    shortest = max(config.min_duration_hours - max(now - facts.evidence_since, 0.0) / 3600, 0.0)
    stretch = _stretch(factor, _observations_per_user(facts, metrics), config.icc)
    return Eta(
        gain=gain,
        earliest_hours=max(_hours_for((factor - 1) * seen, facts, config, now), shortest),
        latest_hours=None if stretch is None else max(_hours_for((stretch - 1) * seen, facts, config, now), shortest),
    )


def _share_hours(facts: ExperimentFacts, now: float) -> float:
    """Hours so far, each as much as p(1 − p) of its share is worth."""
    stages = facts.stages
    ends = (*(stage.started_at for stage in stages[1:]), now)
    return sum(
        max(end - stage.started_at, 0.0) / 3600 * _worth(stage.share) for stage, end in zip(stages, ends, strict=True)
    )


def _hours_for(wanted: float, facts: ExperimentFacts, config: ABTestConfig, now: float) -> float:
    """Hours until `wanted` more of these have come, with the ramp going on as soon as its stages have lasted."""
    share, hours = facts.share, 0.0
    lasted = max(now - facts.epoch_started_at, 0.0) / 3600
    for following in () if facts.set_by_hand else facts.planned:
        here = max(least_hours(share, config) - lasted, 0.0)
        if here * _worth(share) >= wanted:
            break
        wanted -= here * _worth(share)
        hours, share, lasted = hours + here, following, 0.0
    return hours + wanted / _worth(share)


def _worth(share: float) -> float:
    return share * (1.0 - share)


def eta_in_words(eta: Eta, config: ABTestConfig) -> str:
    """One sentence; a decision further away than the longest duration is said to be that."""
    words = (
        f"If the true gain is {signed_percent(eta.gain)}, the evidence may suffice in {duration(eta.earliest_hours)}"
    )
    if eta.latest_hours is None:
        words += "; without new users or a larger share it cannot be reached."
    elif eta.latest_hours > 1.05 * eta.earliest_hours:
        words += f", or in {duration(eta.latest_hours)} if no new users come."
    else:
        words += "."
    if eta.earliest_hours > config.max_duration_hours:
        most = duration(config.max_duration_hours)
        words += f" That is longer than the test may take ({most}): `ratchet power` says what makes it shorter."
    return words


@lru_cache(maxsize=64)
def _information(gain: float, deltas: tuple[float, float], alpha: float) -> float:
    """Remembered, because hourly looks ask for nearly the same gain: a tenth of a percent is all that is shown."""
    return information_needed(gain, deltas=deltas, alpha=alpha)


def _observations_per_user(facts: ExperimentFacts, metrics: list[Metric]) -> float:
    """Weighted observations per challenger user in the metric that is nearest to the cap."""
    found = [
        mean.observations / stage.challenger.moments.users
        for stage in facts.stages
        for metric in metrics
        if (mean := metric_mean(stage.challenger.moments, metric)) is not None
    ]
    return max(found, default=0.0)


def _stretch(factor: float, weight: float, icc: float) -> float | None:
    """How many times as long the same users must go on until their weight has grown by `factor`; None: never."""
    if weight <= 0 or icc >= 1 or weight * factor * icc >= 1:
        return None

    def observations(worth: float) -> float:
        return worth * (1 - icc) / (1 - worth * icc)

    return observations(weight * factor) / observations(weight)
