"""The traffic that a test may expect, from what the store knows: who comes how often, and how the champion's answers
vary. What `ratchet power` computes with; nothing of it is part of a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from policies.assessment import QualityMeasure
from policies.composite import composite_of, composite_weights
from policies.estimates import Metric, Moments
from policies.experiment import ABTestConfig
from policies.facts import ExperimentFacts
from policies.power import Habit
from policies.profiles import MetricProfile, measured_profiles
from policies.rows import Experiment
from proxy.loop.look.carriers import EvidenceReader
from proxy.store.store import Store
from proxy.store.tables.keys import DAY_US

__all__ = ["Expected", "ExpectedReader", "habits_of"]

_WINDOW_DAYS: Final = 7.0
_HOUR_US: Final = 3_600_000_000
_EXACT: Final = 8
"""Numbers of visits up to this are groups of their own; more are put together …"""
_WIDER: Final = 1.5
"""… as far as the largest is no more than this many times the smallest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the store knows of the traffic of the last days; None where it does not."""

    requests_per_day: float | None = None
    users_a_day: float | None = None
    """Distinct users of a day, on average."""
    users: float | None = None
    """Of all those days."""
    habits: tuple[Habit, ...] = ()
    strangers_per_day: float = 0.0
    """Requests that named nobody."""
    vote_rate: float | None = None
    scored_rate: float | None = None
    """Share of answers with a score that says something: 0 where there are format checks only."""
    positive_rate: float | None = None
    profiles: tuple[MetricProfile, ...] | None = None
    """As they were in the latest test; None without one."""
    measure: QualityMeasure | None = None
    """What stood for quality in it."""
    saving: float | None = None
    """Part of the variance that the users' own past takes out (`ab_test_config.cuped`), or would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedReader:
    """Asks the store once."""

    store: Store
    ab_test: ABTestConfig
    evidence: EvidenceReader
    scored_by_application: bool = False
    """The settings say where the application's own scores are (`capture.quality_pointers`)."""

    async def read(self, now_us: int) -> Expected:
        """As of `now_us` (Unix microseconds); empty where nobody came."""
        since_us = int(now_us - _WINDOW_DAYS * DAY_US)
        totals = await self.store.traffic.totals(since_us)
        hours = await self.store.traffic.points(since_us, now_us + _HOUR_US, 3600)  # with the hour under way
        if not totals.of_users or not hours:
            return Expected()
        days = min(max((now_us - hours[0].at_us) / DAY_US, 1.0), _WINDOW_DAYS)  # an installation may be younger
        counted, visits, nobody = await self.store.traffic.visits(since_us)
        thumbs = totals.votes.positive + totals.votes.negative
        scored = self.scored_by_application or await self.store.judgements.people_score(since_us=since_us)
        seen = Expected(
            requests_per_day=totals.of_users / days,
            users_a_day=await self.store.traffic.users_a_day(now_us),
            users=float(sum(visits.values())) or None,
            habits=habits_of(visits, max(counted, 1.0)),
            strangers_per_day=min(nobody / max(counted, 1.0), totals.of_users / days),
            vote_rate=totals.voted / totals.of_users,
            scored_rate=totals.scored / totals.of_users if scored else 0.0,
            positive_rate=min(0.99, max(0.01, totals.votes.positive / thumbs)) if thumbs else None,
        )
        test = self.ab_test
        saved = await self.store.past_savings.read(composite_weights(test), test.history_days, test.icc)
        seen = seen if saved is None else replace(seen, saving=saved.saved)
        latest = next(iter(await self.store.experiments.list(limit=1)), None)
        return seen if latest is None else await self._of_test(seen, latest)

    async def _of_test(self, seen: Expected, row: Experiment) -> Expected:
        tested = tuple(stage for stage in row.stages if not stage.watch)  # in the watch the champion is another model
        facts = await self.evidence.facts(row.with_stages(tested) if tested else row)
        champion = sum((stage.champion.moments for stage in facts.earlier), facts.champion.moments)
        measure = composite_of(facts, self.ab_test).measure
        rates = {} if seen.vote_rate is None else {Metric.POSITIVE: seen.vote_rate}
        return replace(seen, profiles=self._profiles(champion, facts, rates), measure=measure)

    def _profiles(
        self, champion: Moments, facts: ExperimentFacts, rates: Mapping[Metric, float]
    ) -> tuple[MetricProfile, ...] | None:
        try:
            return measured_profiles(champion, self.ab_test, facts, rates=rates)
        except ValueError:  # too little was observed
            return None


def habits_of(visits: Mapping[int, int], days: float) -> tuple[Habit, ...]:
    """Users by number of requests in so many days, as groups of who comes about equally often."""
    groups: list[tuple[int, float, float]] = []
    for n, users in sorted(visits.items()):
        if groups and n > _EXACT and n <= _WIDER * groups[-1][0]:
            first, crowd, requests = groups.pop()
            groups.append((first, crowd + users, requests + n * users))
        else:
            groups.append((n, float(users), float(n * users)))
    return tuple(Habit(users=crowd, requests_per_day=requests / crowd / days) for _, crowd, requests in groups)
