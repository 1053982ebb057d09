"""What the users' past takes out of a gain: by hand, against the oracle, in a ramp, and where there is too little."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.carriers import Units
from policies.cuped import adjustment, cuped_effect, past_effect, saving, without_past
from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.experiment import ABTestConfig, ExperimentFacts, Verdict, evaluate
from policies.past import PAST, PastMoments, PastTotals
from policies.records import Arm as Side
from policies.rectified import rectified_effect
from policies.stages import Stage, Stages, weighted_effect, weighted_terms
from tests.harness.arms import HOUR, arm_stats, facts

WEIGHTS = {Metric.QUALITY: 0.5, Metric.POSITIVE: 0.3, Metric.LATENCY: -0.2}
QUALITY = {Metric.QUALITY: 1.0}
VOTES = {Metric.POSITIVE: 1.0}
CASES = json.loads((Path(__file__).parent / "data" / "cuped.json").read_text())["cuped"]
"""Of the reference of docs/statistics.md, pinned: three metrics and their past, in one to three stages."""
CHAMPION = [(1, 1)] * 20 + [(0, 0)] * 10 + [(1, 0)] * 5 + [(0, 1)] * 5
CHALLENGER = [(1, 1)] * 18 + [(0, 0)] * 6
Arm = tuple[Moments, PastMoments]


def vector(**seen: tuple[float, float]) -> tuple[float, ...]:
    """Of a test: (n, s) by metric."""
    pairs = [seen.get(metric.value, (0.0, 0.0)) for metric in METRICS]
    return UserTotals(n=tuple(float(n) for n, _ in pairs), s=tuple(float(s) for _, s in pairs)).vector()


def arm_of(users: list[tuple[dict[str, tuple[float, float]], list[tuple[float, float]]]]) -> Arm:
    """From what each user did in the test, and before it in the order of PAST."""
    moments, past = Moments(), PastMoments()
    for test, before in users:
        new = vector(**test)
        old = PastTotals(n=tuple(float(n) for n, _ in before), s=tuple(float(s) for _, s in before))
        moments = moments.replaced(None, new)
        if any(old.n):
            past = past.replaced(old.vector(), None, new)
    return moments, past


def scores(users: list[tuple[int, int]]) -> Arm:
    """One score each in the test, and one before it."""
    return arm_of([({"quality": (1, y)}, [(1, x), (0, 0), (0, 0)]) for y, x in users])


def stage(champion: Arm, challenger: Arm, share: float = 0.5) -> Stage:
    return Stage(
        share=share,
        champion=champion[0],
        challenger=challenger[0],
        champion_past=champion[1],
        challenger_past=challenger[1],
    )


def of_case(case: dict[str, Any]) -> Stages:
    names = [metric.value for metric in PAST]

    def arm(users: list[list[tuple[float, float]]]) -> Arm:
        return arm_of([(dict(zip(names, user[:3], strict=True)), user[3:]) for user in users])

    return Stages(tuple(stage(arm(old), arm(new), share) for share, old, new in case["stages"]))


def test_the_worked_example() -> None:
    """The challenger's users had it 20 % better before, too, and 7/15 of such a thing comes again."""
    stages = Stages((stage(scores(CHAMPION), scores(CHALLENGER)),))
    plain, effect = weighted_effect(stages, QUALITY), cuped_effect(stages, QUALITY)
    assert plain is not None
    assert effect is not None
    assert (plain.theta, plain.se) == pytest.approx((0.2, 0.2186), abs=5e-5)
    assert (effect.theta, effect.se) == pytest.approx((0.2 - 0.2 * 7 / 15, 0.1674), abs=5e-5)
    assert effect.effective_users == plain.effective_users
    less = adjustment(stages, weighted_terms(stages, QUALITY)[1], QUALITY)  # type: ignore[index]
    assert less is not None
    assert less.factor == pytest.approx(7 / 15)


@pytest.mark.parametrize("case", CASES, ids=[f"{len(case['stages'])}-{i}" for i, case in enumerate(CASES)])
def test_against_the_oracle(case: dict[str, Any]) -> None:
    stages = of_case(case)
    effect, plain = cuped_effect(stages, WEIGHTS), weighted_effect(stages, WEIGHTS)
    assert effect is not None
    assert plain is not None
    assert (plain.theta, plain.se) == pytest.approx(case["plain"], rel=1e-9, abs=1e-9)
    assert effect.theta == pytest.approx(case["theta"], rel=1e-9, abs=1e-9)
    assert effect.se == pytest.approx(case["se"], rel=1e-9, abs=1e-9)
    assert effect.effective_users == pytest.approx(case["effective_users"], rel=1e-9)
    less = adjustment(stages, weighted_terms(stages, WEIGHTS)[1], WEIGHTS)  # type: ignore[index]
    assert (less.factor if less else 0.0) == pytest.approx(case["gamma"], rel=1e-9, abs=1e-9)


def test_the_oracle_cases_say_something() -> None:
    """Some with too little past, and some with one in which most of it comes again."""
    gammas = [case["gamma"] for case in CASES]
    assert 0.0 in gammas
    assert any(gamma > 0.4 for gamma in gammas if len(CASES) > 5)
    assert {len(case["stages"]) for case in CASES} == {1, 2, 3}


def test_without_a_past_it_is_the_plain_estimate_to_the_last_digit() -> None:
    stages = without_past(of_case(CASES[4]))
    assert cuped_effect(stages, WEIGHTS) == weighted_effect(stages, WEIGHTS)
    empty = replace(stages, parts=tuple(replace(s, champion_past=PastMoments(), challenger_past=PastMoments())
                                        for s in stages.parts))  # fmt: skip
    assert cuped_effect(empty, WEIGHTS) == weighted_effect(stages, WEIGHTS)


def test_nine_users_with_a_past_are_too_few() -> None:
    known, new = scores(CHAMPION), [(1, 1)] * 6 + [(0, 0)] * 3
    few, enough = stage(known, scores(new)), stage(known, scores([*new, (1, 0)]))
    assert cuped_effect(Stages((few,)), QUALITY) == weighted_effect(Stages((few,)), QUALITY)
    assert cuped_effect(Stages((enough,)), QUALITY) != weighted_effect(Stages((enough,)), QUALITY)


def test_a_past_without_spread_changes_nothing() -> None:
    """F₀ = 0: everybody had the same."""
    same = stage(scores([(y, 1) for y, _ in CHAMPION]), scores([(y, 1) for y, _ in CHALLENGER]))
    assert cuped_effect(Stages((same,)), QUALITY) == weighted_effect(Stages((same,)), QUALITY)


def test_a_past_that_says_everything_leaves_the_plain_estimate() -> None:
    """No variance would be left, as if nothing could ever be by chance."""
    same = stage(scores([(x, x) for _, x in CHAMPION]), scores([(x, x) for _, x in CHAMPION]))
    assert cuped_effect(Stages((same,)), QUALITY) == weighted_effect(Stages((same,)), QUALITY)


def test_one_user_in_an_arm_is_not_adjusted() -> None:
    lone = Stages((stage(scores(CHAMPION), scores([(1, 1)])),))
    effect = cuped_effect(lone, QUALITY)
    assert effect is not None
    assert effect.se == math.inf


def test_nothing_to_estimate() -> None:
    assert cuped_effect(Stages((stage(scores([]), scores([])),)), QUALITY) is None
    assert cuped_effect(Stages((stage(scores(CHAMPION), scores(CHALLENGER)),)), {}) is None


def test_users_without_a_past_are_counted_as_they_are() -> None:
    """They add to θ, and nothing to what is taken off."""
    new = [({"quality": (1.0, float(i % 2))}, [(0.0, 0.0)] * 3) for i in range(20)]
    old = [({"quality": (1.0, float(y))}, [(1.0, float(x)), (0.0, 0.0), (0.0, 0.0)]) for y, x in CHAMPION]
    mixed = arm_of([*old, *new])
    assert mixed[0].users == 60
    assert mixed[1] == arm_of(old)[1]


def test_metrics_without_products_keep_their_error() -> None:
    """Votes on conversations have a weight, and no past: the gain is adjusted, and its error no smaller than theirs."""

    def users(answers: list[tuple[int, int]]) -> Arm:
        return arm_of([
            ({"quality": (1, y), "conversation": (1, i % 2)}, [(1, x), (0, 0), (0, 0)])
            for i, (y, x) in enumerate(answers)
        ])  # fmt: skip

    weights = {**QUALITY, Metric.CONVERSATION: 0.5}
    stages = Stages((stage(users(CHAMPION), users(CHALLENGER)),))
    plain, effect = weighted_effect(stages, weights), cuped_effect(stages, weights)
    alone = weighted_effect(stages, {Metric.CONVERSATION: 0.5})
    known = cuped_effect(stages, QUALITY)
    assert plain is not None
    assert effect is not None
    assert alone is not None
    assert known is not None
    assert effect.se < plain.se
    assert effect.se == pytest.approx(known.se + alone.se)


def test_a_stage_without_votes_takes_no_part() -> None:
    """Its users' past is no estimate of chance in votes that it does not have."""
    silent = arm_of([({"error": (1, 0)}, [(1, x), (0, 0), (0, 0)]) for _, x in CHAMPION])
    voting = stage(scores(CHAMPION), scores(CHALLENGER))
    both = Stages((stage(silent, silent, share=0.1), voting))
    assert cuped_effect(both, QUALITY) == cuped_effect(Stages((voting,)), QUALITY)


def test_rectified_quality_is_adjusted_by_the_past_of_its_votes() -> None:
    def users(votes: list[tuple[int, int]]) -> Arm:
        return arm_of([
            ({"positive": (1, y), "judge": (2, y + 0.5), "judge_voted": (1, (y + i % 2) / 2)}, [(0, 0), (1, x), (0, 0)])
            for i, (y, x) in enumerate(votes)
        ])  # fmt: skip

    stages = Stages((stage(users(CHAMPION), users(CHALLENGER)),))
    plain, effect = rectified_effect(without_past(stages), 0.8), rectified_effect(stages, 0.8)
    assert plain is not None
    assert effect is not None
    assert effect.theta < plain.theta
    assert effect.se < plain.se


def test_what_was_saved_is_said() -> None:
    stages = Stages((stage(scores(CHAMPION), scores(CHALLENGER)),))
    plain, effect = weighted_effect(stages, QUALITY), cuped_effect(stages, QUALITY)
    assert plain is not None
    assert effect is not None
    found = past_effect(stages, effect, plain)
    assert found is not None
    assert found.theta_plain == plain.theta
    assert found.saved == pytest.approx(1 - (0.1674 / 0.2186) ** 2, abs=1e-3)
    assert found.users == (40, 24)
    assert past_effect(without_past(stages), plain, plain) is None
    assert past_effect(stages, effect, replace(plain, se=math.inf)) is None


def test_what_it_would_save_is_seen_in_one_arm() -> None:
    """ρ² of test and past: of 40 users 20 + 10 do as they did, so that ρ = 7/15, and 22 % would go."""
    champion, past = scores(CHAMPION)
    assert saving(champion, past, QUALITY) == pytest.approx((7 / 15) ** 2)
    assert saving(champion, past, WEIGHTS) == pytest.approx((7 / 15) ** 2)


def test_what_it_would_save_is_unknown_with_too_little() -> None:
    champion, past = scores(CHAMPION)
    assert saving(champion, PastMoments(), QUALITY) is None
    assert saving(Moments(), past, QUALITY) is None
    assert saving(champion, past, {Metric.LATENCY: -0.2}) is None
    assert saving(*scores([(1, 1)] * 20), QUALITY) is None


def test_who_is_left_out_keeps_their_past() -> None:
    """Their votes go, from the sums and from the products with the past, and what they did before stays."""

    def users(votes: list[tuple[int, int]]) -> list[tuple[dict[str, tuple[float, float]], list[tuple[float, float]]]]:
        return [({"positive": (1, y), "quality": (1, 0.5)}, [(0, 0), (1, x), (0, 0)]) for y, x in votes]

    arms = [users(CHAMPION), users(CHALLENGER)]
    stages = Stages((stage(arm_of(arms[0]), arm_of(arms[1])),))
    units = Units(stages, {Metric.POSITIVE: 1.0}, (len(CHAMPION), len(CHALLENGER)))
    pasts: dict[int, tuple[float, ...]] = {}
    for at, arm in enumerate(arms):
        for place, (test, before) in enumerate(arm):
            key = 1000 * at + place
            pasts[key] = PastTotals(n=tuple(n for n, _ in before), s=tuple(s for _, s in before)).vector()
            units.add(at, key, {0: vector(**test)}, claimed=True)
    out = units.left_out()
    left = units.carriers({key: pasts[key] for key in out})
    silent = [
        [({**test, "positive": (0, 0)} if 1000 * at + place in out else test, before)
         for place, (test, before) in enumerate(arm)]
        for at, arm in enumerate(arms)
    ]  # fmt: skip
    by_hand = Stages((stage(arm_of(silent[0]), arm_of(silent[1])),))
    found, wanted = cuped_effect(left.evidence([0.5]), VOTES), cuped_effect(by_hand, VOTES)
    assert len(out) == 10
    assert found is not None
    assert wanted is not None
    assert (found.theta, found.se) == pytest.approx((wanted.theta, wanted.se))
    assert left.pasts[0][0] is not None
    assert left.pasts[0][0].users == 40


def looked_at(champion: Arm, challenger: Arm, *, used: bool = True) -> ExperimentFacts:
    """Both arms with enough of everything else."""
    sides = (arm_stats(Side.CHAMPION, 40), arm_stats(Side.CHALLENGER, 24))
    old, new = (
        replace(side, moments=arm[0], past=arm[1] if used else None)
        for side, arm in zip(sides, (champion, challenger), strict=True)
    )
    return facts(old, new)


def test_a_look_says_what_the_past_has_done() -> None:
    config = ABTestConfig(feedback_weight=0.0, latency_weight=0.0, quality_weight=1.0)
    seen = evaluate(looked_at(scores(CHAMPION), scores(CHALLENGER)), config, 50 * HOUR)
    plain = evaluate(looked_at(scores(CHAMPION), scores(CHALLENGER), used=False), config, 50 * HOUR)
    assert seen.theta == pytest.approx(0.2 - 0.2 * 7 / 15)
    assert plain.theta == pytest.approx(0.2)
    assert plain.past is None
    assert seen.past is not None
    assert seen.past.theta_plain == pytest.approx(plain.theta)
    assert (
        "The users' past is taken off (ab_test_config.cuped): without that the best estimate would be +20.0 %; "
        "41.3 % of its variance is saved."
    ) in seen.reasons
    assert not any("past" in reason for reason in plain.reasons)


def test_guardrails_are_not_adjusted() -> None:
    config = ABTestConfig()
    seen = evaluate(looked_at(scores(CHAMPION), scores(CHALLENGER)), config, 50 * HOUR)
    plain = evaluate(looked_at(scores(CHAMPION), scores(CHALLENGER), used=False), config, 50 * HOUR)
    assert seen.guardrails == plain.guardrails


def test_a_look_says_that_there_is_too_little_past() -> None:
    champion, challenger = scores(CHAMPION), scores(CHALLENGER)
    config = ABTestConfig(feedback_weight=0.0, latency_weight=0.0, quality_weight=1.0)
    seen = evaluate(looked_at((champion[0], PastMoments()), (challenger[0], PastMoments())), config, 50 * HOUR)
    assert seen.verdict is Verdict.CONTINUE
    assert (
        "The users' past (ab_test_config.cuped) takes nothing off: too few of them were here before the test."
        in seen.reasons
    )
