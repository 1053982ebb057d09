"""How the metrics of a composite behave in the champion's traffic: what power and levers are computed from.

Measured where there was a test, assumed where there was none. What is weighed is found out as a test would
(`policies.composite`): format checks that find no defects measure nothing, and a judge that counts takes the place of
quality and thumbs, corrected by the votes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from policies.composite import Composite, composite_of, composite_weights
from policies.estimates import NOT_ACCEPTED, Metric, Moments, metric_mean, observation_sd
from policies.experiment_terms import ABTestConfig
from policies.facts import ExperimentFacts

__all__ = ["JUDGE_SAVES", "MetricProfile", "assumed_profiles", "measured_profiles", "with_judge"]

JUDGE_SAVES: Final = 1 / 6
"""Part of the votes' variance that a judge takes out of them: 1.1 to 1.3 votes' worth in each vote as measured
(docs/statistics.md), and 2.4 for a very good one where few vote."""


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


def assumed_profiles(
    config: ABTestConfig,
    *,
    vote_rate: float,
    scored_rate: float = 1.0,
    positive_rate: float = 0.7,
    conversation_rate: float = 0.02,
) -> tuple[MetricProfile, ...]:
    """Typical numbers for an installation without history: scores 0.70 ± 0.23, latency spread by half its mean, one
    answer in twenty that was not accepted. `conversation_rate`: votes on conversations per request."""
    thumbs = (positive_rate, _coin(positive_rate), vote_rate)
    accepted = (0.95, _coin(0.95), 1.0)
    shapes = {
        Metric.QUALITY: (0.7, 0.23, scored_rate),
        Metric.POSITIVE: thumbs,
        Metric.LATENCY: (1.0, 0.5, 1.0),
        Metric.CONVERSATION: (positive_rate, _coin(positive_rate), conversation_rate),
        Metric.COPIED: (0.2, _coin(0.2), 1.0),
        **dict.fromkeys(NOT_ACCEPTED, accepted),
    }
    return tuple(
        MetricProfile(metric=metric, weight=weight, mean=shape[0], sd=shape[1], per_request=shape[2])
        for metric, weight in composite_weights(config).items()
        if weight and (shape := shapes[metric])
    )


def measured_profiles(
    champion: Moments,
    config: ABTestConfig,
    facts: ExperimentFacts | None = None,
    *,
    rates: Mapping[Metric, float] = MappingProxyType({}),
) -> tuple[MetricProfile, ...]:
    """The champion's own numbers. ValueError naming the first weighted metric that was never observed.

    `facts` of the test in which they were observed say what measures quality there; None: the settings' weights.
    `rates`: observations per request where they were counted. Else they are taken from the soft-capped weights, which
    makes what is rare look more frequent than it is.
    """
    requests = metric_mean(champion, Metric.ERROR)
    composite = None if facts is None else composite_of(facts, config)
    profiles: list[MetricProfile] = []
    for metric, weight in _weights(config, composite).items():
        if not weight:
            continue
        mean, sd = metric_mean(champion, metric), observation_sd(champion, metric)
        level = None if mean is None else 1.0 - mean.mean if metric in NOT_ACCEPTED else mean.mean
        if requests is None or mean is None or sd is None or level is None or level <= 0:
            raise ValueError(f"{metric.value}: too little was observed to say how it varies; assume numbers instead")
        rate = rates.get(metric) or min(mean.observations / requests.observations, 1.0)
        profiles.append(MetricProfile(metric=metric, weight=weight, mean=level, sd=sd, per_request=rate))
    if composite is not None and composite.rectified:
        return tuple(_corrected(one) if one.metric is Metric.POSITIVE else one for one in profiles)
    return tuple(profiles)


def with_judge(profiles: tuple[MetricProfile, ...], config: ABTestConfig) -> tuple[MetricProfile, ...] | None:
    """The same traffic with a judge whose scores votes correct; None where it would change nothing: answers are scored
    already, or nobody votes."""
    votes = next((one for one in profiles if one.metric is Metric.POSITIVE), None)
    if votes is None or any(one.metric is Metric.QUALITY for one in profiles):
        return None
    weight = config.quality_weight + config.feedback_weight
    return tuple(_corrected(replace(one, weight=weight)) if one is votes else one for one in profiles)


def _weights(config: ABTestConfig, composite: Composite | None) -> dict[Metric, float]:
    if composite is None:
        return composite_weights(config)
    return {**composite.weights, **({Metric.POSITIVE: composite.rectified} if composite.rectified else {})}


def _corrected(votes: MetricProfile) -> MetricProfile:
    return replace(votes, sd=votes.sd * math.sqrt(1.0 - JUDGE_SAVES))


def _coin(mean: float) -> float:
    return math.sqrt(mean * (1.0 - mean))
