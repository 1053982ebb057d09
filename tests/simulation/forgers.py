"""The same month with somebody in it who forges: each of his addresses makes fresh users every day, and they vote.

He knows which model answered, and votes for the challenger: thumbs up for its answers, down for the champion's. What
counts as one unit of evidence is what differs: the name that a request claims, its cluster, or its cluster where a
promotion has to survive leaving out (policies/carriers.py). Honest users have an address each. The rule, the weights
and the choice of those left out are the product's; looks are taken every six hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from policies.assignment import assign
from policies.carriers import Carriers, Units
from policies.estimates import METRICS, Metric
from policies.experiment import ArmStats, ExperimentFacts, Verdict, evaluate, forgeable_weights
from policies.records import TESTED, Arm
from tests.simulation.traffic import HOURS, Floats, Ints, Stream, World, stream
from tests.simulation.trial import Book, config_for

__all__ = ["FRESH_KEYS", "VOTES_EACH", "Ending", "ForgedBook", "by_cluster", "by_user"]

FRESH_KEYS: Final = 20
"""New users that an address makes up every day."""
VOTES_EACH: Final = 5
_LOOK_EVERY_H: Final = 6
_FINAL: Final = (Verdict.PROMOTE, Verdict.ROLL_BACK, Verdict.REJECT)
_CHALLENGER: Final = int(Arm.CHALLENGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How one month went under one rule."""

    verdict: Verdict = Verdict.CONTINUE
    """CONTINUE where nothing was decided."""
    hours: int = HOURS

    @property
    def promoted(self) -> bool:
        return self.verdict is Verdict.PROMOTE


def by_user(world: World, addresses: int, seed: int, hours: int = HOURS) -> Ending:
    """So many hours with so many forging addresses, where every name that is claimed is a unit of evidence."""
    book = ForgedBook(world, addresses, seed, clusters=False)
    for now, facts in book.looks(hours):
        verdict = evaluate(facts, config_for(world), now).verdict
        if verdict in _FINAL:
            return Ending(verdict=verdict, hours=round(now / 3600))
    return Ending()


def by_cluster(world: World, addresses: int, seed: int, hours: int = HOURS) -> tuple[Ending, Ending]:
    """The same with clusters as units: where nobody is left out, and where a promotion has to survive it."""
    config, plain = config_for(world), Ending()
    book = ForgedBook(world, addresses, seed, clusters=True)
    for now, facts in book.looks(hours):
        verdict = evaluate(replace(facts, carriers=_nobody(facts)), config, now).verdict
        if verdict not in _FINAL:
            continue
        ending = Ending(verdict=verdict, hours=round(now / 3600))
        if plain.verdict is Verdict.CONTINUE:
            plain = ending
        if verdict is Verdict.PROMOTE:
            verdict = evaluate(replace(facts, carriers=book.carriers(facts)), config, now).verdict
        if verdict in _FINAL:
            return plain, replace(ending, verdict=verdict)
    return plain, Ending()


def _nobody(facts: ExperimentFacts) -> Carriers:
    """As if all were vouched for: nobody is left out, and nothing is held."""
    nothing = (0, 0)
    old, new = facts.champion.moments, facts.challenger.moments
    return Carriers(claimed=False, champion=old, challenger=new, units=nothing, left_out=nothing, voters=nothing,
                    claimed_voters_left=0)  # fmt: skip


class ForgedBook(Book):
    """The books of a month in which addresses forge. A row is a unit of evidence of one arm."""

    def __init__(self, world: World, addresses: int, seed: int, *, clusters: bool) -> None:
        honest = stream(world, seed)
        keys = _Keys.of(world, addresses, seed)
        self._clusters = clusters
        self._made_up_by_hour = [np.cumsum(np.bincount(keys.hour[keys.arm == arm], minlength=HOURS)) for arm in TESTED]
        self._hour = 0
        traffic = _joined(honest, keys, clusters=clusters)
        self._is_honest = np.arange(traffic.users) < honest.users
        super().__init__(traffic, world)

    def looks(self, hours: int) -> Iterator[tuple[float, ExperimentFacts]]:
        """Unix seconds and what is known then."""
        for hour in range(0, hours, _LOOK_EVERY_H):
            self.advance(hour, _LOOK_EVERY_H)
            self._hour = hour + _LOOK_EVERY_H - 1
            yield 3600.0 * (hour + _LOOK_EVERY_H), self.facts()

    @property
    def votes(self) -> int:
        """That have come in so far."""
        return int(self._n[:, METRICS.index(Metric.POSITIVE)].sum())

    def carriers(self, facts: ExperimentFacts) -> Carriers:
        """Both arms without those that carry the evidence, by the product's own choice."""
        weights = forgeable_weights(facts, config_for(self._world))
        clusters = facts.champion.clusters, facts.challenger.clusters
        units = Units(facts.evidence(), weights, clusters)
        voting = np.flatnonzero(self._n[:, METRICS.index(Metric.POSITIVE)])
        arms = self._traffic.challenger[voting].astype(int)
        for at, key, vector in zip(arms.tolist(), voting.tolist(), self._vectors(voting).tolist(), strict=True):
            units.add(at, key, {0: tuple(vector)}, claimed=True)
        return units.carriers()

    def _stats(self, arm: Arm) -> ArmStats:
        """All names are claimed, unless every name is taken for a user."""
        stats = super()._stats(arm)
        if not self._clusters:
            return stats
        seen = (self._n[:, METRICS.index(Metric.ERROR)] > 0) & (self._traffic.challenger == bool(arm))
        names = int(seen[self._is_honest].sum() + self._made_up_by_hour[arm][self._hour])
        return replace(stats, clusters=stats.moments.users, claimed_users=names)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The made-up users in order of their hour: whose they are, when they ask, and whom the split gives them."""

    address: Ints
    hour: Ints
    arm: Ints

    @classmethod
    def of(cls, world: World, addresses: int, seed: int) -> _Keys:
        rng = np.random.default_rng((seed, 1))
        count = HOURS // 24 * FRESH_KEYS
        salt = seed.to_bytes(8, "big")
        address = np.repeat(np.arange(addresses), count)
        day = np.tile(np.repeat(np.arange(HOURS // 24), FRESH_KEYS), addresses)
        hour = 24 * day + rng.integers(0, 24, address.size)
        arm = [int(assign(salt, b"made-up-%d" % key, world.share)) for key in range(address.size)]
        order = np.argsort(hour, kind="stable")
        return cls(address=address[order], hour=hour[order], arm=np.array(arm, dtype=np.int64)[order])

    def rows(self, first: int, *, clusters: bool) -> tuple[Ints, Ints]:
        """The row of each key, counted from `first`, and the arm of each row."""
        if not clusters:
            return first + np.arange(self.arm.size), self.arm
        addresses = int(self.address.max(initial=-1)) + 1
        return first + 2 * self.address + self.arm, np.tile(np.array([0, 1]), addresses)


def _joined(honest: Stream, keys: _Keys, *, clusters: bool) -> Stream:
    """Both in order of arrival. A forged request is answered as any other; its vote comes at once."""
    rng = np.random.default_rng((keys.arm.size, honest.user.size))
    row, arm_of_row = keys.rows(honest.users, clusters=clusters)
    user, hour = np.repeat(row, VOTES_EACH), np.repeat(keys.hour, VOTES_EACH)
    served = np.repeat(keys.arm == _CHALLENGER, VOTES_EACH)
    alike = rng.integers(0, honest.user.size, user.size)  # what the models give is as good for them as for others
    order = np.argsort(np.concatenate((honest.hour, hour)), kind="stable")

    def both(old: Floats | Ints, new: Floats | Ints) -> np.ndarray:  # type: ignore[type-arg]
        return np.concatenate((old, new))[order]

    return Stream(
        users=honest.users + arm_of_row.size,
        user=both(honest.user, user),
        hour=both(honest.hour, hour),
        challenger=np.concatenate((honest.challenger, arm_of_row == _CHALLENGER)),
        quality=both(honest.quality, honest.quality[alike]),
        positive=both(honest.positive, served),
        voted_hour=both(honest.voted_hour, hour),
        latency_s=both(honest.latency_s, honest.latency_s[alike]),
        error=both(honest.error, honest.error[alike]),
        refused=both(honest.refused, honest.refused[alike]),
    )
