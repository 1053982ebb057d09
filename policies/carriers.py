"""Who carries the evidence: would it still stand without those whose votes pull most towards the challenger?

Votes are the one measure that a stranger makes up at will. Where nobody vouches for users' names the unit of evidence
is a cluster (a credential, a network), so that one machine counts once; but somebody who has a few of them is still a
few units. So a promotion has to survive leaving out: in each arm the votes of the units that pull θ most towards the
challenger are set to nothing, their other measures stay, and the e-value is taken again. A unit's pull is its
influence on θ through the votes: e/W₁ in the challenger's arm, −e/W₀ in the champion's (times what all units share),
with e = S − R·N. Where the estimate is adjusted by the users' past, those left out keep theirs: it was there before the
arms were, and nobody can forge it for one of them. docs/statistics.md has the table of what this stops, and what it
costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappush, heappushpop, nlargest
from typing import Final, NamedTuple, Self

from policies.estimates import DEFAULT_ICC, METRICS, Metric, Moments, Vector
from policies.past import PastMoments, PastVector
from policies.stages import Stage, Stages, weighted_terms

__all__ = ["LEAST_LEFT_OUT", "LEAST_VOTERS", "Carrier", "Carriers", "Units", "left_out_of"]

LEAST_LEFT_OUT: Final = 5
"""So many claimed units of an arm are left out at least."""
LEAST_VOTERS: Final = 30
"""With fewer voting units in an arm, what is left after leaving some out proves nothing."""
_FRACTION: Final = 0.01
_SHOWN: Final = 3
"""Carriers named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """One of those left out."""

    unit: str
    """Its keyed hash, 16 hexadecimal digits."""
    share: float
    """Of all that pulls towards the challenger, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriers:
    """Both arms without those that carry the evidence, and who they are. Pairs are (champion's arm, challenger's)."""

    claimed: bool
    """Claimed units have voted: only such were left out, and a promotion has to survive it."""
    champion: Moments
    challenger: Moments
    """In the stage that runs."""
    units: tuple[int, int]
    """How many could have been left out, voting or not."""
    left_out: tuple[int, int]
    voters: tuple[int, int]
    """Units of either kind with a vote."""
    claimed_voters_left: int
    """Claimed units that vote and were not left out, in both arms."""
    strongest: tuple[Carrier, ...] = ()
    """Of those left out."""
    earlier: tuple[tuple[Moments, Moments], ...] = ()
    """The same in the stages before."""
    pasts: tuple[tuple[PastMoments | None, PastMoments | None], ...] = ()
    """What the users did before the test, of all stages; empty where that is not used."""

    def evidence(self, shares: Sequence[float], icc: float = DEFAULT_ICC) -> Stages:
        """What is left to compare, with the shares of all stages. ValueError when they are more or fewer."""
        arms = (*self.earlier, (self.champion, self.challenger))
        pasts = self.pasts or ((None, None),) * len(arms)
        stages = (
            Stage(share=share, champion=old, challenger=new, champion_past=old_past, challenger_past=new_past)
            for share, (old, new), (old_past, new_past) in zip(shares, arms, pasts, strict=True)
        )
        return Stages(tuple(stages), icc)


def left_out_of(units: int, *, claimed: bool) -> int:
    """How many of an arm's units are left out: one in a hundred, where they are claimed at least five."""
    return max(LEAST_LEFT_OUT if claimed else 0, math.ceil(_FRACTION * units))


class Units:
    """Takes both arms' voting units, one after the other in any order; keeps no more than are left out of them."""

    def __init__(self, stages: Stages, weights: Mapping[Metric, float], clusters: tuple[int, int]) -> None:
        """`weights`: the metrics that can be forged, with their weight in the composite. `clusters`: how many units
        of each arm are claimed, voting or not."""
        self._stages, self._weights = stages, dict(weights)
        pulls = _Pulls.of(stages, weights)
        sizes = [
            max(stage.champion.users for stage in stages.parts),
            max(stage.challenger.users for stage in stages.parts),
        ]
        self._arms = [_Arm(pulls, at, size, clusters[at]) for at, size in enumerate(sizes)]

    def add(self, arm: int, key: int, vectors: Mapping[int, Vector], *, claimed: bool) -> None:
        """A unit of the champion's (0) or the challenger's (1) arm that has votes: its keyed hash, and its vector in
        each stage, by the stage's place, in which it came."""
        self._arms[arm].add(key, vectors, claimed=claimed)

    def left_out(self) -> set[int]:
        """The keys of those that are left out, of all that were added."""
        claimed = any(arm.claimed_voters for arm in self._arms)
        return {key for arm in self._arms for _, key, _ in arm.top(claimed=claimed)}

    def carriers(self, pasts: Mapping[int, PastVector] | None = None) -> Carriers:
        """What is left of all that was added. `pasts`: of the units that are left out, where the stages have a past."""
        claimed = any(arm.claimed_voters for arm in self._arms)
        old, new = self._arms
        outs = [arm.top(claimed=claimed) for arm in self._arms]
        left = [
            (
                _without(stage.champion, outs[0], at, self._weights),
                _without(stage.challenger, outs[1], at, self._weights),
            )
            for at, stage in enumerate(self._stages.parts)
        ]
        return Carriers(
            claimed=claimed,
            champion=left[-1][0],
            challenger=left[-1][1],
            units=(old.size(claimed=claimed), new.size(claimed=claimed)),
            left_out=(len(outs[0]), len(outs[1])),
            voters=(old.voters, new.voters),
            claimed_voters_left=sum(
                arm.claimed_voters - len(out) for arm, out in zip(self._arms, outs, strict=True) if claimed
            ),
            strongest=_named([*outs[0], *outs[1]], old.towards + new.towards),
            earlier=tuple(left[:-1]),
            pasts=tuple(
                (
                    _past_without(stage.champion_past, outs[0], at, self._weights, pasts or {}),
                    _past_without(stage.challenger_past, outs[1], at, self._weights, pasts or {}),
                )
                for at, stage in enumerate(self._stages.parts)
            ),
        )


_Strong = tuple[float, int, Mapping[int, Vector]]
"""Pull, key, vectors by stage."""


class _Pull(NamedTuple):
    """What turns a unit's numbers of one metric in one stage into its pull: per arm R and the factor before e."""

    stage: int
    row: int
    means: tuple[float, float]
    factors: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Pulls:
    """Of all metrics and stages."""

    of_metrics: tuple[_Pull, ...]

    @classmethod
    def of(cls, stages: Stages, weights: Mapping[Metric, float]) -> Self:
        pulls = []
        for metric, weight in weights.items():
            found = weighted_terms(stages, {metric: weight})
            for term in found[1] if found is not None else ():
                factors = -term.loss / term.old.observations, term.gain / term.new.observations
                row = 2 * METRICS.index(metric)
                pulls.append(_Pull(term.stage, row, (term.old.mean, term.new.mean), factors))
        return cls(tuple(pulls))

    def of_unit(self, vectors: Mapping[int, Vector], arm: int) -> float:
        return sum(
            pull.factors[arm] * (vector[pull.row] - pull.means[arm] * vector[pull.row + 1])
            for pull in self.of_metrics
            if (vector := vectors.get(pull.stage)) is not None
        )


class _Arm:
    """One arm's units so far: the strongest of the claimed ones, and of all."""

    def __init__(self, pulls: _Pulls, at: int, users: int, clusters: int) -> None:
        self.voters = self.claimed_voters = 0
        self._pulls, self._at, self._users, self._clusters = pulls, at, users, clusters
        self.towards = 0.0
        self._strongest: dict[bool, list[_Strong]] = {True: [], False: []}

    def size(self, *, claimed: bool) -> int:
        return self._clusters if claimed else self._users

    def add(self, key: int, vectors: Mapping[int, Vector], *, claimed: bool) -> None:
        unit = self._pulls.of_unit(vectors, self._at), key, vectors
        self.voters += 1
        self.towards += max(unit[0], 0.0)
        self._keep(unit, claimed=False)
        if claimed:
            self.claimed_voters += 1
            self._keep(unit, claimed=True)

    def top(self, *, claimed: bool) -> list[_Strong]:
        """Strongest first."""
        return sorted(self._strongest[claimed], key=_pull_and_key, reverse=True)

    def _keep(self, unit: _Strong, *, claimed: bool) -> None:
        heap = self._strongest[claimed]
        if unit[0] <= 0.0:
            return  # without its votes the challenger would only look better
        if len(heap) < left_out_of(self.size(claimed=claimed), claimed=claimed):
            heappush(heap, unit)
        else:
            heappushpop(heap, unit)


def _pull_and_key(unit: _Strong) -> tuple[float, int]:
    return unit[:2]


def _named(out: Iterable[_Strong], towards: float) -> tuple[Carrier, ...]:
    return tuple(
        Carrier(unit=f"{key & 0xFFFF_FFFF_FFFF_FFFF:016x}", share=pull / towards)
        for pull, key, _ in nlargest(_SHOWN, out, key=_pull_and_key)
        if pull > 0.0
    )


def _without(moments: Moments, out: Iterable[_Strong], stage: int, metrics: Iterable[Metric]) -> Moments:
    """An arm's moments in a stage with these units' votes set to nothing."""
    for _, _, vectors in out:
        if (vector := vectors.get(stage)) is not None:
            moments = moments.replaced(vector, _silent(vector, metrics))
    return moments


def _past_without(
    past: PastMoments | None,
    out: Iterable[_Strong],
    stage: int,
    metrics: Iterable[Metric],
    pasts: Mapping[int, PastVector],
) -> PastMoments | None:
    """The same of the sums of pasts: each unit's stays, and goes with what is left of what it did."""
    for _, key, vectors in out:
        if past is not None and key in pasts and (vector := vectors.get(stage)) is not None:
            past = past.replaced(pasts[key], vector, _silent(vector, metrics))
    return past


def _silent(vector: Vector, metrics: Iterable[Metric]) -> Vector:
    gone = {2 * METRICS.index(metric) + side for metric in metrics for side in (0, 1)}
    return tuple(0.0 if at in gone else value for at, value in enumerate(vector))
