"""Verdicts: each with the smallest traffic that earns it, and the sentence that explains it."""

from __future__ import annotations

import json
import math
import timeit
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import Metric
from policies.experiment import ABTestConfig, ArmStats, Assessment, ExperimentFacts, Verdict, evaluate, guardrails_of
from policies.guardrails import GUARDRAILS, GuardrailConfig
from policies.measurements import HARM_PARTS
from policies.records import Arm
from tests.harness.arms import HOUR, MIXED, STEADY, THUMBS, arm_stats, facts, scaled

CONFIG = ABTestConfig()
BETTER_THUMBS = (*THUMBS, 1.0)
CHAMPION = arm_stats(Arm.CHAMPION, 600)


def challenger(users: int = 600, **patterns: object) -> ArmStats:
    return arm_stats(Arm.CHALLENGER, users, **patterns)  # type: ignore[arg-type]


GOOD = challenger(quality=scaled(MIXED, 1.2), thumbs=BETTER_THUMBS)


def look(
    side: ArmStats, *, champion: ArmStats = CHAMPION, config: ABTestConfig = CONFIG, hours: float = 50.0, **more: object
) -> Assessment:
    return evaluate(facts(champion, side, **more), config, hours * HOUR)  # type: ignore[arg-type]


def test_a_better_challenger_is_promoted_and_no_more_is_claimed_than_is_known() -> None:
    seen = look(GOOD)
    assert seen.verdict is Verdict.PROMOTE
    assert seen.reasons[0].startswith("At least 95 % sure that the challenger is not worse; best estimate +12.0 %")
    assert seen.theta == pytest.approx(0.5 * 0.2 + 0.3 * (0.8 / 0.75 - 1))
    assert seen.log_e_promote is not None
    assert seen.log_e_promote >= seen.log_e_promote_target == pytest.approx(math.log(20))
    assert seen.lower is not None
    assert seen.upper is not None
    assert 0 < seen.lower < seen.theta < seen.upper
    assert seen.effective_users == 600
    assert (seen.champion_requests, seen.challenger_requests) == (600, 600)


def test_an_identical_challenger_is_not_promoted() -> None:
    seen = look(challenger())
    assert seen.verdict is Verdict.REJECT
    assert seen.theta == 0.0
    assert "sure that the true gain is below the threshold of 5.0 %" in seen.reasons[0]


def test_an_assessment_is_json() -> None:
    for side in (GOOD, challenger(1), challenger(0), challenger(quality=None)):
        text = json.dumps(asdict(look(side)), allow_nan=False)
        assert json.loads(text)["verdict"] in set(Verdict)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hours": 47.0}, "Time: 47 of 48 hours."),
        (
            {"hours": -2.0},
            "The clock is 2.0 hours behind the start of this stage: no time counts until it is right. "
            "If it was wrong then and is right now, `ratchet share` starts a new one.",
        ),
        ({"config": replace(CONFIG, min_samples_per_version=601)}, "Requests: 600 in the smaller arm, 601 needed."),
        (
            {"config": replace(CONFIG, min_effective_users=601)},
            "Effective users: 600 in the smallest arm and metric, 601 needed.",
        ),
        ({"config": replace(CONFIG, promotion_threshold=0.13)}, "The best estimate is below the threshold of 13.0 %."),
        ({"share": 1.0}, "A share of 1 leaves nothing to compare; it must lie between 0 and 1."),
        (
            {"slow_threshold_s": None},
            "The champion's p95 latency was not known when the epoch began; a new epoch sets it (`ratchet share`).",
        ),
    ],
)
def test_a_promotion_waits_for_each_condition(change: dict[str, object], reason: str) -> None:
    seen = look(GOOD, **change)  # type: ignore[arg-type]
    assert seen.verdict is Verdict.CONTINUE
    assert reason in seen.reasons
    assert seen.reasons[0].startswith("Best estimate +12.0 %; at least 95 % sure that it is above")


def test_little_data_waits_for_evidence() -> None:
    seen = look(challenger(12, quality=scaled(MIXED, 1.2)), champion=arm_stats(Arm.CHAMPION, 12))
    assert seen.verdict is Verdict.CONTINUE
    assert any(reason.startswith("Evidence: e = ") and reason.endswith(", 20 needed.") for reason in seen.reasons)


def test_a_lone_user_has_an_estimate_without_a_bound() -> None:
    seen = look(challenger(1), champion=arm_stats(Arm.CHAMPION, 2))
    assert seen.reasons[0].endswith("without a bound yet.")
    assert seen.se is None
    assert seen.lower is None


def test_strict_evidence_wants_the_bound_above_the_threshold() -> None:
    strict = replace(CONFIG, evidence="strict")
    seen = look(GOOD, config=strict)
    assert seen.verdict is Verdict.PROMOTE
    assert "is at least 5.0 % better" in seen.reasons[0]
    less = challenger(quality=scaled(MIXED, 1.13))
    assert look(less).verdict is Verdict.PROMOTE
    waiting = look(less, config=strict)
    assert waiting.verdict is Verdict.CONTINUE
    assert waiting.lower is not None
    assert waiting.lower < 0.05


def test_a_worse_challenger_is_rolled_back_within_the_hour() -> None:
    seen = look(challenger(quality=scaled(MIXED, 0.7), thumbs=(1.0, 0.0)), hours=0.5)
    assert seen.verdict is Verdict.ROLL_BACK
    assert seen.reasons[0].startswith(
        "At least 98.25 % sure that the challenger is worse on the weighted metrics together"
    )


def test_errors_roll_back_however_good_the_answers() -> None:
    broken = challenger(quality=scaled(MIXED, 1.2), errors=(1.0, 0.0, 0.0))
    seen = look(broken, hours=1.0)
    assert seen.verdict is Verdict.ROLL_BACK
    assert seen.reasons[0].startswith("Guardrail errors: 33.3 % against 2.0 %, +31.3 points; harm is proven")


def test_slow_answers_roll_back() -> None:
    assert look(challenger(slow=(1.0, 0.0, 0.0)), hours=1.0).verdict is Verdict.ROLL_BACK


def test_speed_does_not_buy_quality() -> None:
    hasty = challenger(quality=scaled(MIXED, 0.93), thumbs=THUMBS, latency=scaled(STEADY, 0.5))
    seen = look(hasty)
    assert seen.theta is not None
    assert seen.theta > 0.05
    assert seen.verdict is Verdict.CONTINUE
    assert any(reason.startswith("Guardrail quality: ") for reason in seen.reasons)


def test_a_wrong_split_is_invalid_even_for_the_better() -> None:
    lopsided = challenger(quality=scaled(MIXED, 1.2), split=300)
    seen = look(lopsided)
    assert seen.verdict is Verdict.INVALID
    assert seen.sample_ratio.mismatch
    assert seen.sample_ratio.observed_share == pytest.approx(1 / 3)
    assert "Sample ratio mismatch: 300 of 900 users" in seen.reasons[0]


def test_errors_roll_back_even_when_the_split_is_wrong() -> None:
    assert look(challenger(errors=(1.0, 0.0), split=300)).verdict is Verdict.ROLL_BACK


def test_another_feedback_rate_invalidates_the_thumbs() -> None:
    silent = challenger(quality=scaled(MIXED, 1.2), voted=(1.0, *(0.0,) * 9))
    seen = look(silent)
    assert seen.feedback_rate.differs
    assert seen.verdict is Verdict.INVALID
    assert "vote on 10.0 % of their requests, the champion's on 50.0 %" in seen.reasons[0]
    without = look(silent, config=replace(CONFIG, feedback_weight=0.0))
    assert without.verdict is Verdict.PROMOTE


def test_harm_in_the_scores_counts_whatever_the_feedback_rate() -> None:
    worse = challenger(quality=scaled(MIXED, 0.7), voted=(1.0, *(0.0,) * 9))
    seen = look(worse)
    assert seen.verdict is Verdict.ROLL_BACK
    assert "worse on the metrics measured in both arms so far" in seen.reasons[0]


@pytest.mark.parametrize(
    ("metric", "data", "setting"),
    [
        ("quality", "quality scores", "quality_weight"),
        ("thumbs", "votes", "feedback_weight"),
        ("latency", "latencies", "latency_weight"),
    ],
)
def test_what_is_missing_holds_and_says_how_to_mend_it(metric: str, data: str, setting: str) -> None:
    better = {"quality": scaled(MIXED, 1.2), "thumbs": BETTER_THUMBS, "latency": STEADY, metric: None}
    seen = look(challenger(**better))
    assert seen.verdict is Verdict.CONTINUE
    assert seen.theta is None
    mend = f"If this installation never has {data}, set ab_test_config.{setting} = 0."
    assert f"Waiting: no {data} for the challenger yet. {mend}" in seen.reasons


def test_the_missing_arm_is_named() -> None:
    no_votes = arm_stats(Arm.CHAMPION, 600, thumbs=None)
    assert "no votes in either arm yet" in " ".join(look(challenger(thumbs=None), champion=no_votes).reasons)
    assert "no votes for the champion yet" in " ".join(look(GOOD, champion=no_votes).reasons)


def test_a_champion_who_is_never_right_is_left_to_a_person() -> None:
    booed = arm_stats(Arm.CHAMPION, 600, thumbs=(0.0,))
    seen = look(GOOD, champion=booed)
    assert seen.verdict is Verdict.CONTINUE
    words = " ".join(seen.reasons)
    assert "The positive rate is 0 for the champion and 80.0 % for the challenger" in words
    assert "Decide by hand (`ratchet promote`, `ratchet rollback`)" in words
    assert "ab_test_config.feedback_weight = 0" in words


def test_a_champion_who_is_hardly_ever_right_is_said_to_be_out_of_the_reach_of_evidence() -> None:
    booed = arm_stats(Arm.CHAMPION, 2000, thumbs=(1.0, *(0.0,) * 99))
    seen = look(challenger(400, thumbs=BETTER_THUMBS), champion=booed, share=400 / 2400)
    assert seen.verdict is Verdict.CONTINUE
    assert seen.theta is not None
    assert seen.se is not None
    assert seen.theta > 4 * seen.se
    words = " ".join(seen.reasons)
    assert "The positive rate is so low for the champion (1.0 %; challenger: 80.0 %)" in words
    assert "Decide by hand (`ratchet promote`, `ratchet rollback`)" in words
    assert "so low" not in " ".join(look(challenger(4, thumbs=BETTER_THUMBS), champion=booed, share=4 / 2004).reasons)


def test_a_metric_of_weight_zero_is_not_waited_for() -> None:
    no_votes = arm_stats(Arm.CHAMPION, 600, thumbs=None, voted=(0.0,))
    better = challenger(quality=scaled(MIXED, 1.2), thumbs=None, voted=(0.0,))
    config = replace(CONFIG, feedback_weight=0.0)
    assert look(better, champion=no_votes).verdict is Verdict.CONTINUE
    assert look(better, champion=no_votes, config=config).verdict is Verdict.PROMOTE


def test_without_any_weight_nothing_can_win() -> None:
    seen = look(GOOD, config=replace(CONFIG, quality_weight=0.0, feedback_weight=0.0, latency_weight=0.0))
    assert seen.verdict is Verdict.CONTINUE
    assert "No metric has a weight" in " ".join(seen.reasons)


def test_harm_does_not_wait_for_the_first_vote() -> None:
    champion = arm_stats(Arm.CHAMPION, 600, thumbs=None)
    seen = look(challenger(quality=scaled(MIXED, 0.6), thumbs=None), champion=champion, hours=1.0)
    assert seen.verdict is Verdict.ROLL_BACK
    assert seen.theta is None


def test_a_slower_challenger_is_not_condemned_before_its_answers_are_judged() -> None:
    champion = arm_stats(Arm.CHAMPION, 600, quality=None, thumbs=None)
    slower = challenger(quality=None, thumbs=None, latency=scaled(STEADY, 2.0))
    assert look(slower, champion=champion, hours=1.0).verdict is Verdict.CONTINUE


def test_an_undecided_test_ends_inconclusive_and_its_epochs_count_together() -> None:
    some = facts(arm_stats(Arm.CHAMPION, 12), challenger(12, quality=scaled(MIXED, 1.2)))
    assert evaluate(some, CONFIG, 719 * HOUR).verdict is Verdict.CONTINUE
    seen = evaluate(some, CONFIG, 720 * HOUR)
    assert seen.verdict is Verdict.INCONCLUSIVE
    assert seen.reasons[0].startswith("No decision within 30 days: the challenger keeps its share")
    late = replace(some, epoch_started_at=700 * HOUR)
    assert evaluate(late, CONFIG, 721 * HOUR).verdict is Verdict.INCONCLUSIVE
    assert evaluate(late, CONFIG, 721 * HOUR).elapsed_hours == 21


def test_every_metric_is_shown_whether_weighted_or_not() -> None:
    rows = {row.metric: row for row in look(GOOD).metrics}
    assert list(rows) == list(Metric)
    assert rows[Metric.QUALITY].change == pytest.approx(0.2)
    assert rows[Metric.LATENCY].weight == -0.2
    assert rows[Metric.ERROR].weight == 0


def test_every_limit_has_a_guardrail_of_its_own() -> None:
    """A limit that is set alone is that of one guardrail, which is called by a name of its own."""
    limits = {field.name for field in fields(GuardrailConfig) if field.name.startswith("max_")}
    strict = {name: replace(CONFIG, guardrails=replace(CONFIG.guardrails, **{name: 0.6})) for name in limits}
    changed = {
        name: [guardrail.name for guardrail in guardrails_of(config) if guardrail.limit == 0.6]
        for name, config in strict.items()
    }
    assert all(len(found) == 1 for found in changed.values()), changed
    assert {found[0] for found in changed.values()} == GUARDRAILS.keys()
    assert len({kind.words for kind in GUARDRAILS.values()}) == len(GUARDRAILS)


def test_rollback_triggers_share_alpha_harm() -> None:
    rolling = [guardrail for guardrail in guardrails_of(CONFIG) if guardrail.rolls_back]
    composite = math.exp(-look(GOOD).log_e_harm_target)
    assert {guardrail.name for guardrail in rolling} | {"composite"} == HARM_PARTS.keys()
    assert sum(guardrail.alpha for guardrail in rolling) + composite == pytest.approx(CONFIG.alpha_harm)
    assert sum(HARM_PARTS.values()) == pytest.approx(1.0)


@given(
    st.floats(0.2, 1.25),
    st.integers(0, 80),
    st.integers(0, 40),
    st.floats(-100, 1000),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_a_promotion_always_has_what_it_claims(
    factor: float, users: int, requests: int, hours: float, share: float
) -> None:
    side = challenger(users, requests_each=requests, quality=scaled(MIXED, factor))
    some: ExperimentFacts = facts(arm_stats(Arm.CHAMPION, 80, requests_each=20), side, share=share)
    seen = evaluate(some, CONFIG, hours * HOUR)
    assert seen.reasons
    assert seen.log_e_harm_target > 0
    if seen.verdict is Verdict.PROMOTE:
        assert seen.lower is not None
        assert seen.lower >= 0
        assert seen.theta is not None
        assert seen.theta >= CONFIG.promotion_threshold
        assert hours >= 48
        assert seen.effective_users is not None
        assert seen.effective_users >= 10


def test_a_look_is_cheap() -> None:
    """Half a millisecond on an idle core (tests/bench/decisions.py); best of many rounds, with room for a busy one."""
    some = facts(CHAMPION, GOOD)
    assert min(timeit.repeat(lambda: evaluate(some, CONFIG, 60 * HOUR), number=1, repeat=50)) < 5e-3


@pytest.mark.parametrize(("champions", "challengers"), [(0, 0), (40, 0), (0, 40)])
def test_an_arm_without_requests_is_said_alone(champions: int, challengers: int) -> None:
    arms = arm_stats(Arm.CHAMPION, champions), arm_stats(Arm.CHALLENGER, challengers)
    seen = evaluate(facts(*arms), ABTestConfig(), 0.0)
    assert seen.verdict is Verdict.CONTINUE
    assert len(seen.reasons) == 1
    assert "yet" in seen.reasons[0]


def test_time_runs_out_for_an_arm_without_requests_too() -> None:
    arms = arm_stats(Arm.CHAMPION, 40), arm_stats(Arm.CHALLENGER, 0)
    seen = evaluate(facts(*arms), ABTestConfig(max_duration_hours=336), 3600.0 * 400)
    assert seen.verdict is Verdict.INCONCLUSIVE
    assert len(seen.reasons) == 2
