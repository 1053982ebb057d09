"""`python -m tests.bench.decisions`: what one update and one look cost, in CPU time of this process.

Targets: an update (old vector, new vector, moments) under 20 µs, a look (`evaluate`) under 1 ms, on an idle core. The
smallest of several rounds is printed, because a busy machine only ever adds.
"""

from __future__ import annotations

from collections.abc import Callable
from time import process_time

from policies.estimates import UserTotals, moments_delta
from policies.experiment import ABTestConfig, evaluate
from policies.records import Arm
from policies.triggers import DropDetector
from tests.harness.arms import HOUR, MIXED, arm_stats, facts, scaled

ROUNDS, CALLS = 20, 200


def main() -> None:
    old = UserTotals(n=(3.0,) * 6, s=(2.0,) * 6)
    before, after = old.vector(), old.plus(UserTotals(n=(1.0,) * 6, s=(0.5,) * 6)).vector()
    champion = arm_stats(Arm.CHAMPION, 900)
    same, better = (arm_stats(Arm.CHALLENGER, 100, quality=scaled(MIXED, factor)) for factor in (1.0, 1.2))
    config, detector, means = ABTestConfig(), DropDetector(baseline=0.7), [0.7] * 50
    timings: dict[str, tuple[Callable[[], object], str]] = {
        "a user's vector": (old.vector, ""),
        "change of an arm's moments": (lambda: moments_delta(before, after), "< 20 µs"),
        "moments with it": (lambda: champion.moments.replaced(before, after), "< 20 µs"),
        "a look, identical": (lambda: evaluate(facts(champion, same, share=0.1), config, 60 * HOUR), "< 1000 µs"),
        "a look, promotion": (lambda: evaluate(facts(champion, better, share=0.1), config, 60 * HOUR), "< 1000 µs"),
        "an hour of 50 users in the drop detector": (lambda: detector.update(means), ""),
    }
    for name, (call, target) in timings.items():
        print(f"{name:42} {_microseconds(call):8.1f} µs  {target}")


def _microseconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        begin = process_time()
        for _ in range(CALLS):
            call()
        best = min(best, (process_time() - begin) / CALLS)
    return best * 1e6


if __name__ == "__main__":
    main()
