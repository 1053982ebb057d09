"""A user without an answer has none, whether the model failed or declined: both roll back, and as soon."""

from __future__ import annotations

import pytest

from policies.estimates import METRICS, Metric, Moments, UserTotals
from policies.experiment import ABTestConfig, ArmStats, Assessment, Verdict, evaluate
from policies.guardrails import GuardrailState
from policies.records import TESTED, Arm
from tests.harness.arms import HOUR, MIXED, arm_stats, facts, scaled

CONFIG = ABTestConfig()
CHAMPION = arm_stats(Arm.CHAMPION, 600)


def look(challenger: ArmStats, champion: ArmStats = CHAMPION) -> Assessment:
    return evaluate(facts(champion, challenger), CONFIG, 50 * HOUR)


@pytest.mark.parametrize(("base", "worse"), [(0.0, 0.05), (0.0, 1.0), (0.02, 0.31), (0.1, 0.31), (0.1, 1.0)])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_no_answer_is_no_answer_whether_the_model_fails_or_declines(base: float, worse: float, share: float) -> None:
    """Users come one by one; the same numbers of errors and of refusals roll back at the same one of them."""
    gone = {what: _gone_after(what, base, worse, share) for what in ("errors", "refused")}
    assert gone["errors"] == gone["refused"]
    if worse == 1.0:
        assert gone["refused"] < 10 / share + 10


def _gone_after(what: str, base: float, worse: float, share: float) -> int:
    """The user after whom the challenger is rolled back; each asks once, and every so many get no answer."""
    index, users, failed = METRICS.index(Metric.ERROR if what == "errors" else Metric.REFUSED), [0, 0], [0.0, 0.0]
    arms = [Moments(), Moments()]
    for user in range(20_000):
        arm = int((user + 1) * share) - int(user * share)
        users[arm] += 1
        failed[arm] += (base, worse)[arm]
        value = float(int(failed[arm]) > int(failed[arm] - (base, worse)[arm]))
        s = tuple(value if i == index else 0.0 for i in range(len(METRICS)))
        arms[arm] = arms[arm].replaced(None, UserTotals(n=(1.0,) * len(METRICS), s=s).vector())
        stats = (ArmStats(arm=side, requests=users[side], moments=arms[side]) for side in TESTED)
        if user % 5 == 0 and evaluate(facts(*stats, share=share), CONFIG, HOUR).verdict is Verdict.ROLL_BACK:
            return user + 1
    raise AssertionError("never")


def test_a_challenger_that_answers_nobody_is_gone_before_its_tenth_user() -> None:
    """Also where half of the users have it, and nobody ever saw an error with the champion."""
    champion = arm_stats(Arm.CHAMPION, 9, errors=(0.0,), refused=(0.0,))
    silent = {"quality": None, "thumbs": None, "latency": None, "slow": None}
    for failing in ({"errors": (1.0,), "refused": (0.0,)}, {"errors": (0.0,), "refused": (1.0,)}):
        seen = look(arm_stats(Arm.CHALLENGER, 9, **silent, **failing), champion)  # type: ignore[arg-type]
        assert seen.verdict is Verdict.ROLL_BACK


def test_requests_that_both_arms_refuse_are_the_clients_fault() -> None:
    often = (*(0.0,) * 3, 1.0)
    seen = look(arm_stats(Arm.CHALLENGER, 400, refused=often), arm_stats(Arm.CHAMPION, 400, refused=often))
    refused = next(guardrail for guardrail in seen.guardrails if guardrail.name == "refused")
    assert refused.state is GuardrailState.PASS
    assert refused.reason.startswith("25.0 % against 25.0 %, 0 points")


def test_a_little_more_refused_blocks_the_promotion_until_it_is_clear() -> None:
    seen = look(arm_stats(Arm.CHALLENGER, 600, refused=(*(0.0,) * 19, 1.0), quality=scaled(MIXED, 1.2)))
    assert seen.verdict is Verdict.CONTINUE
    assert any("refused requests: 5.0 % against 2.0 %" in reason for reason in seen.reasons)
