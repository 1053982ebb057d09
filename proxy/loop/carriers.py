"""Who carries the evidence of a test: asked where a promotion hangs on nothing else, of all units that have voted."""

from __future__ import annotations

from collections.abc import AsyncIterable

from policies.carriers import Carriers, Units
from policies.estimates import Metric, UserTotals
from policies.experiment import ABTestConfig, ExperimentFacts, forgeable_weights, would_promote
from policies.records import Arm

__all__ = ["Voters", "carriers_of", "forgeable"]

Voters = AsyncIterable[tuple[Arm, int, UserTotals, bool]]
"""Units of evidence: arm, keyed hash, totals, and whether nobody vouches for them."""


def forgeable(
    facts: ExperimentFacts, config: ABTestConfig, now: float, *, open_scores: bool = False
) -> dict[Metric, float]:
    """The metrics, with their weights, on whose forgery a promotion at `now` (Unix seconds) would hang; empty where
    there is none to come. `open_scores`: anybody may give an answer its score, too."""
    weights = {metric: weight for metric, weight in forgeable_weights(config, scores=open_scores).items() if weight}
    return weights if weights and would_promote(facts, config, now) else {}


async def carriers_of(facts: ExperimentFacts, voters: Voters, weights: dict[Metric, float], icc: float) -> Carriers:
    """Read them all. `voters` have an observation of one of the metrics in `weights`."""
    champion, challenger = facts.champion, facts.challenger
    units = Units(champion.moments, challenger.moments, weights, (champion.clusters, challenger.clusters))
    async for arm, key, totals, claimed in voters:
        units.add(0 if arm is Arm.CHAMPION else 1, key, totals.vector(icc), claimed=claimed)
    return units.carriers()
