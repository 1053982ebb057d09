"""The hours after a promotion: what takes traffic back that should not, and what should and how soon.

Some of the users stay on the old model (`holdback_share`), so both serve at once. Beside it the comparison that needs
nobody to stay: the new model's hours against the old one's before them, with latency as it once was, and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Final

import numpy as np

from policies.experiment import ABTestConfig, ArmStats
from policies.guardrails import GuardrailState, check
from policies.holdback import watch_guardrails
from policies.promotion import WatchDecision, WatchFacts, WatchPart, watch
from policies.records import Arm
from policies.stages import Stages
from tests.simulation.cases import worth
from tests.simulation.series import StageSeries, stage_series
from tests.simulation.traffic import Answers, Bools, Floats, Ints, Month, World, month

__all__ = [
    "FIRST_SEED",
    "LATE_H",
    "WATCHED",
    "Watch",
    "WatchedCase",
    "WatchedOutcome",
    "simulate_watch",
    "turns_bad",
    "watched_outcome",
]

_TESTED_FOR_H: Final = 48
"""The last stage of the test, with half of the users."""
_MOST_H: Final = 96
"""A watch that has too few requests goes on for longer than its window."""
_ENOUGH_FAILING: Final = 200
FIRST_SEED: Final = 1000
"""Of the tables: the rules were chosen on seeds below 100."""
_RHYTHM: Final = 0.7
"""At the busiest hour of the day an answer takes 1.7 times as long as on average, at the quietest 0.3 times."""
_OUTAGE_H: Final = (6, 18)
"""Hours after the promotion between which both models fail, where they do."""
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
    outage: float = 0.0
    """Of the answers of both models, for twelve hours."""
    error_rate: float | None = None
    """Of the new model, from the hour on in which it turns bad …"""
    worthless: float = 0.0
    """… or so many of its answers are worth nothing, by score and thumb."""
    turns_after_h: int = 0

    @property
    def is_bad(self) -> bool:
        return self.error_rate is not None or self.worthless > 0


WATCHED: Final = (
    WatchedCase(name="nothing else changes"),
    WatchedCase(name="every answer takes twice as long", slower=2.0),
    WatchedCase(name="a day's rhythm", rhythm=True),
    WatchedCase(name="both", slower=2.0, rhythm=True),
    WatchedCase(name="30 % errors of both models for 12 hours", outage=0.3),
    WatchedCase(name="30 % errors at once", error_rate=0.3),
    WatchedCase(name="30 % errors after 12 hours", error_rate=0.3, turns_after_h=12),
    WatchedCase(name="answers 20 % worse than the old model's at once", worthless=_FIFTH_WORSE),
    WatchedCase(name="the same after 12 hours", worthless=_FIFTH_WORSE, turns_after_h=12),
)


LATE_H: Final = (0, 6, 9, 12, 15)
"""Hours after the promotion in which a model turns bad, for the table of looks."""


def turns_bad(after_h: int) -> WatchedCase:
    """A model that fails 30 % of its answers from then on."""
    return WatchedCase(name=f"30 % errors after {after_h} hours", error_rate=0.3, turns_after_h=after_h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How one watch went."""

    returned: bool
    hours: float
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


def simulate_watch(
    case: WatchedCase, world: World, seed: int, config: ABTestConfig | None = None, *, looks_per_hour: int = 1
) -> Watch:
    """A promotion after two days with half of the users, and the watch that follows."""
    config = config or ABTestConfig()
    promoted = _TESTED_FOR_H + seed % 24
    drawn = month(replace(world, **worth(case.gain)), seed)
    drawn, failing = _afterwards(drawn, case, promoted, np.random.default_rng((seed, 3)))
    tested, _ = stage_series(drawn, 0.5, promoted - _TESTED_FOR_H, promoted, promoted)
    before = tested.stats(Arm.CHAMPION, promoted - 1)
    hours = _Hours.of(drawn, failing, promoted, looks_per_hour, np.random.default_rng((seed, 9)))
    returned, looks = _watched(config, hours, before, 1.0 - config.holdback_share)
    until = promoted + _MOST_H
    everybody, _ = stage_series(drawn, 1.0, promoted, until, until)
    hourly = _Hours.of(drawn, failing, promoted, 1, np.random.default_rng((seed, 9)))
    return Watch(
        returned=returned,
        hours=looks / looks_per_hour,
        failing=hours.failed(1.0 - config.holdback_share, looks),
        frozen_returned=_frozen(config, everybody, promoted, before),
        frozen_without_latency=_watched(config, hourly, before, 1.0)[0],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hours:
    """What comes after a promotion, by look: what a month calls an hour is the time from one look to the next."""

    drawn: Month
    failing: Bools
    """Which of its answers the bad model fails."""
    looks_per_hour: int
    looks: int

    @classmethod
    def of(cls, drawn: Month, failing: Bools, promoted: int, looks_per_hour: int, rng: np.random.Generator) -> _Hours:
        """Of the month. A request comes anywhere in its hour, a vote at its end."""
        begin, end = np.searchsorted(drawn.hour, (promoted, promoted + _MOST_H))
        place = rng.integers(0, looks_per_hour, end - begin)
        when = (drawn.hour[begin:end] - promoted) * looks_per_hour + place
        order = np.argsort(when, kind="stable")
        rows = begin + order
        after = replace(
            drawn,
            user=drawn.user[rows],
            hour=when[order],
            voted_hour=(drawn.voted_hour[rows] - promoted + 1) * looks_per_hour - 1,
            old=_of_rows(drawn.old, rows),
            new=_of_rows(drawn.new, rows),
        )
        return cls(drawn=after, failing=failing[rows], looks_per_hour=looks_per_hour, looks=_MOST_H * looks_per_hour)

    def part(self, share: float, first: int, last: int) -> StageSeries:
        """Both models from one look to before another, while the new one has that share of the users."""
        return stage_series(self.drawn, share, first, last, self.looks)[0]

    def failed(self, share: float, looks: int) -> int:
        """Answers that the bad model has failed by then."""
        has_new = (self.drawn.place < share)[self.drawn.user] & (self.drawn.hour < looks)
        return int((self.failing & has_new).sum())


def _of_rows(answers: Answers, rows: Ints) -> Answers:
    return replace(answers, **{column.name: getattr(answers, column.name)[rows] for column in fields(answers)})


def _watched(config: ABTestConfig, hours: _Hours, before: ArmStats, share: float) -> tuple[bool, int]:
    """Whether it took traffic back, and after how many looks the watch ended. With a share of 1 nobody is held back."""
    ended: list[StageSeries] = []
    began, running = 0, hours.part(share, 0, hours.looks)
    look_s = 3600.0 / hours.looks_per_hour
    for at in range(hours.looks):
        facts = WatchFacts(
            promoted_at=0.0,
            before=before,
            control=running.stats(Arm.CONTROL, at, of=0) if share < 1.0 else None,
            holdback_share=config.holdback_share,
            after=running.stats(Arm.CHAMPION, at, of=1),
            earlier=tuple(_part(part, at) for part in ended),
            part_began_at=began * look_s,
            old_champion_healthy=True,
        )
        look = watch(facts, config, (at + 1) * look_s)
        if look.decision is not WatchDecision.KEEP:
            return look.decision is WatchDecision.RETURN, at + 1
        if look.renews:
            ended.append(hours.part(share, began, at + 1))
            began, running = at + 1, hours.part(share, at + 1, hours.looks)
    return False, hours.looks


def _part(series: StageSeries, at: int) -> WatchPart:
    return WatchPart(control=series.stats(Arm.CONTROL, at, of=0), after=series.stats(Arm.CHAMPION, at, of=1))


def _frozen(config: ABTestConfig, everybody: StageSeries, promoted: int, before: ArmStats) -> bool:
    """The comparison with the hours before, of all guardrails: what the watch was before it had a control."""
    for hour in range(promoted, promoted + round(config.watch_hours)):
        stages = Stages.one(before.moments, everybody.stats(Arm.CHAMPION, hour, of=1).moments)
        for guardrail in watch_guardrails(config):
            if check(guardrail, stages, config.guardrails).state is GuardrailState.ROLL_BACK:
                return True
    return False


def _afterwards(drawn: Month, case: WatchedCase, promoted: int, rng: np.random.Generator) -> tuple[Month, Bools]:
    """The month with what happens after the promotion, and which of the new model's answers fail for it."""
    after = drawn.hour >= promoted
    times = np.where(after, case.slower, 1.0)
    if case.rhythm:
        times = times * (1.0 + _RHYTHM * np.sin(2 * np.pi * (drawn.hour % 24) / 24))
    bad = (drawn.hour >= promoted + case.turns_after_h) & case.is_bad
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
    old = _slowed(drawn.old, times)
    if case.outage:
        since, until = (promoted + hour for hour in _OUTAGE_H)
        out = (drawn.hour >= since) & (drawn.hour < until) & (drawn_error < case.outage)
        old, new = (replace(answers, error=answers.error | out) for answers in (old, new))
    return replace(drawn, old=old, new=new), bad & (error | useless)


def _slowed(answers: Answers, times: Floats) -> Answers:
    return replace(answers, latency_s=answers.latency_s * times)
