"""Brakes: what counts as not better, what lifts it, and a month that is full."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.actions import (
    Action,
    FailCheck,
    FailPromotion,
    FailRun,
    FinishWatch,
    HaltWatch,
    PrepareData,
    Reject,
    ReturnTraffic,
    RollBack,
    SetPaused,
)
from policies.brakes import MONTH_S, Brake, month_full_until, stop_in_words
from policies.effects import Done, Effect, Prepared
from policies.rows import Check, CheckKind, Experiment, Model, Run
from policies.state import (
    Checking,
    Idle,
    LastRun,
    Ledger,
    LoopState,
    PhaseState,
    Promoting,
    Training,
    Watching,
)
from policies.state import Testing as UnderTest
from policies.transition import Context, Position, apply
from policies.triggers import Trigger, TriggerConfig, TriggerFacts, TriggerReport, evaluate_triggers
from tests.harness.arms import HOUR

DAY = 24 * HOUR
TRAINED = Model(id=2, name="model-1", run_id="run-1")
BROUGHT = replace(TRAINED, run_id=None)
AGAIN = replace(TRAINED, detail={"redeployed": True})
BASE = Model(id=1, name="base")
DUE = TriggerFacts(installed_at=0.0, new_quality_samples=5000, usable_samples=500)
AT_WORK = UnderTest(challenger_id=2, experiment_id=7, run_id="run-1")
PROMOTED = Watching(previous_id=1, experiment_id=7, promoted_at=0.0, before=None)


def position(phase: PhaseState, model: Model = TRAINED, rejections: int = 2) -> Position:
    watching = isinstance(phase, Watching)
    ledger = Ledger(installed_at=0.0, champion_id=2 if watching else 1, rejections_in_a_row=rejections)
    return Position(
        state=LoopState(phase=phase, since=1.0, ledger=ledger),
        champion=model if watching else BASE,
        challenger=None if watching else model,
        previous=BASE if watching else None,
        check=Check(id=3, kind=CheckKind.GATE, challenger_id=2, champion_id=1, started_us=1),
        experiment=Experiment(id=7, champion_model_id=1, challenger_model_id=2, salt="00", share=0.1),
        run=Run(id="run-1", state="training", trigger="schedule", started_us=1),
    )


def in_a_row(phase: PhaseState, action: Action, effect: Effect, *, model: Model = TRAINED, manual: bool = False) -> int:
    done = apply(position(phase, model), action, effect, Context(at=2.0, why="because", manual=manual))
    assert done.event.value != "refused", done.reason
    return done.state.ledger.rejections_in_a_row


CHECKED = Checking(challenger_id=2, check_id=3, run_id="run-1")
NOT_BETTER: list[tuple[PhaseState, Action, Effect]] = [
    (CHECKED, FailCheck(model_id=2, check_id=3, reason="31 of 200 answers are empty"), Done()),
    (AT_WORK, Reject(model_id=2, experiment_id=7), Done()),
    (AT_WORK, RollBack(model_id=2, experiment_id=7), Done()),
    (PROMOTED, ReturnTraffic(model_id=1), Done()),
]


@pytest.mark.parametrize(("phase", "action", "effect"), NOT_BETTER)
def test_every_way_of_not_being_better_counts_if_a_training_made_it(
    phase: PhaseState, action: Action, effect: Effect
) -> None:
    assert in_a_row(phase, action, effect) == 3
    assert in_a_row(phase, action, effect, model=BROUGHT) == 2, "a person brought it: it says nothing of the recipe"
    assert in_a_row(phase, action, effect, model=AGAIN) == 2, "it was counted when it was new"


@pytest.mark.parametrize(
    ("phase", "action"),
    [(AT_WORK, RollBack(model_id=2, experiment_id=7)), (PROMOTED, ReturnTraffic(model_id=1))],
)
def test_what_a_person_withdraws_counts_neither_for_nor_against_the_recipe(phase: PhaseState, action: Action) -> None:
    assert in_a_row(phase, action, Done(), manual=True) == 2


def test_a_failure_is_no_rejection() -> None:
    training = Training(run_id="run-1", before=LastRun())
    assert in_a_row(training, FailRun(run_id="run-1", reason="exit status 1"), Done()) == 2
    dead = Promoting(challenger_id=2, experiment_id=7, run_id="run-1")
    assert in_a_row(dead, FailPromotion(model_id=2, reason="it no longer answers"), Done()) == 2
    assert in_a_row(AT_WORK, RollBack(model_id=2, experiment_id=7, silent=True), Done()) == 2, "its server is gone"
    assert in_a_row(PROMOTED, ReturnTraffic(model_id=1, silent=True), Done()) == 2


@pytest.mark.parametrize("action", [FinishWatch(model_id=1), HaltWatch(model_id=1)])
def test_a_promotion_that_stays_lifts_it(action: Action) -> None:
    assert in_a_row(PROMOTED, action, Done()) == 0


def test_a_person_lifts_it_by_a_training_or_by_going_on() -> None:
    made = Prepared(manifest={"samples": 150, "data_path": "d"}, usable=150, left_out={}, trainer="command")
    prepare = PrepareData(run_id="run-2", trigger="manual")
    assert in_a_row(Idle(), prepare, made, manual=True) == 0
    assert in_a_row(Idle(), replace(prepare, train=False), made, manual=True) == 2, "a rehearsal of the data only"
    assert in_a_row(Idle(), replace(prepare, trigger="schedule"), made) == 2
    assert in_a_row(Idle(), SetPaused(paused=False), Done(), manual=True) == 0
    assert in_a_row(Idle(), SetPaused(paused=True), Done(), manual=True) == 2


def look(facts: TriggerFacts, hours: float = 1.0, **settings: int | None) -> TriggerReport:
    return evaluate_triggers(facts, replace(TriggerConfig(), **settings), hours * HOUR)  # type: ignore[arg-type]


def test_after_three_in_a_row_a_person_is_asked() -> None:
    assert look(replace(DUE, rejections_in_a_row=2)).fired is Trigger.SAMPLE_COUNT
    report = look(replace(DUE, rejections_in_a_row=3, usable_samples=5))
    assert (report.fired, report.brake, report.hold_until) == (None, Brake.REJECTIONS, None)
    assert report.hold == (
        "Three challengers in a row were not better than the champion: triggers start no training until a person has "
        "looked (trigger_config.stop_after_rejections is 3). `ratchet trigger` or `ratchet resume` goes on."
    )
    assert look(replace(DUE, rejections_in_a_row=1), stop_after_rejections=1).hold == (
        "The last challenger was not better than the champion: triggers start no training until a person has "
        "looked (trigger_config.stop_after_rejections is 1). `ratchet trigger` or `ratchet resume` goes on."
    )
    assert look(replace(DUE, rejections_in_a_row=99), stop_after_rejections=0).fired is Trigger.SAMPLE_COUNT
    assert (stop_in_words(12, 3) or "").startswith("12 challengers in a row")


def test_a_month_holds_as_many_trainings_as_the_setting_says() -> None:
    facts = replace(DUE, last_retrain_at=2 * DAY, runs_at=(1 * DAY, 2 * DAY))
    report = look(facts, 24 * 10, max_runs_per_month=2)
    assert (report.fired, report.brake, report.hold_until) == (None, Brake.MONTH, 31 * DAY)
    assert report.hold == (
        "Triggers have started 2 trainings in 30 days, as many as trigger_config.max_runs_per_month allows "
        "(`ratchet trigger` does not wait): 21 days to go."
    )
    assert look(facts, 24 * 10, max_runs_per_month=3).fired is Trigger.SAMPLE_COUNT
    freed = look(facts, 24 * 31, max_runs_per_month=2)
    assert (freed.fired, freed.brake) == (Trigger.SAMPLE_COUNT, None)
    assert (look(facts, 24 * 10, max_runs_per_month=1).hold or "").startswith("Triggers have started a training in 30")


def test_trainings_that_nobody_has_counted_hold() -> None:
    report = look(DUE, max_runs_per_month=2)
    assert (report.fired, report.hold) == (None, "The trainings of the last 30 days have not been counted yet.")
    assert look(replace(DUE, runs_at=()), max_runs_per_month=2).fired is Trigger.SAMPLE_COUNT


def test_a_clock_set_back_behind_the_months_trainings_holds_and_says_so() -> None:
    report = look(replace(DUE, runs_at=(100 * DAY,)), 24, max_runs_per_month=1)
    assert (report.fired, report.brake) == (None, Brake.MONTH)
    assert (report.hold or "").startswith("The clock is 99 days behind the last retrain")


@given(st.lists(st.integers(0, 90 * 24), max_size=20), st.integers(1, 10), st.integers(0, 120 * 24))
def test_no_thirty_days_have_more_trainings_than_the_month_allows(wanted: list[float], most: int, later: float) -> None:
    """Whenever one is wanted: those that start never leave more than `most` in any 30 days."""
    starts: list[float] = []
    for at in (hour * HOUR for hour in sorted(wanted)):
        until = month_full_until(starts[-most:], most, at)
        assert until == month_full_until(starts, most, at), "the newest suffice"
        if until is None:
            starts.append(at)
        else:
            assert until > at
            assert month_full_until(starts, most, until) is None, "and then one fits"
    assert sum(later * HOUR - MONTH_S < start <= later * HOUR for start in starts) <= most
