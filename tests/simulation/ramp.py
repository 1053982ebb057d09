"""A month in which the challenger's share rises as the product lets it: canary, first share, half of the users.

Looks are taken every hour; `hourly` says which of them may decide something, and those the product takes. The same
month is looked at with a fixed share, and once more as if nobody vouched for users' names: then a promotion has to
survive leaving out those who carry it (`policies.carriers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from policies.carriers import Carriers, Units
from policies.composite import composite_weights
from policies.estimates import Vector
from policies.experiment import (
    ABTestConfig,
    Assessment,
    ExperimentFacts,
    StageFacts,
    Verdict,
    evaluate,
    forgeable_weights,
)
from policies.guardrails import GuardrailState
from policies.ramp import canary_share, least_hours, planned_shares
from policies.records import Arm
from tests.simulation.hourly import Effects, deciding_hours
from tests.simulation.series import StageSeries, UserVectors, pooled_rows, stage_series
from tests.simulation.traffic import HOURS, SLOW_THRESHOLD_S, Bools, Month, Past, World, month, past_of
from tests.simulation.trial import config_for

__all__ = ["Ending", "Endings", "Ramp", "shares_of", "simulate_month"]

Voters = Callable[[int], tuple[UserVectors, UserVectors]]
_FINAL: Final = (Verdict.PROMOTE, Verdict.ROLL_BACK, Verdict.REJECT)
_FIRST_HORIZON: Final = 96
_CARRIERS_EVERY_H: Final = 6
"""So often those who carry the evidence are looked for, while they hold a promotion up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one month went."""

    verdict: Verdict = Verdict.CONTINUE
    """CONTINUE where nothing was decided."""
    hours: int = HOURS
    served: int = 0
    """Requests that the challenger answered."""
    shares: tuple[tuple[float, int], ...] = ()
    """Each stage's share and its first hour."""
    broken: tuple[str, ...] = ()
    """Guardrails that took the users away."""

    @property
    def promoted(self) -> bool:
        return self.verdict is Verdict.PROMOTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """Of one and the same month."""

    plain: Ending
    survives: Ending
    """Where nobody vouches for users' names, and a promotion has to survive leaving out those who carry it."""


def shares_of(month: Month, config: ABTestConfig) -> tuple[float, ...]:
    """The stages that the product plans for as many users as came on the first day."""
    users = np.unique(month.user[month.hour < 24]).size
    return planned_shares(config, canary_share(float(users), config.initial_challenger_traffic))


def simulate_month(
    world: World, seed: int, *, fixed: bool = False, claimed: bool = True, pooled: bool = False, cuped: bool = False
) -> Endings:
    """Look every hour for thirty days, or until the test ends. `fixed`: at the world's share, without a ramp. `pooled`:
    as it must not be done, with the rows of all stages in one. `cuped`: less what the users' past explains."""
    drawn, config = month(world, seed), config_for(world)
    planned = (world.share,) if fixed else shares_of(drawn, config)
    past = past_of(world, drawn, seed) if cuped else None
    return Ramp(drawn, world, replace(config, cuped=cuped), planned, pooled=pooled, past=past).run(claimed=claimed)


@dataclass(slots=True)
class Ramp:
    """One month under one plan of shares."""

    month: Month
    world: World
    config: ABTestConfig
    planned: tuple[float, ...]
    pooled: bool = False
    past: Past | None = None
    """Where users' past is taken into account: then the product is asked after every hour."""
    _starts: list[int] = field(default_factory=lambda: [0])
    _plain: Ending | None = None
    _made: dict[tuple[float, int, int], tuple[StageSeries, Voters]] = field(default_factory=dict)

    def run(self, *, claimed: bool = True) -> Endings:
        """`claimed`: go on after a promotion until one survives leaving out."""
        hour, until = 0, _FIRST_HORIZON
        while True:
            stages, found = self._looks(hour, until, claimed=claimed)
            if found is not None:
                hour, look = found
                if look is not None:
                    broken = tuple(g.name for g in look.guardrails if g.state is GuardrailState.ROLL_BACK)
                    ending = replace(self._ending(look.verdict, hour, stages), broken=broken)
                    return Endings(plain=self._plain or ending, survives=ending)
                if not claimed and self._plain is not None:
                    return Endings(plain=self._plain, survives=self._plain)
                continue
            if until >= HOURS:
                ending = self._ending(Verdict.CONTINUE, HOURS, stages)
                return Endings(plain=self._plain or ending, survives=ending)
            hour, until = until, min(3 * until, HOURS)

    def _looks(
        self, since: int, until: int, *, claimed: bool
    ) -> tuple[list[StageSeries], tuple[int, Assessment | None] | None]:
        """Take the looks after the hours from `since` to before `until`, up to the first that ends the test (with that
        look) or changes how it goes on (without): then the next look is after the hour that is said."""
        ends = [*self._starts[1:], until]
        made = [
            self._series(share, first, last, until)
            for share, first, last in zip(self.planned, self._starts, ends, strict=False)
        ]
        stages = [series for series, _ in made]
        if self.pooled:
            stages = [pooled_rows(stages)]
        for hour in np.flatnonzero(self._worth(stages, until)[since:]) + since:
            facts = self._facts(stages, int(hour))
            look = evaluate(facts, self.config, 3600.0 * (hour + 1))
            first_win = look.verdict is Verdict.PROMOTE and self._plain is None
            if first_win:
                self._plain = self._ending(look.verdict, int(hour) + 1, stages)
                if not claimed:
                    return stages, (int(hour) + 1, None)
            if look.verdict is Verdict.PROMOTE:
                look = self._survived(stages, [voters for _, voters in made], int(hour))
            if look.verdict in _FINAL:
                return stages, (int(hour) + 1, look)
            if look.next_stage is not None and not look.next_stage.waits and hour + 1 < HOURS:
                self._starts.append(int(hour) + 1)
                return stages, (int(hour) + 1, None)
            if first_win:  # from here on it is asked now and then who carries it
                return stages, (int(hour) + 1, None)
        return stages, None

    def _series(self, share: float, first: int, last: int, until: int) -> tuple[StageSeries, Voters]:
        """A stage; what was made of it when the next one began is the same until the horizon moves."""
        key = (share, last, until)
        if key not in self._made:
            self._made[key] = stage_series(
                self.month, share, first, last, until, slower=self._slower(share), past=self.past
            )
        return self._made[key]

    def _worth(self, stages: Sequence[StageSeries], until: int) -> Bools:
        """The hours after which a look may change something."""
        if self.past is not None:
            return np.ones(until, dtype=bool)
        weights = composite_weights(self.config)
        decides, proven, gain = deciding_hours(stages, weights, self.config, among=len(self.planned))
        proven &= np.arange(1, until + 1) >= self.config.min_duration_hours
        if self._plain is not None:  # it has won, and it is asked now and then who carries that
            proven &= np.arange(until) % _CARRIERS_EVERY_H == 0
        return decides | proven | self._may_rise(until, gain)

    def _slower(self, share: float) -> float:
        return 1.0 + self.world.load * share

    def _may_rise(self, until: int, gain: Effects) -> Bools:
        """The hours at which the share may rise, as far as time and the gain go."""
        at = len(self._starts) - 1
        if at + 1 >= len(self.planned):
            return np.zeros(until, dtype=bool)
        least = least_hours(self.planned[at], self.config)
        rises = np.arange(1, until + 1) - self._starts[-1] >= least
        if self.planned[at + 1] > self.config.initial_challenger_traffic:
            with np.errstate(invalid="ignore"):
                rises &= (gain.theta >= 0) & (gain.effective_users >= self.config.min_effective_users)
        return rises

    def _facts(self, stages: Sequence[StageSeries], hour: int, *, claimed: bool = False) -> ExperimentFacts:
        *earlier, running = (
            StageFacts(
                started_at=3600.0 * stage.first,
                share=stage.share,
                champion=stage.stats(Arm.CHAMPION, hour, claimed=claimed),
                challenger=stage.stats(Arm.CHALLENGER, hour, claimed=claimed),
            )
            for stage in stages
        )
        return ExperimentFacts(
            started_at=0.0,
            epoch_started_at=3600.0 * self._starts[-1],
            share=_observed(running) if self.pooled else running.share,
            champion=running.champion,
            challenger=running.challenger,
            slow_threshold_s=SLOW_THRESHOLD_S,
            earlier=tuple(earlier),
            planned=self.planned[len(self._starts) :],
        )

    def _survived(self, stages: Sequence[StageSeries], voters: Sequence[Voters], hour: int) -> Assessment:
        """The same look where all names are only claimed."""
        facts = self._facts(stages, hour, claimed=True)
        carriers = _carriers(facts, self.config, [of(hour) for of in voters])
        return evaluate(replace(facts, carriers=carriers), self.config, 3600.0 * (hour + 1))

    def _ending(self, verdict: Verdict, hours: int, stages: Sequence[StageSeries]) -> Ending:
        at = min(hours, HOURS) - 1
        return Ending(
            verdict=verdict,
            hours=hours,
            served=sum(int(stage.requests[1, at]) for stage in stages),
            shares=tuple(zip(self.planned, self._starts, strict=False)),
        )


def _observed(stage: StageFacts) -> float:
    """The challenger's share of the users that came."""
    return stage.challenger.users / max(stage.champion.users + stage.challenger.users, 1)


def _carriers(
    facts: ExperimentFacts, config: ABTestConfig, voters: Sequence[tuple[UserVectors, UserVectors]]
) -> Carriers:
    """Both arms without those that carry the evidence, by the product's own choice. `voters`: of each stage."""
    stages = facts.stages
    clusters = max(s.champion.clusters for s in stages), max(s.challenger.clusters for s in stages)
    units = Units(facts.evidence(config.icc), forgeable_weights(facts, config), clusters)
    for arm in (0, 1):
        by_user: dict[int, dict[int, Vector]] = {}
        for at, stage in enumerate(voters):
            for user, vector in stage[arm].items():
                by_user.setdefault(user, {})[at] = vector
        for user, vectors in by_user.items():
            units.add(arm, user, vectors, claimed=True)
    return units.carriers()
