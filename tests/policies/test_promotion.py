"""The watch window as a story: keep, finish, return, and never onto a dead champion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policies.experiment import ABTestConfig, ArmStats
from policies.holdback import watch_guardrails
from policies.promotion import WatchAssessment, WatchDecision, WatchFacts, WatchPart, watch
from policies.records import Arm
from tests.harness.arms import HOUR, MIXED, arm_stats, scaled

CONFIG = ABTestConfig()
BEFORE = arm_stats(Arm.CHAMPION, 400)
STEADY = arm_stats(Arm.CHAMPION, 400)
CONTROL = arm_stats(Arm.CONTROL, 100)


def look(
    after: ArmStats,
    hours: float,
    *,
    healthy: bool | None = True,
    before: ArmStats | None = BEFORE,
    control: ArmStats | None = CONTROL,
    earlier: tuple[WatchPart, ...] = (),
    part_began_h: float | None = None,
    config: ABTestConfig = CONFIG,
) -> WatchAssessment:
    began_at = None if part_began_h is None else part_began_h * HOUR
    facts = WatchFacts(promoted_at=0.0, before=before, control=control, after=after, earlier=earlier,
                       part_began_at=began_at, old_champion_healthy=healthy)  # fmt: skip
    return watch(facts, config, hours * HOUR)


def test_a_quiet_window_is_watched_to_its_end() -> None:
    early, late = look(STEADY, 10), look(STEADY, 24)
    assert early.decision is WatchDecision.KEEP
    assert early.reasons == (
        "14.0 hours of the watch window to go.",
        "10 % of the users stay on the old champion until then, to compare with (100 of their requests so far).",
    )
    assert early.remaining_hours == 14
    assert early.concurrent
    assert late.decision is WatchDecision.FINISH
    assert late.reasons == ("The watch window is over and no guardrail broke.",)
    assert late.remaining_hours == 0


HARMS = {
    "errors": arm_stats(Arm.CHAMPION, 100, errors=(1.0, 0.0, 0.0)),
    "slow answers": arm_stats(Arm.CHAMPION, 100, slow=(1.0, 0.0, 0.0)),
    "quality": arm_stats(Arm.CHAMPION, 400, quality=scaled(MIXED, 0.7)),
    "thumbs up": arm_stats(Arm.CHAMPION, 400, thumbs=(0.0, 0.0, 1.0)),
}


@pytest.mark.parametrize("what", HARMS)
def test_proven_harm_beyond_the_limit_returns_the_traffic_at_once(what: str) -> None:
    seen = look(HARMS[what], 1.0)
    assert seen.decision is WatchDecision.RETURN
    assert any(reason.startswith(f"Since the promotion: {what}: ") for reason in seen.reasons)
    assert look(HARMS[what], 30.0).decision is WatchDecision.RETURN


@pytest.mark.parametrize("what", ["errors", "slow answers"])
def test_what_becomes_worse_for_everybody_is_not_the_models_fault(what: str) -> None:
    """A busier hour: against the hours before the promotion it would read as harm."""
    busy = replace(HARMS[what], arm=Arm.CONTROL)
    assert look(HARMS[what], 1.0, control=busy).decision is WatchDecision.KEEP
    assert look(HARMS["errors"], 1.0, control=None).decision is WatchDecision.RETURN


def test_without_anybody_held_back_it_says_that_it_is_weaker_and_judges_no_latency() -> None:
    seen = look(HARMS["slow answers"], 1.0, control=None)
    assert seen.decision is WatchDecision.KEEP
    assert not seen.concurrent
    assert seen.reasons[1].startswith(
        "No users stay on the old champion, so these hours are compared with those before"
    )
    assert {result.name for result in seen.guardrails} == {"errors", "refused", "quality", "positive"}
    for what in ("errors", "quality", "thumbs up"):
        assert look(HARMS[what], 1.0, control=None).decision is WatchDecision.RETURN


def test_a_control_that_has_no_requests_yet_shows_nothing() -> None:
    seen = look(HARMS["errors"], 1.0, control=arm_stats(Arm.CONTROL, 0))
    assert seen.decision is WatchDecision.KEEP
    assert "(0 of their requests so far)" in seen.reasons[1]


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
    seen = look(STEADY, 25, before=None, control=None)
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


def bad_late(control: int, requests: int, failing: int) -> tuple[ArmStats, ArmStats]:
    """The arms of a watch whose model has failed `failing` of its `requests`, a user each; the control none."""
    errors = (*(1.0,) * failing, *(0.0,) * (requests - failing))
    return arm_stats(Arm.CONTROL, control, errors=(0.0,)), arm_stats(Arm.CHAMPION, requests, errors=errors)


def test_failures_that_the_hours_before_and_the_control_both_show_return_the_traffic() -> None:
    """A control of 60 alone would need more of them; and before a bad hour of both it is what protects the model."""
    control, after = bad_late(60, 540, 70)
    seen = look(after, 20.0, control=control)
    assert seen.decision is WatchDecision.RETURN
    assert "the old champion's users have too few of the failures" in seen.reasons[0]
    assert "against the hours before the promotion 13.0 % against 2.0 %" in seen.reasons[0]
    assert look(after, 20.0, control=control, before=None).decision is WatchDecision.KEEP
    bad_hour = arm_stats(Arm.CONTROL, 60, errors=(*(1.0,) * 8, *(0.0,) * 52))
    assert look(after, 20.0, control=bad_hour).decision is WatchDecision.KEEP


def test_a_window_goes_on_while_the_hours_before_show_harm_and_the_control_cannot_tell() -> None:
    """With four failures in a control of 60 the share of the failures says nothing yet."""
    control = arm_stats(Arm.CONTROL, 60, errors=(*(1.0,) * 4, *(0.0,) * 56))
    after = bad_late(60, 540, 60)[1]
    seen = look(after, 24.0, control=control)
    assert seen.decision is WatchDecision.KEEP
    assert "the watch goes on" in seen.reasons[-1]
    as_before = arm_stats(Arm.CHAMPION, 400, errors=(*(0.0,) * 9, 1.0))
    assert look(after, 24.0, control=control, before=as_before).decision is WatchDecision.FINISH


def test_a_window_goes_on_while_the_evidence_leans_to_harm() -> None:
    control, after = bad_late(60, 540, 45)
    leaning = look(after, 24.0, control=control)
    assert leaning.decision is WatchDecision.KEEP
    assert leaning.reasons[0].startswith("Since the promotion: errors: 8.3 % against 0 %")
    assert leaning.reasons[-1] == "Until that is proven or gone the watch goes on, for 2 days at most."
    assert look(after, 72.0, control=control).decision is WatchDecision.FINISH
    assert look(bad_late(60, 540, 13)[1], 24.0, control=control).decision is WatchDecision.FINISH


def test_a_control_of_too_few_users_leaves_it_to_the_hours_before() -> None:
    few = arm_stats(Arm.CONTROL, 4)
    early, late = look(HARMS["errors"], 5.0, control=few), look(HARMS["errors"], 6.0, control=few)
    assert early.decision is WatchDecision.KEEP
    assert late.decision is WatchDecision.RETURN
    assert late.reasons[0].endswith(
        "(weaker: compared with the hours before the promotion, for too few users stay on the old one: "
        "4 of 5 effective users)."
    )
    assert look(HARMS["slow answers"], 6.0, control=few).decision is WatchDecision.KEEP
    assert look(HARMS["errors"], 6.0, control=few, before=None).decision is WatchDecision.KEEP


def heavy(arm: Arm, users: int, failing: float) -> ArmStats:
    """Users who ask much, as a handful of services do; each fails with that part of what it asks."""
    return arm_stats(arm, users, requests_each=400, errors=scaled((0.5, 1.0, 1.5), failing))


@pytest.mark.parametrize("users", [0, 1, 2])
def test_few_users_who_ask_much_are_not_left_with_a_failing_model_for_hours(users: int) -> None:
    """By the quarter of the window there would be thousands of failures."""
    after, before = heavy(Arm.CHAMPION, 23, 0.3), heavy(Arm.CHAMPION, 13, 0.01)
    well = look(after, 0.5, control=heavy(Arm.CONTROL, users, 0.01), before=before)
    assert well.decision is WatchDecision.RETURN
    assert "weaker" in well.reasons[0]
    assert look(after, 0.5, control=heavy(Arm.CONTROL, users, 0.01), before=None).decision is WatchDecision.KEEP
    if users:
        as_bad = heavy(Arm.CONTROL, users, 0.3)
        assert look(after, 0.5, control=as_bad, before=before).decision is WatchDecision.KEEP, "a bad hour of both"


GOOD = WatchPart(control=arm_stats(Arm.CONTROL, 200), after=arm_stats(Arm.CHAMPION, 2000))
MANY, ITS_CONTROL = arm_stats(Arm.CHAMPION, 1000), arm_stats(Arm.CONTROL, 110)


def test_the_next_part_of_a_watch_begins_after_a_quarter_of_the_window_and_a_thousand_requests() -> None:
    assert look(MANY, 6.0, control=ITS_CONTROL).renews
    assert look(MANY, 6.0, control=ITS_CONTROL).parts == 1
    third = look(MANY, 19.0, control=ITS_CONTROL, earlier=(GOOD, GOOD), part_began_h=12.5)
    assert (third.renews, third.parts) == (True, 3)


NOT_DUE = {
    "its quarter is not over": {"hours": 5.9},
    "it began later than the watch": {"hours": 12.0, "earlier": (GOOD,), "part_began_h": 6.5},
    "too few requests, and those of the parts before do not count": {
        "after": arm_stats(Arm.CHAMPION, 999), "earlier": (GOOD,), "part_began_h": 6.0, "hours": 20.0,
    },
    "there are four": {"hours": 23.0, "earlier": (GOOD,) * 3, "part_began_h": 1.0},
    "nobody is held back": {"control": None},
    "too few users are held back to tell": {"control": arm_stats(Arm.CONTROL, 4)},
    "few of the control's users have come": {
        "control": arm_stats(Arm.CONTROL, 12), "earlier": (GOOD,), "part_began_h": 6.0, "hours": 20.0,
    },
    "errors lean to harm, and that proof is not to start again": {
        "after": bad_late(60, 1000, 90)[1], "control": bad_late(30, 1000, 90)[0],
    },
    "the window is over": {"hours": 24.0},
    "it is taken back": {"after": arm_stats(Arm.CHAMPION, 1000, errors=(1.0,))},
    "the clock is behind": {"hours": -30.0},
}  # fmt: skip


@pytest.mark.parametrize("why", NOT_DUE)
def test_no_part_of_a_watch_begins_while(why: str) -> None:
    given = {"after": MANY, "control": ITS_CONTROL, "hours": 7.0, **NOT_DUE[why]}
    after, hours = given.pop("after"), given.pop("hours")
    assert not look(after, hours, **given).renews  # type: ignore[arg-type]


def test_good_hours_do_not_hide_a_model_that_turns_bad() -> None:
    """70 of 450 answers fail after 2,000 good ones. In one part, all of these excuse some."""
    control, after = bad_late(50, 450, 70)
    seen = look(after, 14.0, control=control, earlier=(GOOD,), part_began_h=12.0)
    assert seen.decision is WatchDecision.RETURN
    assert "the old champion's users have too few of the failures" in seen.reasons[0]
    pooled = look(
        replace(after, requests=2450, moments=after.moments + GOOD.after.moments),
        14.0,
        control=replace(control, requests=250, moments=control.moments + GOOD.control.moments),
    )
    assert pooled.decision is WatchDecision.KEEP


def test_a_part_that_is_over_goes_on_counting() -> None:
    """Records come late, and what has been proven stays proven."""
    control, after = bad_late(50, 450, 90)
    bad = WatchPart(control=control, after=after)
    assert look(arm_stats(Arm.CHAMPION, 20), 14.0, control=arm_stats(Arm.CONTROL, 3), earlier=(bad,),
                part_began_h=13.9).decision is WatchDecision.RETURN  # fmt: skip


def test_the_differences_of_the_parts_are_put_together() -> None:
    """What neither part proves, both do; and what is served in all of them ends the window."""
    worse = arm_stats(Arm.CHAMPION, 360, quality=scaled(MIXED, 0.895))
    alone = look(worse, 20.0, control=arm_stats(Arm.CONTROL, 40))
    part = WatchPart(control=arm_stats(Arm.CONTROL, 40), after=worse)
    both = look(worse, 20.0, control=arm_stats(Arm.CONTROL, 40), earlier=(part,) * 3, part_began_h=19.0)
    assert (alone.decision, both.decision) == (WatchDecision.KEEP, WatchDecision.RETURN)
    assert "quality" in both.reasons[0]
    few = arm_stats(Arm.CHAMPION, 30)
    assert look(few, 25.0, earlier=(GOOD,), part_began_h=24.0).decision is WatchDecision.FINISH


def test_what_was_served_in_all_parts_is_said() -> None:
    seen = look(arm_stats(Arm.CHAMPION, 30), 10.0, control=arm_stats(Arm.CONTROL, 3), earlier=(GOOD,))
    assert "(203 of their requests so far)" in seen.reasons[1]
    facts = WatchFacts(promoted_at=0.0, before=None, control=arm_stats(Arm.CONTROL, 3), earlier=(GOOD,),
                       after=arm_stats(Arm.CHAMPION, 30), old_champion_healthy=True)  # fmt: skip
    assert (facts.requests, facts.users, facts.control_requests, facts.control_users) == (2030, 2000, 203, 200)
    alone = replace(facts, control=None)
    assert (alone.control_requests, alone.control_users) == (None, None)


def test_without_a_control_any_more_all_hours_are_compared_with_those_before() -> None:
    """The old champion may die shortly after a part has begun."""
    bad = WatchPart(control=arm_stats(Arm.CONTROL, 50), after=bad_late(50, 450, 90)[1])
    new = arm_stats(Arm.CHAMPION, 5)
    seen = look(new, 24.0, control=None, earlier=(bad,), part_began_h=23.9)
    assert seen.decision is WatchDecision.RETURN
    assert "19.8 % against 2.0 %" in seen.reasons[0]
    assert look(new, 24.0, control=None, earlier=(GOOD,), part_began_h=23.9).decision is WatchDecision.FINISH


def test_a_users_answers_in_several_parts_are_not_taken_for_several_users() -> None:
    """Whose answers are worse is worse in each part: without the control that is less proof than of as many users."""
    worse = arm_stats(Arm.CHAMPION, 100, requests_each=20, quality=scaled(MIXED, 0.82))
    part = WatchPart(control=arm_stats(Arm.CONTROL, 1), after=worse)
    parts = look(worse, 12.0, control=None, earlier=(part,) * 3)
    users = look(arm_stats(Arm.CHAMPION, 400, requests_each=20, quality=scaled(MIXED, 0.82)), 12.0, control=None)
    of = [next(rail for rail in seen.guardrails if rail.name == "quality") for seen in (parts, users)]
    assert of[0].estimate == pytest.approx(of[1].estimate, abs=0.005)
    assert 0.0 < (of[0].log_e_harm or 0.0) < (of[1].log_e_harm or 0.0)


def test_a_part_that_has_just_begun_does_not_make_of_enough_users_too_few() -> None:
    """Six users who ask much, of whom two have come again. The hours before alone would take a bad hour of both
    models for the new one's."""
    part = WatchPart(control=heavy(Arm.CONTROL, 6, 0.01), after=heavy(Arm.CHAMPION, 54, 0.01))
    control, after = heavy(Arm.CONTROL, 2, 0.3), heavy(Arm.CHAMPION, 40, 0.3)
    assert look(after, 14.0, control=control, earlier=(part,), part_began_h=12.0).decision is WatchDecision.KEEP
    well = heavy(Arm.CONTROL, 2, 0.01)
    assert look(after, 14.0, control=well, earlier=(part,), part_began_h=12.0).decision is WatchDecision.RETURN


@pytest.mark.parametrize("users", [0, 1, 4, 12])
def test_a_model_that_turns_bad_while_the_control_sleeps_is_sent_back(users: int) -> None:
    """A part without the control's users says nothing by itself; the one before says what their share is."""
    bad, slept = arm_stats(Arm.CHAMPION, 900, errors=(1.0, 0.0, 0.0)), arm_stats(Arm.CONTROL, users)
    assert look(bad, 20.0, control=slept, earlier=(GOOD,), part_began_h=12.0).decision is WatchDecision.RETURN
    begun = arm_stats(Arm.CHAMPION, 60, errors=(1.0, 0.0, 0.0))
    few = arm_stats(Arm.CONTROL, min(users, 4))
    assert look(begun, 24.1, control=few, earlier=(GOOD,), part_began_h=23.0).decision is WatchDecision.KEEP
    well = arm_stats(Arm.CHAMPION, 900)
    assert look(well, 24.1, control=slept, earlier=(GOOD,), part_began_h=12.0).decision is WatchDecision.FINISH
