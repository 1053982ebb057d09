"""The gate's operating characteristics in short, fixed seeds; in long with RATCHET_FULL=1."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any, Final

import pytest

from policies.comparison import Answer, AskedQuestion, compare
from policies.gate import SCORES, GateVerdict, gate
from policies.scoring import ScoringConfig
from tests.harness.exchanges import sentences
from tests.harness.require import FULL
from tests.simulation.gates import ROWS, Row, golden_rejected, rates, scores

RUNS = 4000 if FULL else 200

pytestmark = pytest.mark.slow


def _within(share: float, bounds: tuple[float, float]) -> bool:
    """Up to three standard errors of what the bound itself would give, or two runs: a share of few runs is a guess."""
    low, high = bounds

    def slack(bound: float) -> float:
        return max(3 * sqrt(bound * (1 - bound) / RUNS), 2 / RUNS)

    return low - slack(low) <= share <= high + slack(high)


@pytest.mark.timeout(1800 if FULL else 300)
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_gate_errs_as_seldom_as_it_says(row: Row) -> None:
    found = rates(row.draw, row.rule, RUNS)
    assert _within(found.rejected, row.rejected), found
    assert _within(found.passed, row.passed), found


@pytest.mark.parametrize(("tags", "each", "finds"), [(4, 25, 0.9), (8, 25, 0.98), (8, 50, 0.99)])
def test_a_golden_file_errs_as_seldom_as_it_says(tags: int, each: int, finds: float) -> None:
    assert golden_rejected(tags, each, runs=RUNS) <= 0.05
    assert _within(golden_rejected(tags, each, spoiled=0.2, runs=RUNS), (finds, 1.0))
    assert golden_rejected(tags, each, dead_tag=True, runs=RUNS) >= 0.99


def test_prompts_that_were_chosen_by_their_score_reject_an_equal_challenger() -> None:
    """The control, and why prompts are never chosen by what is known of their answers: the champion's luck is kept."""

    def chosen(run: int) -> list[float]:
        rng, out = random.Random(run), []
        while len(out) < SCORES.n_max:
            one, other = (min(1.0, max(0.0, rng.gauss(0.7, 0.25))) for _ in range(2))
            if one >= 0.7:
                out.append(other - one)
        return out

    assert all(gate(chosen(run), SCORES).verdict == "reject" for run in range(20))
    assert rates(scores(0.3), SCORES, 20).rejected <= 0.05


def _as(text: str, **more: Any) -> Answer:
    return Answer(text=text, words=text, **more)


KINDS: Final[dict[str, Callable[[str, random.Random], Answer]]] = {
    "equal": lambda good, rng: _as(good),
    "a fifth empty": lambda good, rng: _as("" if rng.random() < 0.2 else good),
    "flattened calls": lambda good, rng: _as('<tool_call>{"name": "weather"}</tool_call>', malformed=True),
    "swapped roles": lambda good, rng: _as(f"How do I {good[:40].rstrip('.:;!')}?"),
    "broken template": lambda good, rng: _as(f"{good}\nHuman: And then?"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_visible_suffices_for_broken_models(kind: str) -> None:
    """The very look at answers that the gate has, at English texts: equal passes, broken is stopped, every time."""
    runs, pool = 100 if FULL else 25, sentences()
    verdicts = []
    for run in range(runs):
        rng = random.Random(f"{kind}:{run}")

        def outcomes(rng: random.Random = rng) -> Iterator[float]:
            while True:
                asked, one, other = (" ".join(rng.sample(pool, 2)) for _ in range(3))
                champion, challenger = _as(one), KINDS[kind](other, rng)
                yield compare(AskedQuestion(text=asked), champion, challenger, ScoringConfig()).outcome

        verdicts.append(gate(outcomes(), SCORES).verdict)
    wanted = GateVerdict.PASS if kind == "equal" else GateVerdict.REJECT
    assert verdicts.count(wanted) >= (0.92 if kind == "equal" else 0.99) * runs
