"""Guardrails: what passes, what blocks, what takes the users away, and that missing data holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from policies.estimates import Metric, Moments
from policies.experiment import ABTestConfig, guardrails_of
from policies.guardrails import GUARDRAILS, Guardrail, GuardrailConfig, GuardrailResult, GuardrailState, check
from policies.records import TESTED, Arm
from policies.stages import Stages
from tests.harness.arms import MIXED, arm_stats, scaled

ERRORS = Guardrail(name="errors", metric=Metric.ERROR, limit=0.02, alpha=0.02, rolls_back=True)
QUALITY = Guardrail(name="quality", metric=Metric.QUALITY, limit=0.05, alpha=0.05, deltas=(0.05, 0.2))
CHAMPION = arm_stats(Arm.CHAMPION, 900)


def result(guardrail: Guardrail, challenger: Moments, champion: Moments = CHAMPION.moments) -> GuardrailResult:
    return check(guardrail, Stages.one(champion, challenger), GuardrailConfig())


def challenger(users: int, **patterns: object) -> Moments:
    return arm_stats(Arm.CHALLENGER, users, **patterns).moments  # type: ignore[arg-type]


def test_the_same_behaviour_passes_and_is_told_in_numbers() -> None:
    same = result(ERRORS, challenger(900))
    assert same.state is GuardrailState.PASS
    assert same.champion == same.challenger == pytest.approx(0.02)
    assert same.estimate == 0.0
    assert same.lower is not None
    assert same.upper is not None
    assert same.lower < 0 < same.upper
    assert same.reason == "2.0 % against 2.0 %, 0 points; within the limit of 2.0 %"


def test_proven_errors_roll_back() -> None:
    many = result(ERRORS, challenger(60, errors=(1.0, 0.0, 0.0)))
    assert many.state is GuardrailState.ROLL_BACK
    assert many.reason.startswith("33.3 % against 2.0 %, +31.3 points; harm is proven (e = 19,")
    assert many.reason.endswith(", e = 50 needed)")


def test_total_failure_rolls_back_as_soon_as_there_are_five_users() -> None:
    clean = arm_stats(Arm.CHAMPION, 900, errors=(0.0,)).moments
    assert result(ERRORS, challenger(4, errors=(1.0,)), clean).state is GuardrailState.UNKNOWN
    assert result(ERRORS, challenger(5, errors=(1.0,)), clean).state is GuardrailState.ROLL_BACK


def test_a_worse_estimate_blocks_without_proof() -> None:
    some = result(ERRORS, challenger(20, errors=(*(0.0,) * 9, 1.0)))
    assert some.state is GuardrailState.BLOCK
    assert some.reason.endswith("worse than the limit of 2.0 %, though not proven yet")


def test_worse_answers_block_but_do_not_roll_back() -> None:
    worse = result(QUALITY, challenger(300, quality=scaled(MIXED, 0.8)))
    assert worse.state is GuardrailState.BLOCK
    assert "0.560 against 0.700, −20.0 %" in worse.reason
    assert "proven" in worse.reason
    rolling = replace(QUALITY, rolls_back=True)
    assert result(rolling, challenger(300, quality=scaled(MIXED, 0.8))).state is GuardrailState.ROLL_BACK


def test_better_answers_are_no_harm() -> None:
    better = result(QUALITY, challenger(300, quality=scaled(MIXED, 1.2)))
    assert better.state is GuardrailState.PASS
    assert better.log_e_harm is not None
    assert better.log_e_harm < 0


def test_a_tolerance_moves_what_counts_as_harm() -> None:
    worse = challenger(300, quality=scaled(MIXED, 0.93))
    assert result(QUALITY, worse).state is GuardrailState.BLOCK
    lenient = replace(QUALITY, tolerance=0.1, limit=0.1)
    assert result(lenient, worse).state is GuardrailState.PASS


@pytest.mark.parametrize(
    ("champion_quality", "challenger_quality", "reason"),
    [
        (None, None, "no data in either arm yet"),
        (MIXED, None, "no data for the challenger yet"),
        (None, MIXED, "no data for the champion yet"),
        ((0.0,), MIXED, "the champion's value is 0, so there is no relative change"),
    ],
)
def test_missing_data_holds(champion_quality: object, challenger_quality: object, reason: str) -> None:
    champion = arm_stats(Arm.CHAMPION, 90, quality=champion_quality).moments  # type: ignore[arg-type]
    missing = result(QUALITY, challenger(90, quality=challenger_quality), champion)
    assert missing.state is GuardrailState.UNKNOWN
    assert missing.estimate is None
    assert missing.log_e_harm is None
    assert missing.reason == reason
    assert missing.named_reason == f"quality: {reason}"


def test_a_metric_that_is_switched_off_needs_no_data_but_its_harm_still_counts() -> None:
    off = replace(QUALITY, required=False, limited=False)
    absent = result(off, challenger(90, quality=None))
    assert absent.state is GuardrailState.PASS
    assert absent.reason.endswith("its weight is 0, so it is not needed")
    assert result(off, challenger(3)).state is GuardrailState.PASS
    assert result(off, challenger(12, quality=scaled(MIXED, 0.93))).state is GuardrailState.PASS
    assert result(off, challenger(300, quality=scaled(MIXED, 0.8))).state is GuardrailState.BLOCK


def behaves(name: str, champion: Sequence[float], challenger: Sequence[float], users: int = 900) -> GuardrailResult:
    """The guardrail of that name with default settings."""
    metric = GUARDRAILS[name].metric.value
    arms = (
        arm_stats(arm, users, **{metric: pattern}) for arm, pattern in zip(TESTED, (champion, challenger), strict=True)
    )
    [guardrail] = [guardrail for guardrail in guardrails_of(ABTestConfig()) if guardrail.name == name]
    return check(guardrail, Stages.one(*(arm.moments for arm in arms)), GuardrailConfig())


def lengths(*characters: int) -> tuple[float, ...]:
    return tuple(math.log1p(n) for n in characters)


@pytest.mark.parametrize("factor", [20.0, 1 / 20.0])
def test_answers_that_are_twenty_times_as_long_or_as_short_block(factor: float) -> None:
    usual = (120, 600, 2400)
    other = lengths(*(round(factor * n) for n in usual))
    found = behaves("length", lengths(*usual), other)
    assert found.state is GuardrailState.BLOCK
    assert found.estimate == pytest.approx(factor - 1, rel=0.06)
    assert found.champion == pytest.approx(557, rel=0.01), "the typical length, in characters"
    assert "harm is proven" in found.reason
    assert f"typically {found.challenger:,.0f} characters against 558" in found.reason


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.8])
def test_answers_that_are_a_little_longer_or_shorter_do_not(factor: float) -> None:
    usual = (120, 600, 2400)
    found = behaves("length", lengths(*usual), lengths(*(round(factor * n) for n in usual)))
    assert found.state is GuardrailState.PASS
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower < factor - 1 < found.upper


@pytest.mark.parametrize("name", ["declined", "malformed", "truncated", "language"])
def test_what_answers_do_more_often_blocks_and_takes_no_users_away(name: str) -> None:
    now_and_then, often = (*(0.0,) * 49, 1.0), (0.0, 0.0, 0.0, 1.0)
    found = behaves(name, now_and_then, often)
    assert found.state is GuardrailState.BLOCK
    assert found.estimate == pytest.approx(0.23)
    assert behaves(name, often, now_and_then).state is GuardrailState.PASS, "less of it is no harm"


def test_what_was_not_observed_holds_nothing() -> None:
    for name, kind in GUARDRAILS.items():
        [guardrail] = [each for each in guardrails_of(ABTestConfig()) if each.name == name]
        found = check(guardrail, Stages.one(Moments(), Moments()), GuardrailConfig())
        assert (found.state is GuardrailState.PASS) == kind.optional
        assert not kind.optional or found.reason == "no data in either arm yet; it is not needed"


def test_a_behaviour_that_is_named_rolls_back() -> None:
    config = ABTestConfig(guardrails=GuardrailConfig(roll_back=("declined",)))
    [guardrail] = [each for each in guardrails_of(config) if each.name == "declined"]
    champion = arm_stats(Arm.CHAMPION, 900, declined=(0.0,)).moments
    often = challenger(100, declined=(0.0, 1.0))
    assert check(guardrail, Stages.one(champion, often), config.guardrails).state is GuardrailState.ROLL_BACK
