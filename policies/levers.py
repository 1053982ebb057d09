"""What would make a test shorter, and by how much: what to do where "+5 % with my traffic" takes too long.

Each lever is computed for the same better model, on the same traffic. They are named in the order of what they ask for:
a setting, more users who see the challenger, the set-up of a judge, hours of people who compare answers, and last a
longer test, which makes nothing shorter. The cheapest is the first that brings four of five tests into the longest
duration; where none does, the one that comes nearest.

A session in which people compare answers blind promotes nothing, for only users do; it tells a person whether to.
The better model's answer is preferred with the probability Φ(edge), the edge being its gain in standard deviations of
the difference of two answers to the same prompt (`_SAME_PROMPT` of their variance is the prompt's, which the comparison
takes out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from policies.estimates import Metric
from policies.evidence import information_needed
from policies.experiment_terms import ABTestConfig
from policies.power import ExpectedTraffic, required_test
from policies.profiles import MetricProfile, with_judge
from policies.wording import duration, many, number, share

__all__ = ["Lever", "LeverKind", "cheapest", "levers", "months_in_words"]

_SAME_PROMPT: Final = 0.4
"""Correlation of the worth of two models' answers to one prompt; the gate is simulated with .3 and .5."""
_COMPARISON_S: Final = 30.0
"""A person needs about so long for a pair."""
_HALF: Final = 0.5
_WORTH: Final = 0.95
"""A lever that leaves more of the time than this is not worth its name."""
_DAYS_A_MONTH: Final = 30.4


class LeverKind(StrEnum):
    """In the order of what it asks for."""

    CUPED = "cuped"
    SHARE = "share"
    JUDGE = "judge"
    PREFERENCES = "preferences"
    LONGER = "longer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """One thing that a person can do."""

    kind: LeverKind
    days: float | None
    """Until four of five tests are decided; for preferences until the comparisons are made by one person, eight hours a
    day. None: it does not suffice within ten years."""
    words: str
    """What to do, and what it costs."""
    comparisons: int | None = None
    """Of the session, and …"""
    work_hours: float | None = None
    """… how long one person is at it."""


def levers(
    gain: float,
    shares: Sequence[float],
    traffic: ExpectedTraffic,
    profiles: Sequence[MetricProfile],
    config: ABTestConfig,
    *,
    saving: float | None = None,
) -> tuple[Lever, ...]:
    """What shortens the test of a model with this composite `gain`, in the order of what it asks for.

    `saving`: part of the variance that CUPED takes out here, or would where it is off; None: not known.
    """
    test = _Test(gain, tuple(shares), traffic, tuple(profiles), config, max(saving or 0.0, 0.0))
    now = test.days()
    found = (_cuped(test), _more_users(test), _judge(test), _preferences(test))
    useful = tuple(one for one in found if one is not None and _shorter(one.days, now))
    return (*useful, _longer(now, config)) if now is not None and now > config.max_duration_hours / 24 else useful


def cheapest(found: Sequence[Lever], config: ABTestConfig) -> Lever | None:
    """The first that suffices within the longest duration, else the one that comes nearest; None: there is none."""
    most = config.max_duration_hours / 24
    within = [one for one in found if one.days is not None and one.days <= most]
    if within:
        return within[0]
    return min((one for one in found if one.days is not None), key=lambda one: one.days or math.inf, default=None)


def months_in_words(days: float | None) -> str:
    """How long, for people who think of months: "4 months" from two on; None: never."""
    if days is None:
        return "never with these users"
    if days >= 2 * _DAYS_A_MONTH:
        return f"{many(days / _DAYS_A_MONTH)} months"
    return duration(24 * days)


def _shorter(days: float | None, now: float | None) -> bool:
    return days is not None and (now is None or days < _WORTH * now)


@dataclass(frozen=True, slots=True)
class _Test:
    """As it would be now."""

    gain: float
    shares: tuple[float, ...]
    traffic: ExpectedTraffic
    profiles: tuple[MetricProfile, ...]
    config: ABTestConfig
    saving: float

    def days(self) -> float | None:
        """Until four of five are decided."""
        saving = self.saving if self.config.cuped else 0.0
        return required_test(self.gain, self.shares, self.traffic, self.profiles, self.config, saving=saving).days


def _cuped(test: _Test) -> Lever | None:
    if test.config.cuped or not test.saving:
        return None
    words = f"set ab_test_config.cuped: the users' own past takes out {share(test.saving)} of the variance here"
    on = replace(test, config=replace(test.config, cuped=True))
    return Lever(kind=LeverKind.CUPED, days=on.days(), words=words)


def _more_users(test: _Test) -> Lever:
    words = (
        "give the challenger half of the users from the start (ab_test_config.stages = [0.5]): they see it, good or bad"
    )
    return Lever(kind=LeverKind.SHARE, days=replace(test, shares=(_HALF,)).days(), words=words)


def _judge(test: _Test) -> Lever | None:
    judged = with_judge(test.profiles, test.config)
    if judged is None:
        return None
    answers = sum(one.weight for one in test.profiles if one.metric is Metric.POSITIVE)
    better = test.gain * (test.config.quality_weight + test.config.feedback_weight) / answers
    words = (
        "set up a judge ([judge]): its scores, corrected by the votes, take the place of quality and thumbs; "
        "a model that is better by these votes then gains more of the composite, too"
    )
    return Lever(kind=LeverKind.JUDGE, days=replace(test, gain=better, profiles=judged).days(), words=words)


def _preferences(test: _Test) -> Lever | None:
    """How many blind comparisons show that its answers are better, at 80 % power and the test's alpha."""
    rated = [one for one in test.profiles if one.metric in (Metric.QUALITY, Metric.POSITIVE)]
    if not rated:
        return None
    shown = max(rated, key=lambda one: one.weight)
    change = test.gain / sum(one.weight for one in rated) * shown.mean
    edge = change / (shown.sd * math.sqrt(2.0 * (1.0 - _SAME_PROMPT)))
    won = math.erfc(-edge / math.sqrt(2.0)) - 1.0
    pairs = math.ceil(information_needed(won, deltas=(won,), alpha=test.config.alpha))
    hours = pairs * _COMPARISON_S / 3600
    words = (
        f"have people compare {many(pairs)} pairs of answers side by side (`ratchet check`, the console); it promotes "
        "nothing by itself: `ratchet promote` is yours then"
    )
    return Lever(kind=LeverKind.PREFERENCES, days=hours / 8, words=words, comparisons=pairs, work_hours=hours)


def _longer(days: float, config: ABTestConfig) -> Lever:
    hours = math.ceil(days) * 24
    words = (
        f"let the test take longer (ab_test_config.max_duration_hours = {hours}, "
        f"now {number(config.max_duration_hours)}): it costs only time"
    )
    return Lever(kind=LeverKind.LONGER, days=days, words=words)
