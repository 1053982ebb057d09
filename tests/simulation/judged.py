"""Months in which a judge scores every answer and people vote on some: what votes make of a judge that takes sides.

The application gives no scores, and the format check finds no defects. An answer is good or not; who votes says which,
and the judge sees it with errors, and may like the challenger more than it deserves. Everything else is the traffic of
the other simulations, and the settings are the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from policies.estimates import Metric
from policies.experiment import ABTestConfig, ExperimentFacts, Verdict, evaluate
from policies.facts import JudgeFacts
from tests.simulation.cases import Outcome, summarise
from tests.simulation.traffic import HOURS, Bools, Floats, Ints, Stream, World, stream
from tests.simulation.trial import Book, Trial

__all__ = ["JUDGED", "JudgedCase", "simulate_judged"]

_TRUE_GOOD, _TRUE_BAD = 0.85, 0.7
"""How often the judge is right about a good answer, and about a bad one."""
_LOOK_EVERY_H = 6
_FINAL = (Verdict.PROMOTE, Verdict.ROLL_BACK, Verdict.REJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """What the challenger is worth, how much more the judge likes it, and what the judge is asked for."""

    name: str
    change: float = 0.0
    """Of the share of good answers, relative."""
    likes: float = 0.0
    """By how much the judge's mean score of the challenger is too high."""
    trust: Literal["rectified", "unrectified"] = "rectified"
    angry: float = 1.0
    """How many times as often the challenger's users vote on a bad answer as the champion's do."""

    @property
    def world(self) -> World:
        return World(requests_per_day=2000, judge=False, positive_change=self.change)

    @property
    def config(self) -> ABTestConfig:
        """Unrectified, the judge's score is all that is looked at, as far as answers go."""
        return ABTestConfig() if self.trust == "rectified" else ABTestConfig(quality_weight=0.8, feedback_weight=0.0)


JUDGED = (
    JudgedCase(name="equal"),
    JudgedCase(name="equal, the judge likes it +.05", likes=0.05),
    JudgedCase(name="10 % worse, the judge likes it +.10", change=-0.1, likes=0.1),
    JudgedCase(name="10 % better", change=0.1),
    JudgedCase(name="equal, +.05, the judge believed", likes=0.05, trust="unrectified"),
    JudgedCase(name="10 % worse, +.10, the judge believed", change=-0.1, likes=0.1, trust="unrectified"),
    JudgedCase(name="equal, its users vote on bad answers half as often", angry=0.5),
)


def simulate_judged(case: JudgedCase, runs: int, seed: int = 0) -> Outcome:
    """Run `runs` months of `case`; the same seeds give the same outcome."""
    return summarise([_run(case, seed + i) for i in range(runs)])


def _run(case: JudgedCase, seed: int) -> Trial:
    traffic = _with_habits(stream(case.world, seed), case, np.random.default_rng(seed + 1_000_000))
    book = JudgedBook(traffic, case, np.random.default_rng(seed + 2_000_000))
    verdict, hours, was_invalid = Verdict.CONTINUE, HOURS, False
    for hour in range(0, HOURS, _LOOK_EVERY_H):
        book.advance(hour, _LOOK_EVERY_H)
        verdict = evaluate(book.facts(), case.config, 3600.0 * (hour + _LOOK_EVERY_H)).verdict
        was_invalid |= verdict is Verdict.INVALID
        if verdict in _FINAL:
            hours = hour + _LOOK_EVERY_H
            break
    return Trial(verdict=verdict, hours=hours, was_invalid=was_invalid, naive_hours=None)


def _with_habits(traffic: Stream, case: JudgedCase, rng: np.random.Generator) -> Stream:
    """Some of the challenger's users keep their votes on bad answers to themselves."""
    silent = traffic.challenger[traffic.user] & ~traffic.positive & (rng.random(traffic.user.size) >= case.angry)
    return replace(traffic, voted_hour=np.where(silent, HOURS, traffic.voted_hour))


class JudgedBook(Book):
    """The books, with what the judge says and format checks without a defect."""

    def __init__(self, traffic: Stream, case: JudgedCase, rng: np.random.Generator) -> None:
        super().__init__(traffic, case.world)
        self._said = _said(traffic, case, rng)
        self._judge = JudgeFacts(scorer="simulated", counts=True, trust=case.trust)

    def facts(self) -> ExperimentFacts:
        """With a judge whose agreement is proven."""
        return replace(super().facts(), judge=self._judge)

    def _book_requests(self, new: Ints) -> None:
        super()._book_requests(new)
        t = self._traffic
        ok = new[~t.error[new] & ~t.refused[new]]
        user, one = t.user[ok], np.ones(ok.size)
        self._add(user, Metric.QUALITY, one, one)
        self._add(user, Metric.GIVEN, one, 0.0 * one)
        self._add(user, Metric.JUDGE, one, self._said[ok])

    def _book_votes(self, votes: Ints) -> None:
        super()._book_votes(votes)
        t = self._traffic
        judged = votes[~t.error[votes] & ~t.refused[votes]]
        self._add(t.user[judged], Metric.JUDGE_VOTED, np.ones(judged.size), self._said[judged])


def _said(traffic: Stream, case: JudgedCase, rng: np.random.Generator) -> Floats:
    good: Bools = traffic.positive
    right = rng.random(good.size) < np.where(good, _TRUE_GOOD, _TRUE_BAD)
    says_good = good == right
    served = traffic.challenger[traffic.user]
    mean = says_good[served].mean()
    swayed = served & ~says_good & (rng.random(good.size) < case.likes / (1.0 - mean))
    return (says_good | swayed).astype(np.float64)
