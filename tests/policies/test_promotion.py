"""The watch window as a story: keep, finish, return, and never onto a dead champion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.experiment import ABTestConfig, ArmStats
from policies.promotion import WatchAssessment, WatchDecision, WatchFacts, watch, watch_guardrails
from policies.records import Arm
from tests.harness.arms import HOUR, MIXED, arm_stats, scaled

CONFIG = ABTestConfig()
BEFORE = arm_stats(Arm.CHAMPION, 400)
STEADY = arm_stats(Arm.CHAMPION, 400)


def look(
    after: ArmStats,
    hours: float,
    *,
    healthy: bool | None = True,
    before: ArmStats | None = BEFORE,
    config: ABTestConfig = CONFIG,
) -> WatchAssessment:
    facts = WatchFacts(promoted_at=0.0, before=before, after=after, old_champion_healthy=healthy)
    return watch(facts, config, hours * HOUR)


def test_a_quiet_window_is_watched_to_its_end() -> None:
    early, late = look(STEADY, 10), look(STEADY, 24)
    assert early.decision is WatchDecision.KEEP
    assert early.reasons == ("14.0 hours of the watch window to go.",)
    assert early.remaining_hours == 14
    assert late.decision is WatchDecision.FINISH
    assert late.reasons == ("The watch window is over and no guardrail broke.",)
    assert late.remaining_hours == 0


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (arm_stats(Arm.CHAMPION, 100, errors=(1.0, 0.0, 0.0)), "errors"),
        (arm_stats(Arm.CHAMPION, 100, slow=(1.0, 0.0, 0.0)), "slow answers"),
        (arm_stats(Arm.CHAMPION, 200, quality=scaled(MIXED, 0.7)), "quality"),
        (arm_stats(Arm.CHAMPION, 400, thumbs=(0.0, 0.0, 1.0)), "thumbs up"),
    ],
    ids=["errors", "slow", "quality", "thumbs"],
)
def test_proven_harm_beyond_the_limit_returns_the_traffic_at_once(after: ArmStats, what: str) -> None:
    seen = look(after, 1.0)
    assert seen.decision is WatchDecision.RETURN
    assert any(reason.startswith(f"Since the promotion: {what}: ") for reason in seen.reasons)
    assert look(after, 30.0).decision is WatchDecision.RETURN


def test_worse_within_the_limit_is_no_reason_to_return() -> None:
    """Another weekday alone moves the numbers that much."""
    slightly = arm_stats(Arm.CHAMPION, 4000, quality=scaled(MIXED, 0.96))
    assert look(slightly, 24).decision is WatchDecision.FINISH


@pytest.mark.parametrize(("healthy", "why"), [(False, "does not answer"), (None, "was not checked")])
def test_traffic_never_returns_onto_a_dead_champion(healthy: bool | None, why: str) -> None:
    seen = look(arm_stats(Arm.CHAMPION, 100, errors=(1.0, 0.0)), 1.0, healthy=healthy)
    assert seen.decision is WatchDecision.HALT
    assert seen.reasons[-1] == f"The old champion {why}, so traffic stays where it is."


def test_a_night_without_traffic_watches_nothing() -> None:
    seen = look(arm_stats(Arm.CHAMPION, 30), 48)
    assert seen.decision is WatchDecision.KEEP
    assert seen.reasons == ("Only 30 requests since the promotion, 100 needed before the window can end.",)


def test_without_earlier_numbers_the_window_ends_by_time() -> None:
    seen = look(STEADY, 25, before=None)
    assert seen.decision is WatchDecision.FINISH
    assert seen.guardrails == ()
    assert "no earlier numbers" in seen.reasons[0]


def test_a_clock_that_was_set_back_keeps_watching() -> None:
    seen = look(STEADY, -5)
    assert seen.decision is WatchDecision.KEEP
    assert seen.elapsed_hours == 0
    assert "behind the time of the promotion" in seen.reasons[0]


def test_a_promotion_made_by_a_clock_that_ran_ahead_need_not_be_watched_for_ever() -> None:
    seen = look(STEADY, -8760)
    assert "ab_test_config.watch_hours = 0 ends the window" in seen.reasons[0]
    assert look(STEADY, -8760, config=replace(CONFIG, watch_hours=0.0)).decision is WatchDecision.FINISH


def test_the_watch_spends_alpha_harm_once() -> None:
    guardrails = watch_guardrails(replace(CONFIG, alpha_harm=0.1))
    assert sum(guardrail.alpha for guardrail in guardrails) == pytest.approx(0.1)
    assert all(guardrail.rolls_back and guardrail.tolerance == guardrail.limit for guardrail in guardrails)
