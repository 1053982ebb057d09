"""Who carries the evidence: would it still stand without those whose votes pull most towards the challenger?

Votes are the one measure that a stranger makes up at will. Where nobody vouches for users' names the unit of evidence
is a cluster (a credential, a network), so that one machine counts once; but somebody who has a few of them is still a
few units. So a promotion has to survive leaving out: in each arm the votes of the units that pull θ most towards the
challenger are set to nothing, their other measures stay, and the e-value is taken again. A unit's pull is its
influence on θ through the votes: e/W₁ in the challenger's arm, −e/W₀ in the champion's (times what all units share),
with e = S − R·N. docs/statistics.md has the table of what this stops and what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappush, heappushpop, nlargest
from typing import Final, Self

from policies.estimates import METRICS, Metric, Moments, Vector, metric_mean, relative_change

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
    units: tuple[int, int]
    """How many could have been left out, voting or not."""
    left_out: tuple[int, int]
    voters: tuple[int, int]
    """Units of either kind with a vote."""
    claimed_voters_left: int
    """Claimed units that vote and were not left out, in both arms."""
    strongest: tuple[Carrier, ...] = ()
    """Of those left out."""


def left_out_of(units: int, *, claimed: bool) -> int:
    """How many of an arm's units are left out: one in a hundred, where they are claimed at least five."""
    return max(LEAST_LEFT_OUT if claimed else 0, math.ceil(_FRACTION * units))


class Units:
    """Takes both arms' voting units, one after the other in any order; keeps no more than are left out of them."""

    def __init__(self, champion: Moments, challenger: Moments, weights: Mapping[Metric, float],
                 clusters: tuple[int, int]) -> None:  # fmt: skip
        """`weights`: the metrics that can be forged, with their weight in the composite. `clusters`: how many units
        of each arm are claimed, voting or not."""
        self._weights = dict(weights)
        pulls = _Pulls.of(champion, challenger, weights)
        self._arms = [_Arm(moments, pulls, at, clusters[at]) for at, moments in enumerate((champion, challenger))]

    def add(self, arm: int, key: int, vector: Vector, *, claimed: bool) -> None:
        """A unit of the champion's (0) or the challenger's (1) arm that has votes: its keyed hash and its vector."""
        self._arms[arm].add(key, vector, claimed=claimed)

    def carriers(self) -> Carriers:
        """What is left of all that was added."""
        claimed = any(arm.claimed_voters for arm in self._arms)
        old, new = self._arms
        outs = [arm.top(claimed=claimed) for arm in self._arms]
        return Carriers(
            claimed=claimed,
            champion=_without(old.moments, outs[0], self._weights),
            challenger=_without(new.moments, outs[1], self._weights),
            units=(old.size(claimed=claimed), new.size(claimed=claimed)),
            left_out=(len(outs[0]), len(outs[1])),
            voters=(old.voters, new.voters),
            claimed_voters_left=sum(
                arm.claimed_voters - len(out) for arm, out in zip(self._arms, outs, strict=True) if claimed
            ),
            strongest=_named([*outs[0], *outs[1]], old.towards + new.towards),
        )


_Strong = tuple[float, int, Vector]
"""Pull, key, vector."""


@dataclass(frozen=True, slots=True)
class _Pulls:
    """What turns a unit's vector into its pull: per metric its row, and per arm R and the factor before e."""

    rows: tuple[tuple[int, tuple[float, float], tuple[float, float]], ...]

    @classmethod
    def of(cls, champion: Moments, challenger: Moments, weights: Mapping[Metric, float]) -> Self:
        rows = []
        for metric, weight in weights.items():
            old, new = metric_mean(champion, metric), metric_mean(challenger, metric)
            if not weight or old is None or new is None or relative_change(old, new) is None:
                continue
            loss = -weight * new.mean / old.mean**2 / old.observations
            gain = weight / old.mean / new.observations
            rows.append((2 * METRICS.index(metric), (old.mean, new.mean), (loss, gain)))
        return cls(tuple(rows))

    def of_unit(self, vector: Vector, arm: int) -> float:
        return sum(factors[arm] * (vector[row] - means[arm] * vector[row + 1]) for row, means, factors in self.rows)


class _Arm:
    """One arm's units so far: the strongest of the claimed ones, and of all."""

    def __init__(self, moments: Moments, pulls: _Pulls, at: int, clusters: int) -> None:
        self.moments = moments
        self.voters = self.claimed_voters = 0
        self._pulls, self._at, self._clusters = pulls, at, clusters
        self.towards = 0.0
        self._strongest: dict[bool, list[_Strong]] = {True: [], False: []}

    def size(self, *, claimed: bool) -> int:
        return self._clusters if claimed else self.moments.users

    def add(self, key: int, vector: Vector, *, claimed: bool) -> None:
        unit = self._pulls.of_unit(vector, self._at), key, vector
        self.voters += 1
        self.towards += max(unit[0], 0.0)
        self._keep(unit, claimed=False)
        if claimed:
            self.claimed_voters += 1
            self._keep(unit, claimed=True)

    def top(self, *, claimed: bool) -> list[_Strong]:
        """Strongest first."""
        return sorted(self._strongest[claimed], reverse=True)

    def _keep(self, unit: _Strong, *, claimed: bool) -> None:
        heap = self._strongest[claimed]
        if unit[0] <= 0.0:
            return  # without its votes the challenger would only look better
        if len(heap) < left_out_of(self.size(claimed=claimed), claimed=claimed):
            heappush(heap, unit)
        else:
            heappushpop(heap, unit)


def _named(out: Iterable[_Strong], towards: float) -> tuple[Carrier, ...]:
    return tuple(
        Carrier(unit=f"{key & 0xFFFF_FFFF_FFFF_FFFF:016x}", share=pull / towards)
        for pull, key, _ in nlargest(_SHOWN, out)
        if pull > 0.0
    )


def _without(moments: Moments, out: Iterable[_Strong], metrics: Iterable[Metric]) -> Moments:
    """The arm's moments with these units' votes set to nothing."""
    gone = {2 * METRICS.index(metric) + side for metric in metrics for side in (0, 1)}
    for _, _, vector in out:
        silent = tuple(0.0 if at in gone else value for at, value in enumerate(vector))
        moments = moments.replaced(vector, silent)
    return moments
