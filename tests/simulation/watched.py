"""The hours after a promotion: what takes traffic back that should not, and what should and how soon.

Some of the users stay on the old model (`holdback_share`), so both serve at once. Beside it the comparison that needs
nobody to stay: the new model's hours against the old one's before them, with latency as it once was, and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

import numpy as np

from policies.experiment import ABTestConfig, ArmStats
from policies.guardrails import GuardrailState, check
from policies.holdback import watch_guardrails
from policies.promotion import WatchDecision, WatchFacts, watch
from policies.records import Arm
from policies.stages import Stages
from tests.simulation.cases import worth
from tests.simulation.series import StageSeries, stage_series
from tests.simulation.traffic import Answers, Floats, Month, World, month

__all__ = ["WATCHED", "Watch", "WatchedCase", "WatchedOutcome", "simulate_watch", "watched_outcome"]

_TESTED_FOR_H: Final = 48
"""The last stage of the test, with half of the users."""
_MOST_H: Final = 96
"""A watch that has too few requests goes on for longer than its window."""
_ENOUGH_FAILING: Final = 200
_RHYTHM: Final = 0.7
"""At the busiest hour of the day an answer takes 1.7 times as long as on average, at the quietest 0.3 times."""


_FIFTH_WORSE: Final = 1 - 0.8 / 1.125
"""So many answers of a model that is 12.5 % better have to be worth nothing for it to be 20 % worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedCase:
    """What happens after a promotion."""

    name: str
    gain: float = 0.10
    """What the new model is worth, as long as it is what it was in the test."""
    slower: float = 1.0
    """How many times as long every answer takes after the promotion, whichever model gives it."""
    rhythm: bool = False
    """Whether answers take longer at busy hours, before the promotion and after it."""
    error_rate: float | None = None
    """Of the new model, from the hour on in which it turns bad …"""
    worthless: float = 0.0
    """… or so many of its answers are worth nothing, by score and thumb."""
    turns_after_h: int = 0

    @property
    def turns_bad(self) -> bool:
        return self.error_rate is not None or self.worthless > 0


WATCHED: Final = (
    WatchedCase(name="nothing else changes"),
    WatchedCase(name="every answer takes twice as long", slower=2.0),
    WatchedCase(name="a day's rhythm", rhythm=True),
    WatchedCase(name="both", slower=2.0, rhythm=True),
    WatchedCase(name="30 % errors at once", error_rate=0.3),
    WatchedCase(name="30 % errors after 12 hours", error_rate=0.3, turns_after_h=12),
    WatchedCase(name="answers 20 % worse than the old model's at once", worthless=_FIFTH_WORSE),
    WatchedCase(name="the same after 12 hours", worthless=_FIFTH_WORSE, turns_after_h=12),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one watch went."""

    returned: bool
    hours: int
    """When it ended, after the promotion."""
    failing: int
    """Answers that the bad model has failed by then."""
    frozen_returned: bool
    """Where the hours before are what it is compared with, latency too."""
    frozen_without_latency: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedOutcome:
    """Shares of the runs."""

    runs: int
    returned: float
    frozen: float
    frozen_without_latency: float
    within: float
    """Returned within the first 200 failing answers."""
    median_failing: float | None
    """Of those that were returned."""
    most_failing: int | None
    median_hours: float | None


def watched_outcome(watches: Sequence[Watch]) -> WatchedOutcome:
    """Count how they ended."""
    back = [watch for watch in watches if watch.returned]

    def share(found: Sequence[bool]) -> float:
        return sum(found) / len(watches)

    return WatchedOutcome(
        runs=len(watches),
        returned=share([w.returned for w in watches]),
        frozen=share([w.frozen_returned for w in watches]),
        frozen_without_latency=share([w.frozen_without_latency for w in watches]),
        within=share([w.returned and w.failing <= _ENOUGH_FAILING for w in watches]),
        median_failing=median(w.failing for w in back) if back else None,
        most_failing=max(w.failing for w in back) if back else None,
        median_hours=median(w.hours for w in back) if back else None,
    )


def simulate_watch(case: WatchedCase, world: World, seed: int, config: ABTestConfig | None = None) -> Watch:
    """A promotion after two days with half of the users, and the watch that follows; looks every hour."""
    config = config or ABTestConfig()
    promoted = _TESTED_FOR_H + seed % 24
    drawn = month(replace(world, **worth(case.gain)), seed)
    drawn, failing = _afterwards(drawn, case, promoted, np.random.default_rng((seed, 3)))
    until = promoted + _MOST_H
    tested, _ = stage_series(drawn, 0.5, promoted - _TESTED_FOR_H, promoted, promoted)
    served, _ = stage_series(drawn, 1.0 - config.holdback_share, promoted, until, until)
    everybody, _ = stage_series(drawn, 1.0, promoted, until, until)
    before = tested.stats(Arm.CHAMPION, promoted - 1)
    returned, hours = _watched(config, served, promoted, before, control=True)
    has_new = (drawn.place < 1.0 - config.holdback_share)[drawn.user] & (drawn.hour < promoted + hours)
    return Watch(
        returned=returned,
        hours=hours,
        failing=int((failing & has_new).sum()),
        frozen_returned=_frozen(config, everybody, promoted, before),
        frozen_without_latency=_watched(config, everybody, promoted, before, control=False)[0],
    )


def _watched(
    config: ABTestConfig, served: StageSeries, promoted: int, before: ArmStats, *, control: bool
) -> tuple[bool, int]:
    """Whether it took traffic back, and after how many hours the watch ended."""
    for hour in range(_MOST_H):
        now = promoted + hour
        facts = WatchFacts(
            promoted_at=3600.0 * promoted,
            before=before,
            control=served.stats(Arm.CONTROL, now, of=0) if control else None,
            holdback_share=config.holdback_share,
            after=served.stats(Arm.CHAMPION, now, of=1),
            old_champion_healthy=True,
        )
        look = watch(facts, config, 3600.0 * (now + 1))
        if look.decision is not WatchDecision.KEEP:
            return look.decision is WatchDecision.RETURN, hour + 1
    return False, _MOST_H


def _frozen(config: ABTestConfig, everybody: StageSeries, promoted: int, before: ArmStats) -> bool:
    """The comparison with the hours before, of all guardrails: what the watch was before it had a control."""
    for hour in range(promoted, promoted + round(config.watch_hours)):
        stages = Stages.one(before.moments, everybody.stats(Arm.CHAMPION, hour, of=1).moments)
        for guardrail in watch_guardrails(config):
            if check(guardrail, stages, config.guardrails).state is GuardrailState.ROLL_BACK:
                return True
    return False


def _afterwards(drawn: Month, case: WatchedCase, promoted: int, rng: np.random.Generator) -> tuple[Month, np.ndarray]:  # type: ignore[type-arg]
    """The month with what happens after the promotion, and which of the new model's answers fail for it."""
    after = drawn.hour >= promoted
    times = np.where(after, case.slower, 1.0)
    if case.rhythm:
        times = times * (1.0 + _RHYTHM * np.sin(2 * np.pi * (drawn.hour % 24) / 24))
    bad = (drawn.hour >= promoted + case.turns_after_h) & case.turns_bad
    drawn_error, drawn_worth = rng.random(drawn.hour.size), rng.random(drawn.hour.size)
    error = (
        drawn.new.error if case.error_rate is None else np.where(bad, drawn_error < case.error_rate, drawn.new.error)
    )
    useless = bad & (drawn_worth < case.worthless) & ~error
    new = replace(
        drawn.new,
        error=error,
        quality=np.where(useless, 0.0, drawn.new.quality),
        positive=drawn.new.positive & ~useless,
        latency_s=drawn.new.latency_s * times,
    )
    return replace(drawn, old=_slowed(drawn.old, times), new=new), bad & (error | useless)


def _slowed(answers: Answers, times: Floats) -> Answers:
    return replace(answers, latency_s=answers.latency_s * times)
