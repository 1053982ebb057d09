"""A challenger's share rises by itself: a canary first, then the first share that is measured, then half of the users.

The first stage shows whether it works at all, and few users see it. The last one measures its gain in a fraction of the
time that a tenth of the users takes: information grows with p(1 − p). The share never falls by itself; harm sends the
challenger back. What lets it rise, at a look:

    any step            this stage has lasted long enough; the split of the users is as it should be; errors, refusals
                        and latency of this stage alone pass (unknown is no pass)
    above the first     also: every guardrail passes, nothing is proven to be worse in a tag, there are enough effective
    measured share      users, and the best estimate is not below 0

Errors, refusals and latency are judged in the running stage alone, for more load on a model may slow it, each time at
their part of alpha_harm divided by the number of stages. Everything else rests on all stages together
(`policies.stages`), and one alpha covers them all. docs/statistics.md has the table of what this finds, and how soon.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policies.assessment import NextStage
from policies.estimates import EffectEstimate
from policies.experiment_terms import ABTestConfig
from policies.guardrails import GUARDRAILS, GuardrailResult, GuardrailState
from policies.rows import Experiment
from policies.wording import duration, number, share

__all__ = ["CANARY_PART", "STAGE_PART", "WANTED_USERS", "canary_share", "least_hours", "next_stage", "planned_shares",
           "ramp_in_words", "set_by_hand"]  # fmt: skip

WANTED_USERS: Final = 20.0
"""Users a day that a canary should have."""
CANARY_PART: Final = 1 / 8
"""Of `min_duration_hours`: so long a canary lasts at least, 6 of 48 hours, …"""
STAGE_PART: Final = 1 / 2
"""… and a stage that measures the gain, 24 of them."""
_SMALLEST: Final = 0.01
_LAST: Final = 0.5


def canary_share(users_a_day: float, initial: float) -> float | None:
    """Share of the canary, or None where users are so few that it would be half of the first measured share or more."""
    wanted = max(_SMALLEST, WANTED_USERS / users_a_day) if users_a_day > 0 else 1.0
    return wanted if wanted <= initial / 2 else None


def planned_shares(config: ABTestConfig, canary: float | None = None) -> tuple[float, ...]:
    """All stages of a ramp, in order. `canary` is the share of the first one where the settings leave that open."""
    if config.stages:
        return config.stages
    first = config.initial_challenger_traffic
    last = () if first >= _LAST else (_LAST,)
    return (*(() if canary is None or canary >= first else (canary,)), first, *last)


def set_by_hand(experiment: Experiment, config: ABTestConfig) -> bool:
    """Whether a person has set the share that it has now. Before there were stages nobody noted that: of a test from
    then a share that the settings do not name was a person's."""
    if "stages" in experiment.state:
        return experiment.stages[-1].by_hand
    return experiment.share not in planned_shares(config)


def least_hours(reached: float, config: ABTestConfig) -> float:
    """How long a stage of that share lasts at least."""
    part = CANARY_PART if reached < config.initial_challenger_traffic else STAGE_PART
    return part * config.min_duration_hours


def next_stage(
    config: ABTestConfig,
    *,
    share_now: float,
    planned: Sequence[float],
    hours: float,
    comparable: bool,
    guardrails: Sequence[GuardrailResult],
    harmed_tags: Sequence[str],
    effect: EffectEstimate | None,
) -> NextStage | None:
    """Where the ramp goes next, and what it still waits for; None where it goes no further.

    `hours`: since this stage began. `comparable`: the users are split as they should be, in every stage.
    """
    above = [planned_share for planned_share in planned if planned_share > share_now]
    if not above:
        return None
    target, left = above[0], max(least_hours(share_now, config) - hours, 0.0)
    waits = [f"another {duration(left)} in this stage"] if left > 0 else []
    if not comparable:
        waits.append("a split of the users as it should be")
    measures = target > config.initial_challenger_traffic
    waits += [
        f"{GUARDRAILS[result.name].words} ({result.reason})"
        for result in guardrails
        if result.state is not GuardrailState.PASS
        if measures or GUARDRAILS[result.name].harm_part is not None
    ]
    if measures:
        waits += [f"no proven harm in the tag {tag}" for tag in harmed_tags]
        waits += _of_the_gain(config, effect)
    return NextStage(share=target, waits=tuple(waits), in_hours=left)


def _of_the_gain(config: ABTestConfig, effect: EffectEstimate | None) -> list[str]:
    if effect is None:
        return ["an estimate of the gain"]
    waits = []
    if effect.effective_users < config.min_effective_users:
        waits.append(
            f"effective users ({number(round(effect.effective_users, 1))} of {number(config.min_effective_users)})"
        )
    if effect.theta < 0:
        waits.append("a best estimate that is not below 0")
    return waits


def ramp_in_words(reached: float, following: NextStage) -> str:
    """Where the challenger stands on its ramp, in a sentence."""
    now = f"{share(reached)} of the users have the challenger"
    if not following.waits:
        return f"Stage: {now}; the share rises to {share(following.share)}."
    return f"Stage: {now}; before it rises to {share(following.share)}: {'; '.join(following.waits)}."
