"""Who carries the evidence: against an independent reference, and what it stops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.carriers import LEAST_LEFT_OUT, LEAST_VOTERS, Carriers, Units, left_out_of
from policies.estimates import METRICS, Metric, Moments, UserTotals, Vector
from policies.experiment import (
    ABTestConfig,
    ArmStats,
    ExperimentFacts,
    Verdict,
    evaluate,
    forgeable_weights,
    would_promote,
)
from policies.records import TESTED
from policies.stages import Stages, weighted_effect
from tests.harness.arms import HOUR, facts

PINNED: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "carriers.json").read_text())
WEIGHTS = {Metric.QUALITY: 0.5, Metric.POSITIVE: 0.3, Metric.LATENCY: -0.2}
VOTES = {Metric.POSITIVE: 0.3}
NOW = 100 * HOUR


def vector(*pairs: tuple[float, float]) -> Vector:
    """Of counts and sums in the order of METRICS; what is not given was not observed."""
    later = [(0.0, 0.0)] * (len(METRICS) - len(pairs))
    n, s = zip(*pairs, *later, strict=True)
    return UserTotals(n=n, s=s).vector()


def refused_none(each: Vector) -> Vector:
    """The same unit, none of whose requests was refused."""
    row = 2 * METRICS.index(Metric.REFUSED)
    return (*each[:row], 0.0, each[1], *each[row + 2 :])


def moments_of(vectors: list[Vector]) -> Moments:
    total = Moments()
    for each in vectors:
        total = total.replaced(None, each)
    return total


def left_of(arms: list[list[Vector]], *, claimed: bool = True, weights: dict[Metric, float] = VOTES) -> Carriers:
    """All units that have votes are added; all of them are claimed, or none."""
    sizes = (len(arms[0]), len(arms[1])) if claimed else (0, 0)
    units = Units(Stages.one(moments_of(arms[0]), moments_of(arms[1])), weights, sizes)
    for at, arm in enumerate(arms):
        for key, each in enumerate(arm):
            if each[3] > 0:
                units.add(at, key, {0: each}, claimed=claimed)
    return units.carriers()


@pytest.mark.parametrize("case", PINNED)
def test_the_reference_leaves_out_the_same(case: dict[str, Any]) -> None:
    arms = [[vector(*zip(*unit, strict=True)) for unit in case[name]] for name in ("champion", "challenger")]
    whole = weighted_effect(Stages.one(moments_of(arms[0]), moments_of(arms[1])), WEIGHTS)
    assert whole is not None
    assert whole.theta == pytest.approx(case["theta"], abs=1e-9)
    left = left_of(arms)
    found = weighted_effect(left.evidence([0.5]), WEIGHTS)
    assert found is not None
    assert found.theta == pytest.approx(case["without"]["theta"], abs=1e-9)
    assert found.se == pytest.approx(case["without"]["se"], rel=1e-6)
    assert found.effective_users == pytest.approx(case["without"]["effective_users"], rel=1e-6)
    assert left.left_out == tuple(max(5, math.ceil(len(arm) / 100)) for arm in arms)


def test_one_unit_with_a_thousand_votes_made_the_difference() -> None:
    """Worked by hand: it weighs 1000/100.9 = 9.91, and without its votes the gain of 4.49 % is a loss of 0.60 %."""
    nobody = (0.0, 0.0)
    champion = [vector(nobody, (10.0, up)) for up in (6.0, 7.0) for _ in range(20)]
    challenger = [vector(nobody, (10.0, 6.0))] * 10 + [vector(nobody, (10.0, 7.0))] * 9
    arms = [champion, [*challenger, vector(nobody, (1000.0, 1000.0))]]
    whole = weighted_effect(Stages.one(moments_of(arms[0]), moments_of(arms[1])), {Metric.POSITIVE: 1.0})
    left = left_of(arms, claimed=False, weights={Metric.POSITIVE: 1.0})
    found = weighted_effect(left.evidence([0.5]), {Metric.POSITIVE: 1.0})
    assert whole is not None
    assert found is not None
    assert (round(whole.theta, 4), round(found.theta, 4)) == (0.0449, -0.0060)
    assert left.left_out == (1, 1)
    assert left.strongest[0].unit == f"{len(challenger):016x}"
    assert left.strongest[0].share == pytest.approx(0.4518, abs=1e-4)


@given(st.integers(0, 10**6), st.booleans())
def test_five_or_one_in_a_hundred(units: int, claimed: bool) -> None:
    count = left_out_of(units, claimed=claimed)
    assert count == max(LEAST_LEFT_OUT if claimed else 0, -(-units // 100))


_UNIT = st.tuples(st.sampled_from((0, 1, 2, 5, 40)), st.floats(0, 1), st.floats(0.2, 0.9))


@given(st.lists(_UNIT, min_size=2, max_size=60), st.lists(_UNIT, min_size=2, max_size=60), st.randoms())
def test_the_order_is_nothing_and_only_votes_go(old: list[Any], new: list[Any], random: Any) -> None:
    """Whatever the order they are read in; the other measures of those left out stay as they were."""
    arms = [[vector((3.0, 3 * q), (n, n * up)) for n, up, q in arm] for arm in (old, new)]
    units = [(at, key, each) for at, arm in enumerate(arms) for key, each in enumerate(arm) if each[3] > 0]
    shuffled = list(units)
    random.shuffle(shuffled)
    found = []
    for order in (units, shuffled):
        collector = Units(Stages.one(moments_of(arms[0]), moments_of(arms[1])), VOTES, (len(old), len(new)))
        for at, key, each in order:
            collector.add(at, key, {0: each}, claimed=True)
        found.append(collector.carriers())
    assert found[0].left_out == found[1].left_out
    named = [{carrier.unit: carrier.share for carrier in each.strongest} for each in found]
    assert named[0] == pytest.approx(named[1])
    for left, whole in zip((found[0].champion, found[0].challenger), map(moments_of, arms), strict=True):
        assert left.users == whole.users
        assert left.sums[:2] == pytest.approx(whole.sums[:2])
        assert left.sums[3] <= whole.sums[3] + 1e-9
    assert all(0.0 < carrier.share <= 1.0 + 1e-9 for carrier in found[0].strongest)


# -- what a look makes of it


def trial(voters: list[list[tuple[float, float]]], *, claimed: bool) -> ExperimentFacts:
    """Arms whose users have (votes, of them up), and all else equal: the votes alone decide."""
    arms = []
    for arm, mine in zip(TESTED, voters, strict=True):
        vectors = [
            vector((10.0, 6.0 + key % 3), votes, (10.0, 9.0 + key % 5), (10.0, 0.0), (10.0, 0.0), (10.0, votes[0]))
            for key, votes in enumerate(mine)
        ]
        vectors = [refused_none(each) for each in vectors]
        size = len(mine)
        arms.append(
            ArmStats(
                arm=arm,
                requests=10 * size,
                moments=moments_of(vectors),
                claimed_users=size if claimed else 0,
                clusters=size if claimed else 0,
            )
        )
    looked = facts(arms[0], arms[1])
    units = Units(Stages.one(arms[0].moments, arms[1].moments), VOTES, (arms[0].clusters, arms[1].clusters))
    for at, mine in enumerate(voters):
        for key, votes in enumerate(mine):
            if votes[0]:
                each = vector(
                    (10.0, 6.0 + key % 3), votes, (10.0, 9.0 + key % 5), (10.0, 0.0), (10.0, 0.0), (10.0, votes[0])
                )
                units.add(at, key, {0: refused_none(each)}, claimed=claimed)
    return replace(looked, carriers=units.carriers())


FEW = [[(4.0, 2.0), (4.0, 3.0)] * 60, [(4.0, 2.0 + (key % 3 > 0)) for key in range(115)] + [(400.0, 400.0)] * 5]
"""Five of a hundred and twenty carry the challenger's lead."""
MANY = [[(4.0, 1.0), (4.0, 2.0)] * 50, [(4.0, 3.0), (4.0, 4.0)] * 50]
CONFIG = ABTestConfig(quality_weight=0.1, feedback_weight=0.9, latency_weight=0.0)


def test_few_clusters_carry_the_evidence_so_the_promotion_waits() -> None:
    look = evaluate(trial(FEW, claimed=True), CONFIG, NOW)
    assert look.verdict is Verdict.CONTINUE
    assert look.carried is not None
    assert look.carried.holds
    assert any(reason.startswith("The evidence rests on a few clusters") for reason in look.reasons)
    assert look.carried.strongest[0].unit == f"{119:016x}"
    assert f"{119:016x}" in " ".join(look.reasons)


def test_the_same_of_users_who_are_vouched_for_is_told_and_holds_nothing() -> None:
    look = evaluate(trial(FEW, claimed=False), CONFIG, NOW)
    assert look.verdict is Verdict.PROMOTE
    assert look.carried is not None
    assert not look.carried.holds
    assert look.reasons[1].startswith(
        "Without the votes of the 2 most influential users of each arm the best estimate is"
    )


def test_what_many_clusters_say_is_believed() -> None:
    look = evaluate(trial(MANY, claimed=True), CONFIG, NOW)
    assert (look.verdict, look.carried and look.carried.holds) == (Verdict.PROMOTE, False)


def test_with_fewer_voters_than_thirty_it_waits() -> None:
    arms = [[*arm[: LEAST_VOTERS - 1], *[(0.0, 0.0)] * 60] for arm in MANY]
    look = evaluate(trial(arms, claimed=True), CONFIG, NOW)
    assert look.verdict is Verdict.CONTINUE
    assert f"only {LEAST_VOTERS - 1} voters in the smaller arm" in " ".join(look.reasons)
    assert evaluate(trial(arms, claimed=False), CONFIG, NOW).verdict is Verdict.PROMOTE


def test_without_a_look_at_them_nothing_is_promoted() -> None:
    looked = trial(MANY, claimed=True)
    assert would_promote(looked, CONFIG, NOW)
    unseen = evaluate(replace(looked, carriers=None), CONFIG, NOW)
    assert unseen.verdict is Verdict.CONTINUE
    assert "It has not been checked yet whether the evidence rests on a few users." in unseen.reasons
    assert not would_promote(looked, CONFIG, HOUR)


def test_without_a_weight_on_votes_nobody_carries_anything() -> None:
    config = replace(CONFIG, feedback_weight=0.0, quality_weight=1.0)
    assert not any(forgeable_weights(trial(MANY, claimed=True), config).values())
    assert forgeable_weights(trial(MANY, claimed=True), config, scores=True)[Metric.QUALITY] == 1.0
    assert not math.isnan(sum(forgeable_weights(trial(MANY, claimed=True), config).values()))
