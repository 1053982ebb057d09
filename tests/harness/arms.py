"""Arms of an experiment with numbers that can be checked by hand: user i has the i-th value of each pattern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from policies.estimates import SIGNALS, Metric, Moments, UserTotals
from policies.experiment import ABTestConfig, ArmStats, Assessment, ExperimentFacts, evaluate
from policies.records import Arm

HOUR = 3600.0

MIXED = (0.6, 0.7, 0.8)
THUMBS = (1.0, 1.0, 0.0, 1.0)
STEADY = (0.9, 1.1, 1.0, 1.2, 0.8)
RARELY = (*(0.0,) * 49, 1.0)
NO_SIGNALS: Mapping[Metric, Sequence[float]] = {}


def arm_stats(
    arm: Arm,
    users: int,
    *,
    requests_each: int = 1,
    quality: Sequence[float] | None = MIXED,
    thumbs: Sequence[float] | None = THUMBS,
    latency: Sequence[float] | None = STEADY,
    errors: Sequence[float] = RARELY,
    slow: Sequence[float] | None = RARELY,
    voted: Sequence[float] = (1.0, 0.0),
    refused: Sequence[float] | None = RARELY,
    given: Sequence[float] | None = None,
    judge: Sequence[float] | None = None,
    judge_voted: Sequence[float] | None = None,
    length: Sequence[float] | None = None,
    declined: Sequence[float] | None = None,
    malformed: Sequence[float] | None = None,
    truncated: Sequence[float] | None = None,
    language: Sequence[float] | None = None,
    signals: Mapping[Metric, Sequence[float]] = NO_SIGNALS,
    split: int | None = None,
) -> ArmStats:
    """An arm of `users` users with `requests_each` equal requests; None: that metric was never observed.

    `split` is the number of users the arm shows to the sample ratio check, where it should differ.
    """
    moments = Moments()
    behaviour = (length, declined, malformed, truncated, language)
    patterns = (quality, thumbs, latency, errors, slow, voted, refused, given, judge, judge_voted, *behaviour,
                *(signals.get(metric) for metric in SIGNALS))  # fmt: skip
    for values in zip(*(islice(cycle(pattern or (0.0,)), users) for pattern in patterns), strict=True):
        n = tuple(0.0 if pattern is None else float(requests_each) for pattern in patterns)
        s = tuple(count * value for count, value in zip(n, values, strict=True))
        moments = moments.replaced(None, UserTotals(n=n, s=s).vector())
    if split is not None:
        moments = Moments(users=split, sums=moments.sums, products=moments.products)
    return ArmStats(arm=arm, requests=users * requests_each, moments=moments)


def scaled(pattern: Sequence[float], factor: float) -> tuple[float, ...]:
    """Every value times `factor`."""
    return tuple(factor * value for value in pattern)


def facts(
    champion: ArmStats, challenger: ArmStats, *, share: float = 0.5, slow_threshold_s: float | None = 2.0
) -> ExperimentFacts:
    """One epoch from time 0 on."""
    return ExperimentFacts(
        started_at=0.0,
        epoch_started_at=0.0,
        share=share,
        champion=champion,
        challenger=challenger,
        slow_threshold_s=slow_threshold_s,
    )


def assessed() -> Assessment:
    """A look at an experiment of five users a side."""
    return evaluate(facts(arm_stats(Arm.CHAMPION, 5), arm_stats(Arm.CHALLENGER, 5)), ABTestConfig(), 0.0)
