"""What measures quality, and what a look concludes from it."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice

import pytest

from policies.assessment import QualityMeasure
from policies.composite import composite_of
from policies.estimates import METRICS, Metric, UserTotals
from policies.experiment import ABTestConfig, ArmStats, Assessment, ExperimentFacts, Verdict, evaluate, guardrails_of
from policies.facts import JudgeFacts, TagFacts
from policies.guardrails import BehaviourName, GuardrailConfig, GuardrailState
from policies.measurements import HARM_PARTS, harm_alpha
from policies.records import Arm
from policies.verdict import NOT_ABOVE_NOTHING, NOTHING_MEASURES
from tests.harness.arms import HOUR, MIXED, STEADY, arm_stats, facts, scaled

CONFIG = ABTestConfig()
NOW = 100 * HOUR
CHECKS, SPOILED = (1.0,) * 50, (*(1.0,) * 4, 0.2)
NONE, ALL = (0.0,), (1.0,)
JUDGE = JudgeFacts(scorer="openai:m:1", counts=True)
FASTER = scaled(STEADY, 0.6)
THUMBS, MORE_THUMBS = (1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.0)


def of_checks(
    champion: dict[str, object] | None = None, challenger: dict[str, object] | None = None, users: int = 900
) -> ExperimentFacts:
    """Both arms have format checks without a defect, and what is given besides."""
    same: dict[str, object] = {"quality": CHECKS, "given": NONE, "thumbs": THUMBS}
    arms = (
        arm_stats(arm, users, **same | (changes or {}))  # type: ignore[arg-type]
        for arm, changes in ((Arm.CHAMPION, champion), (Arm.CHALLENGER, challenger))
    )
    return facts(*arms)


def look(seen: ExperimentFacts, config: ABTestConfig = CONFIG) -> Assessment:
    return evaluate(seen, config, NOW)


@pytest.mark.parametrize(
    ("champion", "challenger", "measure"),
    [
        ({}, {}, QualityMeasure.NOTHING),
        ({"quality": SPOILED}, {}, QualityMeasure.FORMAT_CHECK),
        ({}, {"quality": SPOILED}, QualityMeasure.FORMAT_CHECK),
        ({"given": ALL}, {"given": ALL}, QualityMeasure.NOTHING),  # one and the same score for every answer
        ({"quality": MIXED, "given": ALL}, {"quality": MIXED, "given": ALL}, QualityMeasure.SCORES),
        ({"quality": (*(1.0,) * 49, 0.0)}, {"quality": (*(1.0,) * 49, 0.0)}, QualityMeasure.NOTHING),
        ({"quality": MIXED, "given": None}, {"quality": MIXED, "given": None}, QualityMeasure.SCORES),  # of before
        ({"quality": None, "given": None}, {"quality": None, "given": None}, QualityMeasure.WAITING),
        ({"quality": MIXED, "given": ALL}, {"quality": None, "given": None}, QualityMeasure.SCORES),
    ],
)
def test_what_measures_quality(
    champion: dict[str, object], challenger: dict[str, object], measure: QualityMeasure
) -> None:
    assert look(of_checks(champion, challenger)).quality is measure


def test_without_a_weight_it_is_not_measured() -> None:
    assert (
        look(of_checks({"quality": SPOILED}), replace(CONFIG, quality_weight=0.0)).quality is QualityMeasure.UNWEIGHED
    )


def test_with_defaults_and_thumbs_a_promotion_rests_on_thumbs_and_latency_and_says_so() -> None:
    seen = look(of_checks(challenger={"thumbs": MORE_THUMBS}))
    assert seen.verdict is Verdict.PROMOTE
    assert NOTHING_MEASURES in seen.reasons
    weights = {row.metric: row.weight for row in seen.metrics}
    assert (weights[Metric.QUALITY], weights[Metric.POSITIVE], weights[Metric.LATENCY]) == (0.0, 0.3, -0.2)


def test_on_latency_alone_there_is_no_promotion() -> None:
    config = replace(CONFIG, feedback_weight=0.0)
    none = {"thumbs": None}
    seen = look(of_checks(none, none | {"latency": FASTER}), config)
    assert seen.theta == pytest.approx(0.08)
    assert seen.verdict is Verdict.CONTINUE
    assert NOTHING_MEASURES in seen.reasons
    assert any("no challenger is promoted for that alone" in reason for reason in seen.reasons)
    wanted = look(of_checks(none, none | {"latency": FASTER}), replace(config, quality_weight=0.0, latency_weight=1.0))
    assert wanted.verdict is Verdict.PROMOTE, "who weighs nothing else wants it so"


def test_without_votes_it_waits_for_them() -> None:
    seen = look(of_checks({"thumbs": None}, {"thumbs": None, "latency": FASTER}))
    assert seen.verdict is Verdict.CONTINUE
    assert any(reason.startswith("Waiting: no votes in either arm yet") for reason in seen.reasons)


def test_a_challenger_that_spoils_answers_is_seen_by_the_format_check() -> None:
    seen = look(of_checks(challenger={"quality": SPOILED, "thumbs": None}))
    assert seen.quality is QualityMeasure.FORMAT_CHECK
    assert seen.verdict is Verdict.ROLL_BACK


def judged_arm(
    arm: Arm, users: int, *, likes: float, leans: float = 0.0, votes: float = 0.25, slow: float = 1.0
) -> ArmStats:
    """Of `likes` (0 to 1) of the answers people think well, and the judge is right about six in
    seven; it `leans` to the arm by so much. The first `votes` of the users have voted."""
    base = arm_stats(arm, users, quality=CHECKS, given=NONE, thumbs=None, latency=scaled(STEADY, slow))
    moments = base.moments
    good = cycle([index < round(10 * likes) for index in (3, 7, 0, 9, 5, 2, 8, 1, 6, 4)])
    for number, liked in enumerate(islice(good, users)):
        right = number % 7 != 0
        said = min(1.0, float(liked is right) + leans)
        cast = float(number % 20 < 20 * votes)
        seen = {
            Metric.POSITIVE: (cast, cast * liked),
            Metric.JUDGE: (1.0, said),
            Metric.JUDGE_VOTED: (cast, cast * said),
        }
        n, s = zip(*(seen.get(metric, (0.0, 0.0)) for metric in METRICS), strict=True)
        moments = moments.replaced(None, UserTotals(n=n, s=s).vector())
    return replace(base, moments=replace(moments, users=users))


def judged(judge: JudgeFacts | None = JUDGE, users: int = 2000, **challenger: float) -> ExperimentFacts:
    champion = judged_arm(
        Arm.CHAMPION, users, likes=0.6, **({"votes": challenger["votes"]} if "votes" in challenger else {})
    )
    new = judged_arm(Arm.CHALLENGER, users, **{"likes": 0.6} | challenger)  # type: ignore[arg-type]
    return replace(facts(champion, new), judge=judge)


def test_votes_rectify_the_judge_in_the_place_of_quality_and_thumbs() -> None:
    seen = look(judged(likes=0.8))
    assert seen.quality is QualityMeasure.RECTIFIED
    assert seen.rectified is not None
    assert 0.0 < seen.rectified.trust < 1.0
    assert seen.verdict is Verdict.PROMOTE
    weights = {row.metric: row.weight for row in seen.metrics}
    assert weights[Metric.POSITIVE] == 0.8, "that of quality and thumbs"
    assert weights[Metric.JUDGE] == -weights[Metric.JUDGE_VOTED] == pytest.approx(0.8 * seen.rectified.trust)


def test_a_judge_that_leans_to_the_challenger_promotes_nothing() -> None:
    leaning = look(judged(leans=0.3))
    assert leaning.quality is QualityMeasure.RECTIFIED
    assert leaning.verdict is not Verdict.PROMOTE
    assert leaning.theta == pytest.approx(0.0, abs=0.02)
    believed = look(judged(replace(JUDGE, trust="unrectified"), leans=0.3))
    assert believed.quality is QualityMeasure.JUDGE
    assert believed.theta is not None
    assert believed.theta > 0.1


def test_a_judge_without_votes_promotes_only_where_it_is_told_to() -> None:
    waits = look(judged(likes=0.8, votes=0.0))
    assert waits.verdict is Verdict.CONTINUE
    assert any("only votes rectify what it says" in reason for reason in waits.reasons)
    config = replace(CONFIG, feedback_weight=0.0)
    assert look(judged(replace(JUDGE, trust="unrectified"), likes=0.8, votes=0.0), config).verdict is Verdict.PROMOTE


def test_a_quality_that_votes_and_judge_put_below_nothing_is_said_to_be_that() -> None:
    """People vote on one of two answers, and nearly all against it; the judge finds the others worthless."""

    def arm(side: Arm, otherwise: float) -> ArmStats:
        base = arm_stats(side, 1000, quality=CHECKS, given=NONE, thumbs=None, latency=STEADY)
        moments = base.moments
        for number in range(1000):
            liked = float(number % 10 == 0)
            said = 1.0 if liked else otherwise
            seen = {Metric.POSITIVE: (1.0, liked), Metric.JUDGE: (2.0, said), Metric.JUDGE_VOTED: (1.0, said)}
            n, s = zip(*(seen.get(metric, (0.0, 0.0)) for metric in METRICS), strict=True)
            moments = moments.replaced(None, UserTotals(n=n, s=s).vector())
        return replace(base, moments=replace(moments, users=1000))

    seen = look(replace(facts(arm(Arm.CHAMPION, 0.4), arm(Arm.CHALLENGER, 0.6)), judge=JUDGE))
    assert seen.quality is QualityMeasure.RECTIFIED
    assert (seen.theta, seen.verdict) == (None, Verdict.CONTINUE)
    assert NOT_ABOVE_NOTHING in seen.reasons
    assert not any("No metric has a weight" in reason for reason in seen.reasons)


def test_the_judge_alone_may_reject() -> None:
    seen = look(judged(likes=0.2, votes=0.0))
    assert seen.verdict is Verdict.REJECT
    assert "the judge alone" in seen.reasons[0]


@pytest.mark.parametrize("judge", [None, replace(JUDGE, counts=False)])
def test_a_judge_that_does_not_count_changes_nothing(judge: JudgeFacts | None) -> None:
    seen = look(judged(judge, leans=0.3))
    assert seen.quality is QualityMeasure.NOTHING
    assert "judge" not in {result.name for result in seen.guardrails}
    assert seen.theta == pytest.approx(0.0, abs=1e-9)


def test_the_applications_scores_stand_above_the_judge() -> None:
    given = {"quality": MIXED, "given": ALL}
    some = replace(of_checks(given, given), judge=JUDGE)
    assert composite_of(some, CONFIG).measure is QualityMeasure.SCORES


def test_a_judge_that_counts_blocks() -> None:
    seen = look(judged(likes=0.5))
    [found] = [result for result in seen.guardrails if result.name == "judge"]
    assert found.state is GuardrailState.BLOCK


@pytest.mark.parametrize("names", [(), ("length",), ("length", "declined", "malformed", "truncated", "language")])
def test_what_rolls_back_shares_alpha_harm(names: tuple[BehaviourName, ...]) -> None:
    config = replace(CONFIG, guardrails=GuardrailConfig(roll_back=names))
    rolling = [guardrail for guardrail in guardrails_of(config) if guardrail.rolls_back]
    assert {guardrail.name for guardrail in rolling} == (HARM_PARTS.keys() - {"composite"}) | set(names)
    assert sum(guardrail.alpha for guardrail in rolling) + harm_alpha(config) == pytest.approx(config.alpha_harm)


def in_tag(share: float, **challenger: object) -> ExperimentFacts:
    """A challenger that is better as a whole, and one tag with this share of the requests in which it is as given."""
    whole = of_checks(challenger={"thumbs": MORE_THUMBS})
    part = of_checks(challenger=challenger, users=max(2, round(900 * share)))
    return replace(whole, tags={"plan=free": TagFacts(champion=part.champion, challenger=part.challenger)})


def test_harm_proven_in_a_tag_blocks_the_promotion() -> None:
    assert look(in_tag(0.3)).verdict is Verdict.PROMOTE
    broken = look(in_tag(0.3, errors=(1.0, 0.0)))
    assert broken.verdict is Verdict.CONTINUE
    [tag] = broken.tags
    assert (tag.tag, tag.share, tag.counts) == ("plan=free", pytest.approx(0.3), True)
    assert tag.harm is not None
    assert any(reason.startswith("Tag plan=free (30.0 % of the requests): errors: ") for reason in broken.reasons)
    worse = look(in_tag(0.3, thumbs=(0.0, 0.0, 0.0, 1.0)))
    assert worse.verdict is Verdict.CONTINUE
    assert worse.tags[0].theta is not None
    assert worse.tags[0].theta < 0


def test_a_small_tag_is_shown_and_blocks_nothing() -> None:
    seen = look(in_tag(0.04, errors=ALL))
    assert seen.verdict is Verdict.PROMOTE
    assert [(tag.counts, tag.harm) for tag in seen.tags] == [(False, None)]
