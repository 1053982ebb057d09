"""What a challenger comes to that has to pass the gate before its share rises.

The gate asks a judge about the answers of past prompts (scores, correlation 0.3) and may reject; whatever else it says,
all stages of the ramp follow. Nothing that passes is promoted sooner for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from policies.experiment import Verdict
from policies.gate import SCORES, GateVerdict, gate
from tests.simulation.gates import scores
from tests.simulation.ramp import Ending, simulate_month
from tests.simulation.ramps import CHALLENGERS, Cell

__all__ = ["Passed", "sequence", "simulate_sequence", "stopped_by_the_gate"]

_LIFTS = {"same": 0.0, "+5 %": 0.0625, "+10 %": 0.125, "worse": -0.0625}
"""What a judge sees of them: quality and thumbs carry 0.8 of the gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Shares of the months."""

    runs: int
    stopped: float
    """By the gate."""
    promoted: float
    rolled_back: float


def stopped_by_the_gate(challenger: str, seed: int) -> bool:
    """Whether a judge's look at past prompts rejects it. An error is an answer that is worth nothing."""
    spoiled = CHALLENGERS[challenger].get("error_rate", 0.0)
    draw = scores(0.3, lift=_LIFTS.get(challenger, 0.0), spoiled=spoiled)
    return gate(draw(random.Random(f"gate:{seed}")), SCORES).verdict is GateVerdict.REJECT


def simulate_sequence(cell: Cell, challenger: str, seeds: Iterable[int]) -> Passed:
    """One month a seed, after its gate."""
    world = cell.world(challenger)
    months = [
        None if stopped_by_the_gate(challenger, seed) else simulate_month(world, seed, claimed=False).plain
        for seed in seeds
    ]
    return sequence(months)


def sequence(months: list[Ending | None]) -> Passed:
    """Count them; None: the gate stopped it."""

    def share(verdict: Verdict) -> float:
        return sum(month is not None and month.verdict is verdict for month in months) / len(months)

    return Passed(
        runs=len(months),
        stopped=sum(month is None for month in months) / len(months),
        promoted=share(Verdict.PROMOTE),
        rolled_back=share(Verdict.ROLL_BACK),
    )
