"""What follows from an action: as the table of events says, once however often, and totals only grow."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.actions import (
    TAGS,
    AbandonModel,
    AcceptModel,
    Action,
    BeginEpoch,
    BeginPromotion,
    CancelRun,
    Challenge,
    FailCheck,
    FailPromotion,
    FailRun,
    FinishWatch,
    HaltWatch,
    PrepareData,
    Promote,
    RaiseShare,
    Recover,
    Redeploy,
    Refuse,
    Reject,
    ReleaseControl,
    RenewWatch,
    RestartDeployment,
    Retire,
    ReturnTraffic,
    RollBack,
    SetPaused,
    SetShare,
    StartCheck,
    StartDeployment,
    StartExperiment,
    StartShadow,
    StartTraining,
)
from policies.effects import (
    Begun,
    Challenged,
    Counted,
    Declined,
    Done,
    Effect,
    Measured,
    Prepared,
    Redeployed,
    Reserved,
    Served,
    Stopped,
    Taken,
    Trained,
)
from policies.lifecycle import TRANSITIONS, Event, Phase
from policies.ramp import set_by_hand
from policies.rows import Check, CheckKind, Experiment, Model, ModelState, Run
from policies.state import (
    Checking,
    Deploying,
    Idle,
    LastRun,
    Ledger,
    LoopState,
    PhaseState,
    Promoting,
    Retiring,
    Shadowing,
    Training,
    Watching,
)
from policies.state import Testing as UnderTest
from policies.transition import Context, Position, Transition, apply, postpone, stale
from policies.transition.testing import begin_promotion
from policies.transition.values import moved, phase_of

CHAMPION, CHALLENGER, PREVIOUS, LEFT, EXPERIMENT, EPOCH, CHECK, RUN = 1, 2, 3, 4, 7, 5, 8, "run-1"
NOW = Context(at=1_000.0, why="because", version=9, drain_s=30.0)
SERVED = Served(url="http://model", model=None, credential=None)
HANDLE = {"pid": 1}
MODEL = Model(id=CHALLENGER, name="model-1", run_id=RUN)
MINE = Model(id=6, name="mine")
ROW = Run(id=RUN, state="prepared", trigger="manual", started_us=1, trainer="command")


def manifest(samples: int) -> Prepared:
    document = {"samples": samples, "data_path": "/data/train.jsonl"}
    return Prepared(manifest=document, usable=samples, left_out={}, trainer="command")


PHASES: dict[Phase, PhaseState] = {
    Phase.IDLE: Idle(),
    Phase.TRAINING: Training(run_id=RUN, before=LastRun(dataset_at=1.0)),
    Phase.DEPLOYING: Deploying(challenger_id=CHALLENGER, run_id=RUN),
    Phase.CHECKING: Checking(challenger_id=CHALLENGER, check_id=CHECK, run_id=RUN),
    Phase.SHADOWING: Shadowing(challenger_id=CHALLENGER, check_id=CHECK, run_id=RUN),
    Phase.TESTING: UnderTest(challenger_id=CHALLENGER, experiment_id=EXPERIMENT, run_id=RUN),
    Phase.PROMOTING: Promoting(challenger_id=CHALLENGER, experiment_id=EXPERIMENT, run_id=RUN),
    Phase.WATCHING: Watching(
        previous_id=PREVIOUS, experiment_id=EXPERIMENT, promoted_at=900.0, before=None, holdback_share=0.1
    ),
}

ACTIONS: dict[Action, tuple[Effect, ...]] = {
    PrepareData(run_id="run-2", trigger="manual"): (manifest(10_000), manifest(1), Declined(reason="no disk")),
    PrepareData(run_id="run-3", trigger="manual", train=False): (manifest(10_000),),
    StartTraining(run_id=RUN): (Taken(handle=HANDLE), Declined(reason="no such image")),
    AcceptModel(run_id=RUN): (Trained(model=MODEL, result={"loss": 1.0}),),
    FailRun(run_id=RUN, reason="lost"): (Done(),),
    CancelRun(run_id=RUN): (Done(), Stopped(), Stopped(failed=True)),
    CancelRun(run_id=RUN, model_id=CHALLENGER): (Stopped(), Stopped(failed=True)),
    StartDeployment(model_id=CHALLENGER): (Taken(handle=HANDLE), Declined(reason="no such file")),
    RestartDeployment(model_id=CHALLENGER, reason="no memory"): (Done(),),
    Redeploy(run_id=RUN): (Redeployed(run=ROW, model=MODEL, handle=HANDLE), Declined(reason="there is no run")),
    Challenge(name="mine", url="http://mine"): (Challenged(model=MINE, handle=HANDLE), Declined(reason="no endpoint")),
    StartCheck(model_id=CHALLENGER): (Reserved(check_id=CHECK, served=SERVED),),
    StartShadow(model_id=CHALLENGER, share=1.0): (Reserved(check_id=CHECK + 1, served=SERVED),),
    FailCheck(model_id=CHALLENGER, check_id=CHECK, reason="it is worse"): (Stopped(), Stopped(failed=True)),
    AbandonModel(model_id=CHALLENGER, reason="never healthy"): (Stopped(), Stopped(failed=True)),
    StartExperiment(model_id=CHALLENGER, share=0.1): (Begun(experiment_id=EXPERIMENT, served=SERVED, slow_s=1.0),),
    SetShare(experiment_id=EXPERIMENT, epoch=EPOCH, share=0.3): (Measured(slow_s=None),),
    RaiseShare(experiment_id=EXPERIMENT, epoch=EPOCH, share=0.5): (Measured(slow_s=None),),
    BeginEpoch(experiment_id=EXPERIMENT, epoch=EPOCH, reason="other weights"): (Measured(slow_s=2.0),),
    BeginPromotion(model_id=CHALLENGER, experiment_id=None): (SERVED,),
    BeginPromotion(model_id=CHALLENGER, experiment_id=EXPERIMENT): (Done(),),
    Promote(model_id=CHALLENGER): (Counted(before=None),),
    FailPromotion(model_id=CHALLENGER, reason="dead"): (Done(),),
    RollBack(model_id=CHALLENGER, experiment_id=EXPERIMENT): (Done(),),
    Reject(model_id=CHALLENGER, experiment_id=EXPERIMENT): (Done(),),
    ReturnTraffic(model_id=PREVIOUS): (Done(),),
    ReleaseControl(model_id=PREVIOUS, reason="it does not answer"): (Done(),),
    RenewWatch(model_id=PREVIOUS, epoch=EPOCH): (Done(),),
    FinishWatch(model_id=PREVIOUS): (Done(),),
    HaltWatch(model_id=PREVIOUS): (Done(),),
    Retire(model_id=LEFT): (Stopped(model=Model(id=LEFT, name="old")), Stopped()),
    SetPaused(paused=True): (Done(),),
    SetPaused(paused=False): (Done(),),
    Refuse(reason="not now"): (Done(),),
    Recover(reason="its run is gone"): (Done(),),
}
"""Every action with every effect that it can have."""
PAIRS = [(action, effect) for action, effects in ACTIONS.items() for effect in effects]


@st.composite
def positions(draw: st.DrawFn) -> Position:
    """Any phase, its rows there or some of them gone, a model handed over or not, a run taken or not."""
    phase = PHASES[draw(st.sampled_from(Phase))]
    there = draw(st.integers(0, 9)) > 0

    def row(name: str, value: Any) -> Any:
        return value if getattr(phase, name, None) is not None and there else None

    detail = {"handle": HANDLE} if draw(st.booleans()) else {}
    state = ModelState.CHALLENGER if isinstance(phase, UnderTest) else ModelState.READY
    experiment = Experiment(id=EXPERIMENT, champion_model_id=CHAMPION, challenger_model_id=CHALLENGER, salt="00",
                            share=0.1, epoch=EPOCH, frozen={"l95_s": draw(st.none() | st.just(1.5))})  # fmt: skip
    ledger = Ledger(
        installed_at=1.0,
        champion_id=CHAMPION,
        paused=draw(st.booleans()),
        failures_in_a_row=draw(st.integers(0, 3)),
        rejections_in_a_row=draw(st.integers(0, 3)),
        retiring=(Retiring(id=LEFT, name="old", due_at=2.0),) if draw(st.booleans()) else (),
    )
    return Position(
        state=LoopState(phase=phase, since=500.0, ledger=ledger),
        champion=Model(id=CHAMPION, name="base"),
        challenger=row("challenger_id", replace(MODEL, detail=detail, state=state)),
        previous=row("previous_id", Model(id=PREVIOUS, name="old")),
        check=row(
            "check_id",
            Check(id=CHECK, kind=CheckKind.GATE, challenger_id=CHALLENGER, champion_id=CHAMPION, started_us=1),
        ),
        experiment=row("experiment_id", experiment),
        run=row("run_id", replace(ROW, handle=HANDLE if draw(st.booleans()) else None)),
    )


def done(position: Position, action: Action, effect: Effect, now: Context = NOW) -> Transition | None:
    """None where a row is gone that the action needs, or the effect is none of this action in this phase."""
    try:
        return apply(position, action, effect, now)
    except (LookupError, TypeError):
        return None


def counts(position: Position) -> dict[str, int]:
    totals = position.state.ledger.totals
    flat = {field.name: getattr(totals, field.name) for field in fields(totals) if field.name != "rollbacks"}
    return {**flat, **{f"rollbacks/{reason}": count for reason, count in totals.rollbacks.items()}}


@given(position=positions(), share=st.floats(0.001, 1.0), holdback=st.floats(0.0, 0.5))
def test_nobody_who_had_the_new_champion_is_held_back(position: Position, share: float, holdback: float) -> None:
    """Users at the end of [0, 1) are held back; a challenger that had nearly everybody had some of these."""
    if position.experiment is not None:
        position = replace(position, experiment=replace(position.experiment, share=share))
    rules = replace(NOW.rules, ab_test=replace(NOW.rules.ab_test, holdback_share=holdback))
    transition = done(position, Promote(model_id=CHALLENGER), Counted(before=None), replace(NOW, rules=rules))
    if transition is None or not isinstance(position.state.phase, Promoting):
        return
    assert isinstance(transition.state.phase, Watching)
    held = transition.state.phase.holdback_share
    assert 1.0 - held >= (share if position.experiment is not None else 0.0)
    assert held == (min(holdback, 1.0 - share) if position.experiment is not None else 0.0)


def under_terms(position: Position, **frozen: Any) -> Position:
    experiment = Experiment(id=EXPERIMENT, champion_model_id=CHAMPION, challenger_model_id=CHALLENGER, salt="00",
                            share=0.1, epoch=EPOCH, frozen={"l95_s": None, **frozen})  # fmt: skip
    return replace(position, experiment=experiment)


TESTING = Position(
    state=LoopState(phase=PHASES[Phase.TESTING], since=500.0, ledger=Ledger(installed_at=1.0, champion_id=CHAMPION)),
    champion=Model(id=CHAMPION, name="base"),
    challenger=MODEL,
)


@pytest.mark.parametrize(
    ("action", "icc", "terms"),
    [
        (RaiseShare(experiment_id=EXPERIMENT, epoch=EPOCH, share=0.5), 0.1, {"weight": "1"}),
        (SetShare(experiment_id=EXPERIMENT, epoch=EPOCH, share=0.5), 0.1, {"weight": "1"}),
        (SetShare(experiment_id=EXPERIMENT, epoch=EPOCH, share=0.05), 0.3, {"weight": "2"}),
        (BeginEpoch(experiment_id=EXPERIMENT, epoch=EPOCH, reason="other weights"), 0.3, {"weight": "2"}),
    ],
)
def test_a_stage_has_the_terms_of_those_before_it(action: Action, icc: float, terms: dict[str, str]) -> None:
    """The share rises under settings that were changed meanwhile, by order or after a crash: what was collected under
    the former ones counts on, so the next look must still find that they have changed."""
    position = under_terms(TESTING, icc=0.1, terms={"weight": "1"})
    rules = replace(NOW.rules, ab_test=replace(NOW.rules.ab_test, icc=0.3), terms={"weight": "2"})
    transition = apply(position, action, Measured(slow_s=None), replace(NOW, rules=rules))
    [experiment] = transition.experiments
    assert (experiment.frozen["icc"], experiment.frozen["terms"]) == (icc, terms)
    assert len(experiment.stages) == (1 if icc == 0.3 else 2)


@pytest.mark.parametrize(("share", "by_hand"), [(0.1, False), (0.5, False), (0.05, True), (0.2, True)])
def test_a_share_of_an_earlier_version_that_a_person_has_set_stays(share: float, by_hand: bool) -> None:
    position = under_terms(TESTING)
    assert position.experiment is not None
    experiment = replace(position.experiment, share=share)
    assert set_by_hand(experiment, NOW.rules.ab_test) is by_hand
    afresh = BeginEpoch(experiment_id=EXPERIMENT, epoch=EPOCH, reason="other weights")
    [begun] = apply(replace(position, experiment=experiment), afresh, Measured(slow_s=None), NOW).experiments
    assert begun.stages[-1].by_hand is by_hand
    assert set_by_hand(begun, NOW.rules.ab_test) is by_hand


@pytest.mark.parametrize("known", [True, False])
def test_nobody_who_had_it_before_the_share_was_lowered_is_held_back(known: bool) -> None:
    """`known`: begun by this version; else by one that noted no stages."""
    position = under_terms(TESTING)
    assert position.experiment is not None
    experiment = replace(position.experiment, share=0.97)
    position = replace(position, experiment=experiment.with_stages(experiment.stages) if known else experiment)
    for share in (0.3, 0.6):
        assert position.experiment is not None
        order = SetShare(experiment_id=EXPERIMENT, epoch=position.experiment.epoch, share=share)
        position = position.after(
            apply(position, order, Measured(slow_s=None), replace(NOW, version=9 + int(share * 10)))
        )
    position = position.after(
        apply(position, BeginPromotion(model_id=CHALLENGER, experiment_id=EXPERIMENT), Done(), NOW)
    )
    phase = position.after(apply(position, Promote(model_id=CHALLENGER), Counted(before=None), NOW)).state.phase
    assert isinstance(phase, Watching)
    assert phase.holdback_share == pytest.approx(0.03)


def test_every_action_is_tried() -> None:
    assert {type(action) for action in ACTIONS} == TAGS.keys() == set(get_args(Action))


@given(position=positions())
def test_an_event_leads_where_the_table_says(position: Position) -> None:
    for action, effect in PAIRS:
        transition = done(position, action, effect)
        if transition is None:
            continue
        arrows = {(arrow.source, arrow.event): arrow.target for arrow in TRANSITIONS}
        assert arrows[position.state.phase_name, transition.event] is transition.state.phase_name
        assert transition.reason
        if transition.state.phase_name is not position.state.phase_name:
            assert (transition.state.since, transition.state.reason) == (NOW.at, transition.reason)
            waits = ["StartDeployment"] if isinstance(action, RestartDeployment) else []
            assert [retry.action for retry in transition.state.retries] == waits


@given(position=positions())
def test_twice_is_once(position: Position) -> None:
    """What was done changes nothing when it is done again, at whatever time; but for a pause, which only sets what it
    says, it is stale by then."""
    for action, effect in PAIRS:
        first = done(position, action, effect)
        if first is None or first.event is Event.REFUSED:
            continue
        after = position.after(first)
        again = apply(after, action, effect, replace(NOW, at=NOW.at + 60.0, version=NOW.version + 1))
        assert again.state == after.state
        assert (again.models, again.checks, again.experiments, again.runs) == ((), (), (), ())
        if not isinstance(action, SetPaused):
            assert stale(after, action) is not None
            assert again.event is Event.REFUSED


@given(
    position=positions(),
    pairs=st.lists(st.sampled_from(PAIRS), max_size=2),
    crashes=st.sets(st.integers(0, 2), min_size=1),
)
def test_a_crash_between_two_steps_ends_as_if_there_was_none(
    position: Position, pairs: list[tuple[Action, Effect]], crashes: set[int]
) -> None:
    """Killed before the commit, the same action is done again as of the intent's own instant. Killed just after it, the
    same action is done again by whoever does not know, an hour later; and that changes nothing."""
    for first in PAIRS:
        calm = stormy = position
        for number, (action, effect) in enumerate([first, *pairs]):
            now = replace(NOW, at=NOW.at + number, version=NOW.version + number)
            if (transition := done(calm, action, effect, now)) is None:
                continue
            calm = calm.after(transition)
            stormy = stormy.after(apply(stormy, action, effect, now))
            if number in crashes:
                later = replace(now, at=now.at + 3600.0, version=now.version + 100)
                stormy = stormy.after(apply(stormy, action, effect, later))
            assert stormy == calm


@given(position=positions())
def test_no_phase_keeps_the_ids_of_another(position: Position) -> None:
    """Whatever a phase names was named by the one before, or is what the action has just made or found."""
    for action, effect in PAIRS:
        transition = done(position, action, effect)
        if transition is None:
            continue
        before, after = named(position.state.phase), named(transition.state.phase)
        assert after.keys() == IDS[transition.state.phase_name]
        if transition.state.phase_name is position.state.phase_name:
            assert after == before
            continue
        new: dict[str, set[Any]] = {"run_id": {getattr(action, "run_id", None)}, "previous_id": {position.champion.id},
               "challenger_id": {one.model.id for one in (effect,)
                                 if isinstance(one, Trained | Redeployed | Challenged)},
               "check_id": {getattr(effect, "check_id", None)},
               "experiment_id": {getattr(effect, "experiment_id", None)}}  # fmt: skip
        for name, value in after.items():
            assert value == before.get(name) or value in new[name] or value is None


IDS = {
    Phase.IDLE: set(),
    Phase.TRAINING: {"run_id"},
    Phase.DEPLOYING: {"run_id", "challenger_id"},
    Phase.CHECKING: {"run_id", "challenger_id", "check_id"},
    Phase.SHADOWING: {"run_id", "challenger_id", "check_id"},
    Phase.TESTING: {"run_id", "challenger_id", "experiment_id"},
    Phase.PROMOTING: {"run_id", "challenger_id", "experiment_id"},
    Phase.WATCHING: {"previous_id", "experiment_id"},
}


def named(phase: PhaseState) -> dict[str, Any]:
    return {field.name: getattr(phase, field.name) for field in fields(phase) if field.name.endswith("_id")}


@given(position=positions())
def test_what_is_not_there_is_not_acted_on(position: Position) -> None:
    """An action on another run, model or experiment than the phase's is refused."""
    for action, effect in PAIRS:
        names = {"run_id": "run-other", "model_id": 99, "experiment_id": 98, "epoch": 97, "check_id": 96}
        for name, other in names.items():
            if getattr(action, name, None) is None or isinstance(action, PrepareData | Redeploy):
                continue
            if name == "epoch" and position.experiment is None:
                continue  # its row is gone: there is nothing to compare with
            transition = apply(position, replace(action, **{name: other}), effect, NOW)  # type: ignore[arg-type]
            assert (transition.event, transition.state) == (Event.REFUSED, position.state)


@given(position=positions(), pairs=st.lists(st.sampled_from(PAIRS), max_size=8))
def test_totals_never_go_down_and_nothing_is_left_behind(
    position: Position, pairs: list[tuple[Action, Effect]]
) -> None:
    """Whatever happens in whatever order: counts only grow, and every model that had a server is named by the phase,
    is champion, was stopped, or waits to be."""
    for action, effect in pairs:
        before = counts(position)
        transition = done(position, action, effect)
        if transition is None:
            continue
        had = {m.id for m in (position.champion, position.challenger, position.previous) if m and served(m, position)}
        position = position.after(transition)
        now = counts(position)
        assert all(now[name] >= count for name, count in before.items())
        named = {position.state.ledger.champion_id, *ids(position.state.phase)}
        waiting = {left.id for left in position.state.ledger.retiring}
        stopped = isinstance(effect, Stopped | Done) and isinstance(
            action, CancelRun | AbandonModel | RestartDeployment | FailCheck
        )
        assert stopped or had <= named | waiting


def served(model: Model, position: Position) -> bool:
    """Whether it has, or had, users."""
    return not isinstance(position.state.phase, Deploying | Checking | Shadowing) or model.id == position.champion.id


def ids(phase: PhaseState) -> set[int]:
    return {getattr(phase, name) for name in ("challenger_id", "previous_id") if hasattr(phase, name)}


@given(position=positions(), action=st.sampled_from(list(ACTIONS)), failures=st.integers(1, 40))
def test_what_fails_waits_longer_each_time_and_no_longer_than_ten_minutes(
    position: Position, action: Action, failures: int
) -> None:
    state, waits = position.state, []
    for _ in range(failures):
        state, retry = postpone(state, action, "no answer", 5.0, NOW.at)
        waits.append(retry.at - NOW.at)
    assert waits == sorted(waits)
    assert waits[0] == 5.0
    assert waits[-1] <= 600.0
    if not isinstance(action, Retire) or state.ledger.retiring:
        assert [one.attempts for one in state.all_retries] == [failures]
    assert state.phase == position.state.phase


def test_an_effect_of_another_action_is_an_error() -> None:
    position = Position(state=LoopState(phase=PHASES[Phase.TRAINING], since=0.0, ledger=Ledger(installed_at=0.0,
                        champion_id=CHAMPION)), champion=Model(id=CHAMPION, name="base"), run=ROW)  # fmt: skip
    with pytest.raises(TypeError, match="Served where Taken"):
        apply(position, StartTraining(run_id=RUN), SERVED, NOW)
    with pytest.raises(LookupError, match="the run is not in the database"):
        apply(replace(position, run=None), FailRun(run_id=RUN, reason="lost"), Done(), NOW)


def test_every_event_of_the_table_happens() -> None:
    """By some action with some effect in the phase that the table names; and every action fits somewhere."""
    seen: set[tuple[Phase, Event]] = set()
    fitting: set[type[Action]] = set()
    for phase, value in PHASES.items():
        for handle in (None, HANDLE):
            detail = {} if handle is None else {"handle": handle}
            position = Position(
                state=LoopState(phase=value, since=0.0, ledger=Ledger(installed_at=0.0, champion_id=CHAMPION,
                                retiring=(Retiring(id=LEFT, name="old", due_at=0.0),))),
                champion=Model(id=CHAMPION, name="base"),
                challenger=replace(MODEL, detail=detail),
                previous=Model(id=PREVIOUS, name="old"),
                experiment=Experiment(id=EXPERIMENT, champion_model_id=CHAMPION, challenger_model_id=CHALLENGER,
                                      salt="00", share=0.1, epoch=EPOCH),
                run=replace(ROW, handle=handle),
            )  # fmt: skip
            for action, effect in PAIRS:
                if stale(position, action) is None and (transition := done(position, action, effect)) is not None:
                    seen.add((phase, transition.event))
                    fitting.add(type(action))
    assert fitting == TAGS.keys(), "policies.transition.fitting has no case for the others, which are stale everywhere"
    assert seen >= {(arrow.source, arrow.event) for arrow in TRANSITIONS}


def test_a_mistake_in_the_table_is_an_error_and_no_state() -> None:
    """What `stale` lets through fits the phase; were it not so, nothing is made of it."""
    state = LoopState(phase=Idle(), since=0.0, ledger=Ledger(installed_at=0.0, champion_id=CHAMPION))
    position = Position(state=state, champion=Model(id=CHAMPION, name="base"), challenger=MODEL)
    with pytest.raises(ValueError, match="paused leads to idle, not to training"):
        moved(position, Event.PAUSED, PHASES[Phase.TRAINING], state.ledger, "why", NOW)
    with pytest.raises(TypeError, match="the phase is idle, not Training"):
        phase_of(position, Training)
    with pytest.raises(TypeError, match="no promotion begins in the phase idle"):
        begin_promotion(position, BeginPromotion(model_id=CHALLENGER, experiment_id=None), SERVED, NOW)
