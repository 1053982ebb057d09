"""What decisions read of a test: the sums of both arms in each stage, and by tag; whether the judge counts; and who
carries the evidence.

Who carries it is asked where a promotion hangs on nothing else, of all units that have voted. And whether those whose
users nobody vouches for come from one place: then that place is no client.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest
from typing import Final

from policies.agreement import counts_as_judge
from policies.carriers import Carriers, Units
from policies.estimates import Metric, UserTotals
from policies.experiment import ABTestConfig, ExperimentFacts, StageFacts, forgeable_weights, would_promote
from policies.facts import JudgeFacts, TagFacts
from policies.past import PastVector
from policies.ramp import planned_shares, set_by_hand
from policies.records import Arm
from policies.rows import Experiment, ExperimentStage
from policies.wording import many, percent
from proxy.clock import Clock
from proxy.store.ingest.facts import Terms
from proxy.store.store import Store

__all__ = ["EvidenceReader", "Pasts", "Voters", "carriers_of", "forgeable"]

Voters = AsyncIterable[tuple[Arm, int, Mapping[int, UserTotals], bool]]
"""Units of evidence: arm, keyed hash, totals by the place of the stage, and whether nobody vouches for them."""
Pasts = Callable[[Sequence[int]], Awaitable[Mapping[int, PastVector]]]
"""What units did before the experiment, of those that have a past."""
_READ_FOR_S: Final = 60.0
_TIMES_ITS_READING: Final = 100.0
"""So much longer than it took a reading of all voters is used: it costs one part in a hundred of the time at most."""
_TAGS: Final = 20
"""As many as can have 5 % of the requests, where there is one name; with more names each has fewer values."""
_NEWEST: Final = 2000
"""Records that are asked where they came from."""
_ENOUGH_CLAIMED: Final = 200
_NEARLY_ALL: Final = 0.9


def forgeable(
    facts: ExperimentFacts, config: ABTestConfig, now: float, *, open_scores: bool = False
) -> dict[Metric, float]:
    """The metrics, with their weights, on whose forgery a promotion at `now` (Unix seconds) would hang; empty where
    there is none to come. `open_scores`: anybody may give an answer its score, too."""
    weights = forgeable_weights(facts, config, scores=open_scores)
    return weights if any(weights.values()) and would_promote(facts, config, now) else {}


async def carriers_of(
    facts: ExperimentFacts, voters: Voters, weights: dict[Metric, float], icc: float, pasts: Pasts | None = None
) -> Carriers:
    """Read them all. `voters` have an observation of one of the metrics in `weights`. `pasts` finds the past of those
    that are left out, where the estimate is adjusted by it."""
    stages = facts.stages
    clusters = max(stage.champion.clusters for stage in stages), max(stage.challenger.clusters for stage in stages)
    units = Units(facts.evidence(icc), weights, clusters)
    async for arm, key, by_stage, claimed in voters:
        vectors = {stage: totals.vector(icc) for stage, totals in by_stage.items()}
        units.add(0 if arm is Arm.CHAMPION else 1, key, vectors, claimed=claimed)
    return units.carriers(await pasts(sorted(units.left_out())) if pasts is not None else None)


@dataclass(slots=True, kw_only=True)
class EvidenceReader:
    """Asks the store, and remembers the answers for a minute at most."""

    store: Store
    clock: Clock
    ab_test: ABTestConfig
    open_scores: bool = False
    """Whether anybody may give an answer its score: then scores can be forged as votes can."""
    judge: JudgeFacts | None = None
    """The judge of the settings; None: there is none."""
    _carriers: dict[tuple[int, int], tuple[float, Carriers]] = field(default_factory=dict)
    """By experiment and epoch, with the monotonic time until which the reading will do."""
    _clusters: Counter[int] = field(default_factory=Counter)
    _clusters_at: float = -math.inf
    _judge_counts: tuple[float, bool] = (-math.inf, False)
    """With the monotonic time of the reading."""

    async def judged(self) -> JudgeFacts | None:
        """The judge, and whether it counts; None without one."""
        if self.judge is None:
            return None
        read_at, counts = self._judge_counts
        if not self._is_fresh(read_at):
            counts = counts_as_judge(await self.store.judgements.agreement(self.judge.scorer))
            self._judge_counts = (self.clock.monotonic(), counts)
        return replace(self.judge, counts=counts)

    async def facts(self, row: Experiment) -> ExperimentFacts:
        """Everything but who carries it."""
        stages = [await self._stage(row, stage) for stage in row.stages]
        current = stages[-1]
        return ExperimentFacts(
            started_at=row.started_us / 1e6,
            epoch_started_at=current.started_at,
            share=current.share,
            champion=current.champion,
            challenger=current.challenger,
            tags=current.tags,
            earlier=tuple(stages[:-1]),
            planned=tuple(share for share in planned_shares(self.ab_test) if share > current.share),
            set_by_hand=set_by_hand(row, self.ab_test),
            slow_threshold_s=row.frozen.get("l95_s"),
            judge=await self.judged(),
        )

    async def _stage(self, row: Experiment, stage: ExperimentStage) -> StageFacts:
        arms = await self.store.statistics.arms(row.id, stage.epoch)
        return StageFacts(
            started_at=stage.started_us / 1e6,
            share=stage.share,
            champion=arms[Arm.CHAMPION],
            challenger=arms[Arm.CHALLENGER],
            tags=await self._tags(row.id, stage.epoch),
        )

    async def _tags(self, experiment_id: int, epoch: int) -> dict[str, TagFacts]:
        """Both arms by tag, of the tags with the most requests: each is written down with every decision."""
        found = await self.store.statistics.tags(experiment_id, epoch)
        facts = {tag: TagFacts(champion=a[Arm.CHAMPION], challenger=a[Arm.CHALLENGER]) for tag, a in found.items()}
        most = nlargest(_TAGS, facts, key=lambda tag: facts[tag].champion.requests + facts[tag].challenger.requests)
        return {tag: facts[tag] for tag in most}

    async def carriers(self, row: Experiment, facts: ExperimentFacts) -> Carriers | None:
        """Who carries it, where a promotion hangs on nothing else. All units that have voted are read for it: where
        that takes long, what was read a while ago will do while it waits. It cannot let anything pass that it held."""
        weights = forgeable(facts, self.ab_test, self.clock.now(), open_scores=self.open_scores)
        if not weights:
            return None
        key = row.id, row.epoch
        good_until, carriers = self._carriers.get(key, (-math.inf, None))
        began = self.clock.monotonic()
        if carriers is None or began >= good_until:
            epochs = [stage.epoch for stage in row.stages]
            voters = self.store.statistics.voters(row.id, epochs, tuple(weights))
            icc = Terms.of(row.frozen).icc
            pasts = partial(self.store.pasts.of, row.id, icc=icc)
            carriers = await carriers_of(facts, voters, weights, icc, pasts if facts.champion.past else None)
            ended = self.clock.monotonic()
            self._carriers = {key: (ended + min(_READ_FOR_S, _TIMES_ITS_READING * (ended - began)), carriers)}
        return carriers

    async def note(self) -> str | None:
        """In words, where nearly all requests whose users nobody vouches for come from one place."""
        if not self._is_fresh(self._clusters_at):
            self._clusters = await self.store.records.claimed_clusters(_NEWEST)
            self._clusters_at = self.clock.monotonic()
        claimed = self._clusters.total()
        if claimed < _ENOUGH_CLAIMED:
            return None
        [(cluster, most)] = self._clusters.most_common(1)
        if most < _NEARLY_ALL * claimed:
            return None
        place = f"one cluster ({cluster & 0xFFFF_FFFF_FFFF_FFFF:016x})" if cluster else "unknown addresses"
        return (
            f"{percent(most / claimed)} of the latest {many(claimed)} requests of unverified users came from "
            f"{place}, and count as one user; if it is your own backend or load balancer, add its network to "
            "sticky.trusted_networks, or have it send sticky.token as x-ratchet-token"
        )

    def _is_fresh(self, read_at: float) -> bool:
        return 0.0 <= self.clock.monotonic() - read_at < _READ_FOR_S
