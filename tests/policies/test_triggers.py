"""Triggers: each fires on what it names and on nothing less; the holds; clocks that jump; an empty history."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields, replace
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.triggers import (
    DropDetector,
    Trigger,
    TriggerConfig,
    TriggerFacts,
    TriggerProgress,
    TriggerReport,
    evaluate_triggers,
    too_few_samples,
)
from proxy.loop.backtest import simulate
from proxy.loop.look import observe
from tests.harness.arms import HOUR

CONFIG = TriggerConfig()
EVERYTHING = replace(CONFIG, enable_error_rate=True)
QUIET = TriggerFacts(installed_at=0.0, new_quality_samples=10, usable_samples=500)
ALARMED = DropDetector(baseline=0.8, levels=(10.0,) * 4, hours=50)
CALM = DropDetector(baseline=0.8)
DROPPED = replace(QUIET, quality_baseline=0.8, quality_recent=0.7, detector=ALARMED)


def look(facts: TriggerFacts, hours: float = 1.0, config: TriggerConfig = CONFIG) -> TriggerReport:
    return evaluate_triggers(facts, config, hours * HOUR)


def of(report: TriggerReport, name: Trigger) -> TriggerProgress:
    return next(progress for progress in report.progress if progress.name is name)


def test_nothing_fires_on_a_quiet_day() -> None:
    report = look(QUIET)
    assert report.fired is None
    assert report.hold is None
    assert [progress.name for progress in report.progress] == list(Trigger)[1:], "all but manual, which is a command"
    assert of(report, Trigger.SAMPLE_COUNT).fraction == pytest.approx(0.01)
    assert of(report, Trigger.SAMPLE_COUNT).reason == "10 new quality samples, 1,000 needed."
    assert of(report, Trigger.NEGATIVE_FEEDBACK).reason.startswith("Off. 0 votes in 24 hours, 50 needed")


def test_an_empty_history_fires_nothing_whatever_the_settings() -> None:
    eager = replace(
        EVERYTHING,
        min_new_samples=0,
        schedule_interval_hours=0.0,
        quality_drop_threshold=0.0,
        negative_feedback_threshold=0.0,
        min_feedback_votes=0,
    )
    for usable in (None, 0):
        report = look(TriggerFacts(installed_at=0.0, usable_samples=usable, new_quality_samples=usable), 1e6, eager)
        assert report.fired is None
        assert not of(report, Trigger.SAMPLE_COUNT).due
        assert not of(report, Trigger.NEGATIVE_FEEDBACK).due
        assert report.hold == (
            "The usable samples have not been counted yet."
            if usable is None
            else "0 usable samples, 100 needed for a training that can show a gain."
        )


def test_enough_new_samples_fire() -> None:
    assert look(replace(QUIET, new_quality_samples=999)).fired is None
    assert look(replace(QUIET, new_quality_samples=1000)).fired is Trigger.SAMPLE_COUNT
    assert (
        look(replace(QUIET, new_quality_samples=1000), config=replace(CONFIG, enable_sample_count=False)).fired is None
    )


def test_uncounted_samples_fire_nothing() -> None:
    report = look(replace(QUIET, new_quality_samples=None))
    assert report.fired is None
    assert of(report, Trigger.SAMPLE_COUNT).reason == "New quality samples have not been counted yet."


def test_the_schedule_starts_at_installation_and_again_at_each_retrain() -> None:
    assert look(QUIET, 167).fired is None
    report = look(QUIET, 168)
    assert report.fired is Trigger.SCHEDULE
    assert report.schedule_at == 168 * HOUR
    assert of(report, Trigger.SCHEDULE).reason == "7 days since installation, due after 7 days."
    later = replace(QUIET, last_retrain_at=100 * HOUR)
    assert look(later, 200).fired is None
    assert of(look(later, 200), Trigger.SCHEDULE).reason == "4 days since the last retrain, due after 7 days."
    assert look(later, 268).fired is Trigger.SCHEDULE
    off = look(QUIET, 1000, replace(CONFIG, enable_scheduled=False))
    assert (off.fired, off.schedule_at) == (None, None)


def test_a_quality_drop_needs_both_witnesses() -> None:
    assert look(DROPPED).fired is Trigger.QUALITY_DROP
    calm = look(replace(DROPPED, detector=CALM))
    assert calm.fired is None
    assert of(calm, Trigger.QUALITY_DROP).fraction == pytest.approx(0.99)
    assert of(calm, Trigger.QUALITY_DROP).reason.endswith("12.5 % lower; the change detector does not agree.")
    small = look(replace(DROPPED, quality_recent=0.75))
    assert small.fired is None
    assert of(small, Trigger.QUALITY_DROP).fraction == pytest.approx(0.625)
    better = of(look(replace(DROPPED, quality_recent=0.9)), Trigger.QUALITY_DROP)
    assert (better.due, better.fraction) == (False, 0.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quality_baseline": None}, "There is no baseline yet."),
        ({"quality_recent": None}, "There is no score in the last 24 hours yet."),
        ({"detector": None}, "There is no change detector yet."),
        ({"experiment_running": True}, "Not used during an experiment: the comparison of the two models decides."),
    ],
)
def test_a_drop_that_cannot_be_judged_does_not_fire(change: dict[str, object], reason: str) -> None:
    report = look(replace(DROPPED, **change))  # type: ignore[arg-type]
    assert report.fired is None
    assert of(report, Trigger.QUALITY_DROP).reason == reason
    assert of(report, Trigger.QUALITY_DROP).fraction == 0.0


def test_negative_votes_fire_only_where_asked_for_and_plenty() -> None:
    angry = replace(QUIET, positive_votes=40, negative_votes=10)
    assert look(angry).fired is None
    assert look(angry, config=EVERYTHING).fired is Trigger.NEGATIVE_FEEDBACK
    assert look(replace(angry, positive_votes=39), config=EVERYTHING).fired is None
    assert look(replace(angry, positive_votes=41), config=EVERYTHING).fired is None


def test_one_reason_is_named_when_several_hold() -> None:
    assert look(replace(DROPPED, new_quality_samples=5000), 999).fired is Trigger.QUALITY_DROP


def test_the_cool_down_holds_every_trigger() -> None:
    rested = replace(QUIET, new_quality_samples=5000, last_retrain_at=0.0)
    report = look(rested, 10)
    assert report.fired is None
    assert report.hold == "Cool-down after the last retrain: 14.0 hours to go."
    assert report.hold_until == 24 * HOUR
    assert of(report, Trigger.SAMPLE_COUNT).due
    assert look(rested, 24).fired is Trigger.SAMPLE_COUNT


@pytest.mark.parametrize(("failures", "hours"), [(1, 1), (2, 2), (4, 8), (6, 24), (4000, 24)])
def test_failures_back_off_twice_as_long_each_time_up_to_a_day(failures: int, hours: float) -> None:
    failed = replace(QUIET, new_quality_samples=5000, failures_in_a_row=failures, last_failure_at=0.0)
    assert (
        look(failed, hours - 0.01).hold
        == f"Back-off after {failures} failure{'s' if failures > 1 else ''} in a row: 36 seconds to go."
    )
    assert look(failed, hours).fired is Trigger.SAMPLE_COUNT
    assert look(replace(failed, failures_in_a_row=0), 0.1).fired is Trigger.SAMPLE_COUNT


def test_the_longer_rest_counts() -> None:
    facts = replace(
        QUIET, new_quality_samples=5000, last_retrain_at=0.0, last_failure_at=23 * HOUR, failures_in_a_row=2
    )
    assert look(facts, 24.5).hold == "Back-off after 2 failures in a row: 30 minutes to go."


def test_too_few_usable_samples_hold_without_a_cool_down() -> None:
    few = replace(QUIET, new_quality_samples=5000, usable_samples=99)
    report = look(few)
    assert report.fired is None
    assert report.hold == "99 usable samples, 100 needed for a training that can show a gain."
    assert report.hold_until is None
    assert too_few_samples(100, CONFIG) is None
    assert (too_few_samples(1, CONFIG) or "").startswith("1 usable sample, 100 needed")


def test_what_left_the_samples_out_is_named_most_frequent_first() -> None:
    left_out = {"near_duplicate": 12, "own_share": 290, "empty": 1, "low_quality": 30, "unscored": 2}
    few = replace(QUIET, usable_samples=40, left_out=left_out)
    assert look(few).hold == (
        "40 usable samples, 100 needed for a training that can show a gain; left out of the last dataset:"
        " 290 own_share (generator_config.max_own_share: models trained here wrote them),"
        " 30 low_quality (generator_config.min_quality_score), 12 near_duplicate,"
        " 2 unscored (generator_config.min_quality_score)."
    )


def test_a_clock_set_back_fires_nothing_and_says_so() -> None:
    facts = replace(QUIET, installed_at=1000 * HOUR)
    report = look(facts, 10)
    assert report.fired is None
    assert of(report, Trigger.SCHEDULE).reason.startswith("The clock is 41 days behind installation: no time")
    retrained = look(replace(QUIET, new_quality_samples=5000, last_retrain_at=100 * HOUR), 95)
    assert retrained.fired is None
    holding = "no retrain starts until it is right (`ratchet trigger` does not wait)"
    assert retrained.hold == f"The clock is 5.0 hours behind the last retrain: {holding}."


maybe_count = st.none() | st.integers(0, 10**6)
maybe_score = st.none() | st.floats(0, 1)
instants = st.floats(-1e12, 1e12)


@given(
    st.builds(
        TriggerFacts,
        installed_at=instants,
        last_retrain_at=st.none() | instants,
        new_quality_samples=maybe_count,
        usable_samples=maybe_count,
        quality_baseline=maybe_score,
        quality_recent=maybe_score,
        detector=st.sampled_from([None, CALM, ALARMED]),
        positive_votes=st.integers(0, 1000),
        negative_votes=st.integers(0, 1000),
        failures_in_a_row=st.integers(0, 10**6),
        last_failure_at=st.none() | instants,
        rejections_in_a_row=st.integers(0, 5),
        experiment_running=st.booleans(),
    ),
    instants,
)
def test_what_fires_is_due_and_not_held(facts: TriggerFacts, now: float) -> None:
    report = evaluate_triggers(facts, EVERYTHING, now)
    assert all(0 <= progress.fraction <= 1 for progress in report.progress)
    assert all(progress.reason for progress in report.progress)
    if report.fired is not None:
        assert report.hold is None
        assert of(report, report.fired).due
        assert facts.usable_samples is not None
        assert facts.usable_samples >= CONFIG.min_usable_samples
        if facts.last_retrain_at is not None:
            assert now >= facts.last_retrain_at + 24 * HOUR


def found_out(module: ModuleType) -> set[str | None]:
    """The facts that the code of this module finds out."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    made = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == TriggerFacts.__name__]
    return {keyword.arg for call in made for keyword in call.keywords}


def test_the_loop_and_the_simulation_find_out_every_fact() -> None:
    """A fact that nobody finds out is unknown for ever, and its trigger never fires."""
    facts = {field.name for field in fields(TriggerFacts)}
    only_of_a_loop_that_trains = {
        "left_out",
        "failures_in_a_row",
        "last_failure_at",
        "rejections_in_a_row",
        "experiment_running",
    }
    assert found_out(observe) == facts
    assert found_out(simulate) == facts - only_of_a_loop_that_trains
