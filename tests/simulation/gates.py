"""The gate on simulated answers: judges' scores, judges' preferences, a golden file. Fixed seeds, nothing is awaited.

`python -m tests.simulation.gates` prints the table of docs/how-to/gate.md with as many runs as `--runs` says.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Final

from policies.gate import PAIRS, SCORES, GateVerdict, GoldenCase, Rule, Side, gate, golden, pair_outcome

MEAN: Final = 0.7
SPREAD: Final = 0.25
"""Of the scores of good answers, as in the traffic that the product's other simulations have."""
PASSES: Final = 0.9
"""Golden cases that the champion passes."""
FLIPS: Final = 0.04
"""Cases that come out otherwise when the same model is asked again."""
OBVIOUS: Final = 0.85
"""How often even a poor judge sees that an answer is spoiled."""
Draw = Callable[[random.Random], Iterator[float]]


@dataclass(frozen=True, slots=True)
class Rates:
    """How often it ended how, of all runs, and what that took."""

    rejected: float
    passed: float
    undecided: float
    replays: float


def rates(draw: Draw, rule: Rule, runs: int, seed: int = 1) -> Rates:
    """Run the gate `runs` times, each on fresh users."""
    looks = [gate(draw(random.Random(f"{seed}:{run}")), rule) for run in range(runs)]
    share = {verdict: sum(look.verdict is verdict for look in looks) / runs for verdict in GateVerdict}
    return Rates(
        rejected=share[GateVerdict.REJECT],
        passed=share[GateVerdict.PASS],
        undecided=share[GateVerdict.UNDECIDED],
        replays=sum(look.used for look in looks) / runs,
    )


def scores(rho: float, *, lift: float = 0.0, spoiled: float = 0.0, leans: float = 0.0) -> Draw:
    """Differences of scores of two answers to one question, whose correlation is `rho`.

    `lift`: what the challenger's score is better, relatively; `spoiled`: share of its answers that are worth nothing;
    `leans`: what the judge adds to each of them.
    """

    def draw(rng: random.Random) -> Iterator[float]:
        while True:
            shared = sqrt(rho) * rng.gauss()
            one, other = (_score(shared + sqrt(1 - rho) * rng.gauss()) for _ in range(2))
            answered = 0.0 if rng.random() < spoiled else other * (1 + lift)
            yield min(1.0, answered + leans) - one

    return draw


def _score(z: float) -> float:
    return min(1.0, max(0.0, MEAN + SPREAD * z))


def pairs(right: float, *, better: float = 0.5, spoiled: float = 0.0, leans: float = 0.0) -> Draw:
    """Preferences of a judge who is `right` with that chance in each order, as X.

    `better`: share of questions that the challenger answers better; where it is `spoiled` it does not, and that is
    obvious; `leans`: what the chance that the judge names the challenger is higher, in each order.
    """

    def draw(rng: random.Random) -> Iterator[float]:
        while True:
            if rng.random() < spoiled:
                says_it = 1 - max(right, OBVIOUS)
            else:
                says_it = right if rng.random() < better else 1 - right
            says_it += leans
            first, second = (_side(rng.random() < says_it) for _ in range(2))
            yield pair_outcome(first, second)

    return draw


def _side(challenger: bool) -> Side:
    return "challenger" if challenger else "champion"


def golden_rejected(tags: int, each: int, *, spoiled: float = 0.0, dead_tag: bool = False, runs: int) -> float:
    """How often a golden file of `tags` tags with `each` cases rejects."""
    rejected = 0
    for run in range(runs):
        rng = random.Random(run)
        cases = []
        for tag in range(tags):
            for _ in range(each):
                passes = rng.random() < PASSES
                answers = [passes ^ (rng.random() < FLIPS) for _ in range(2)]
                broken = (dead_tag and tag == 0) or rng.random() < spoiled
                cases.append(GoldenCase(answers[0], answers[1] and not broken, (f"t{tag}",)))
        rejected += any(group.worse for group in golden(cases))
    return rejected / runs


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what is simulated, and how often it may be rejected and passed (lowest, highest)."""

    name: str
    draw: Draw
    rule: Rule
    rejected: tuple[float, float]
    passed: tuple[float, float]


ROWS: Final = (
    Row("scores, equal, ρ .3", scores(0.3), SCORES, (0.0, 0.05), (0.95, 1.0)),
    Row("scores, equal, ρ .5", scores(0.5), SCORES, (0.0, 0.05), (0.95, 1.0)),
    Row("scores, 5 % worse, ρ .3", scores(0.3, lift=-0.05), SCORES, (0.4, 0.7), (0.1, 0.4)),
    Row("scores, 5 % better, ρ .3", scores(0.3, lift=0.05), SCORES, (0.0, 0.005), (0.99, 1.0)),
    Row("scores, 20 % spoiled, ρ .3", scores(0.3, spoiled=0.2), SCORES, (0.99, 1.0), (0.0, 0.0)),
    Row("scores, 20 % spoiled, ρ .5", scores(0.5, spoiled=0.2), SCORES, (0.99, 1.0), (0.0, 0.0)),
    Row("the same, the judge adds .07", scores(0.5, spoiled=0.2, leans=0.07), SCORES, (0.6, 1.0), (0.0, 0.03)),
    Row("scores, 5 % worse, the judge adds .07", scores(0.5, lift=-0.05, leans=0.07), SCORES, (0.0, 0.0), (0.97, 1.0)),
    Row("pairs, equal, judge right 65 %", pairs(0.65), PAIRS, (0.0, 0.05), (0.65, 0.85)),
    Row("pairs, equal, judge right 80 %", pairs(0.80), PAIRS, (0.0, 0.05), (0.5, 0.75)),
    Row("pairs, 20 % spoiled, judge right 65 %", pairs(0.65, spoiled=0.2), PAIRS, (0.93, 1.0), (0.0, 0.01)),
    Row("pairs, 20 % spoiled, judge right 80 %", pairs(0.80, spoiled=0.2), PAIRS, (0.98, 1.0), (0.0, 0.01)),
    Row("pairs, truth 40 : 60, judge right 80 %", pairs(0.80, better=0.4), PAIRS, (0.85, 1.0), (0.0, 0.01)),
    Row("pairs, at the limit, judge right 80 %", pairs(0.80, better=0.5 - 0.1 / 1.2), PAIRS, (0.65, 0.95), (0.0, 0.01)),
    Row("pairs, 20 % spoiled, each order leans to it by .05", pairs(0.65, spoiled=0.2, leans=0.05), PAIRS,
        (0.0, 0.2), (0.3, 0.6)),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.gates", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    print("| | rejected | passed | undecided | replays |\n|---|--:|--:|--:|--:|")
    for row in ROWS:
        found = rates(row.draw, row.rule, runs)
        percent = [f"{share:.1%}" for share in (found.rejected, found.passed, found.undecided)]
        print(f"| {row.name} | {' | '.join(percent)} | {found.replays:.0f} |")
    for tags, each in ((4, 25), (8, 25), (8, 50)):
        equal, few, many = (golden_rejected(tags, each, spoiled=share, runs=runs) for share in (0.0, 0.05, 0.2))
        dead = golden_rejected(tags, each, dead_tag=True, runs=runs)
        print(f"| golden, {tags} × {each}: equal, 5 %, 20 % spoiled, a dead tag |"
              f" {equal:.1%}, {few:.1%}, {many:.1%}, {dead:.1%} | – | – | {tags * each} |")  # fmt: skip


if __name__ == "__main__":
    main()
