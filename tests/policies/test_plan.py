"""One snapshot in, one decision out: a retrain as a conversation, then every way it can go wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.actions import (
    TAGS,
    AbandonModel,
    AcceptModel,
    Action,
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
    Recover,
    Redeploy,
    Refuse,
    Reject,
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
from policies.experiment import ABTestConfig, ArmStats, Verdict
from policies.lifecycle import Phase
from policies.plan import LoopRules, Plan, plan
from policies.promotion import WatchFacts
from policies.records import Arm
from policies.snapshot import (
    CheckView,
    Command,
    ExperimentView,
    LoopTotals,
    ModelView,
    Retiring,
    Retry,
    RunStatus,
    RunView,
    Snapshot,
    new_run_id,
)
from policies.triggers import TriggerFacts
from policies.vocabulary import Verb
from policies.wording import span
from tests.harness.arms import HOUR, MIXED, arm_stats, facts, scaled

NOW = 100 * HOUR
RULES = LoopRules()
CHAMPION = ModelView(id=1, name="base", ready=True, healthy=True)
CHALLENGER = ModelView(id=2, name="model-2", deployed=True, ready=True, healthy=True)
RUN = RunView(id="run-1", trigger="manual", status=RunStatus.NOT_STARTED, samples=500)
SAME = facts(arm_stats(Arm.CHAMPION, 60), arm_stats(Arm.CHALLENGER, 60))
BETTER = facts(arm_stats(Arm.CHAMPION, 400), arm_stats(Arm.CHALLENGER, 400, quality=scaled(MIXED, 1.25)))
WORSE = facts(arm_stats(Arm.CHAMPION, 400), arm_stats(Arm.CHALLENGER, 400, quality=scaled(MIXED, 0.6)))
HOPELESS = facts(arm_stats(Arm.CHAMPION, 400), arm_stats(Arm.CHALLENGER, 400))
UNEVEN = facts(arm_stats(Arm.CHAMPION, 400, split=900), arm_stats(Arm.CHALLENGER, 400, split=300))


def seen(phase: Phase = Phase.IDLE, **changes: Any) -> Snapshot:
    """A healthy installation of a hundred hours, in `phase` for one."""
    return replace(
        Snapshot(
            phase=phase,
            phase_since=NOW - HOUR,
            phase_reason="for the test",
            installed_at=0.0,
            triggers=TriggerFacts(installed_at=0.0, new_quality_samples=10, usable_samples=500),
            champion=CHAMPION,
        ),
        **changes,
    )


def on_trial(experiment: Any, **changes: Any) -> Snapshot:
    return seen(Phase.TESTING, challenger=CHALLENGER, experiment=ExperimentView(id=7, facts=experiment), **changes)


def watching(after: ArmStats, *, hours: float, healthy: bool | None = True, **changes: Any) -> Snapshot:
    window = WatchFacts(
        promoted_at=NOW - hours * HOUR,
        before=arm_stats(Arm.CHAMPION, 400),
        after=after,
        old_champion_healthy=healthy,
    )
    old = replace(CHAMPION, healthy=healthy)
    return seen(Phase.WATCHING, champion=CHALLENGER, previous=old, watch=window, **changes)


def checked(check: CheckView, phase: Phase = Phase.CHECKING, **changes: Any) -> Snapshot:
    return seen(phase, challenger=CHALLENGER, check=check, **changes)


def ordered(verb: str, **args: Any) -> tuple[Command, ...]:
    return (Command(id=3, at=NOW, verb=verb, args=args, who="ann", why="I say so"),)


def decide(snapshot: Snapshot, rules: LoopRules = RULES, now: float = NOW) -> Action | None:
    return plan(snapshot, rules, now).action


def test_a_retrain_as_a_conversation() -> None:
    due = replace(seen().triggers, new_quality_samples=1000)
    assert decide(seen()) is None
    started = decide(seen(triggers=due))
    assert started == PrepareData(run_id="run-19700105-040000-1", trigger="sample_count", train=True)
    assert decide(seen(Phase.TRAINING, run=RUN)) == StartTraining(run_id="run-1")
    assert decide(seen(Phase.TRAINING, run=replace(RUN, status=RunStatus.RUNNING))) is None
    assert decide(seen(Phase.TRAINING, run=replace(RUN, status=RunStatus.SUCCEEDED))) == AcceptModel(run_id="run-1")
    fresh = ModelView(id=2, name="model-2")
    assert decide(seen(Phase.DEPLOYING, challenger=fresh)) == StartDeployment(model_id=2)
    starting = replace(fresh, deployed=True, waiting_for="HTTP 503")
    young = seen(Phase.DEPLOYING, challenger=starting, phase_since=NOW - 10)
    assert plan(young, replace(RULES, deployment_retries=3), NOW).reasons == (
        "waiting for model-2: HTTP 503",
        "it has 10 min left to answer (deployer.ready_timeout_seconds), then it is tried 3 more times; "
        "`ratchet cancel` ends this at once",
    )
    last = replace(young, phase_since=NOW - 590)
    assert plan(last, RULES, NOW).reasons[1].startswith("it has 10 s left to answer (deployer.ready_timeout_seconds), "
                                                        "then it is given up; `ratchet cancel`")  # fmt: skip
    up = replace(starting, ready=True)
    assert decide(seen(Phase.DEPLOYING, challenger=up)) == StartCheck(model_id=2)
    assert decide(checked(CheckView(id=8, reasons=("12 of 200 answers are compared",)))) is None
    assert decide(checked(CheckView(id=8, done=True, verdict="pass"))) == StartExperiment(model_id=2, share=0.1)
    assert decide(on_trial(SAME)) is None
    assert decide(on_trial(BETTER)) == BeginPromotion(model_id=2, experiment_id=7)
    assert decide(seen(Phase.PROMOTING, challenger=CHALLENGER)) == Promote(model_id=2)
    steady = arm_stats(Arm.CHAMPION, 400)
    assert decide(watching(steady, hours=10)) is None
    assert decide(watching(steady, hours=25)) == FinishWatch(model_id=1)
    leaving = seen(retiring=(Retiring(id=1, name="base", due_at=NOW - 1),))
    assert decide(leaving) == Retire(model_id=1)


# ------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize(
    ("experiment", "verdict", "action"),
    [
        (SAME, Verdict.CONTINUE, None),
        (BETTER, Verdict.PROMOTE, BeginPromotion(model_id=2, experiment_id=7)),
        (WORSE, Verdict.ROLL_BACK, RollBack(model_id=2, experiment_id=7)),
        (HOPELESS, Verdict.REJECT, Reject(model_id=2, experiment_id=7)),
        (UNEVEN, Verdict.INVALID, None),
    ],
)
def test_each_verdict_has_its_action(experiment: Any, verdict: Verdict, action: Action | None) -> None:
    decided = plan(on_trial(experiment), RULES, NOW)
    assert decided.assessment is not None
    assert decided.assessment.verdict is verdict
    assert decided.action == action
    assert decided.reasons[0] == decided.assessment.reasons[0]


def test_an_inconclusive_challenger_stays_at_its_share() -> None:
    decided = plan(on_trial(SAME), RULES, 800 * HOUR)
    assert decided.assessment is not None
    assert decided.assessment.verdict is Verdict.INCONCLUSIVE
    assert decided.action is None


def test_a_winner_waits_for_a_person_where_promotion_is_not_automatic() -> None:
    decided = plan(on_trial(BETTER), replace(RULES, enable_auto_promotion=False), NOW)
    assert decided.action is None
    assert "ratchet promote" in decided.reasons[0]
    by_hand = plan(on_trial(BETTER, commands=ordered("promote")), replace(RULES, enable_auto_promotion=False), NOW)
    assert by_hand.action == BeginPromotion(model_id=2, experiment_id=7)


def test_without_ab_testing_a_model_goes_straight_to_promotion() -> None:
    rules = replace(RULES, enable_ab_testing=False)
    assert decide(seen(Phase.DEPLOYING, challenger=CHALLENGER), rules) == StartCheck(model_id=2)
    decided = plan(checked(CheckView(id=8, done=True, verdict="pass")), rules, NOW)
    assert decided.action == BeginPromotion(model_id=2, experiment_id=None)
    assert "A/B testing is off" in decided.reasons[0]
    by_hand = checked(CheckView(id=8), commands=ordered("proceed"))
    assert decide(by_hand, rules) == BeginPromotion(model_id=2, experiment_id=None)


HELD = CheckView(id=8, done=True, verdict="hold", reasons=("the judge did not answer",))
SHADOWED = replace(RULES, ab_test=ABTestConfig(shadow_share=1.0, shadow_hours=2.0))
DEPLOYED = StartExperiment(model_id=2, share=0.1)


@pytest.mark.parametrize(
    ("check", "rules", "action"),
    [
        (CheckView(id=8), RULES, None),
        (CheckView(id=8, done=True, verdict="pass"), RULES, DEPLOYED),
        (CheckView(id=8, done=True, verdict="pass"), SHADOWED, StartShadow(model_id=2, share=1.0)),
        (CheckView(id=8, done=True, verdict="undecided"), RULES, DEPLOYED),
        (CheckView(id=8, done=True, verdict="undecided"), replace(RULES, undecided="hold"), None),
        (HELD, RULES, None),
        (CheckView(id=8, done=True, verdict="reject", reasons=("it is worse",)), RULES,
         FailCheck(model_id=2, check_id=8, reason="it is worse")),
        (CheckView(id=8, answers=False, reasons=("HTTP 404",)), RULES,
         AbandonModel(model_id=2, reason="HTTP 404")),
        (CheckView(id=8, answers=False, may_pass=True, reasons=("HTTP 503",)), replace(RULES, deployment_retries=1),
         RestartDeployment(model_id=2, reason="HTTP 503")),
    ],
)  # fmt: skip
def test_a_check_may_reject_and_lets_pass_what_it_cannot_reject(
    check: CheckView, rules: LoopRules, action: Action | None
) -> None:
    assert decide(checked(check), rules) == action


def test_a_check_that_holds_says_how_a_person_goes_on() -> None:
    held = plan(checked(HELD), RULES, NOW)
    assert held.reasons[0] == "the judge did not answer"
    assert "`ratchet proceed`" in held.reasons[1]
    assert decide(checked(HELD, commands=ordered("proceed"))) == DEPLOYED
    assert decide(checked(HELD, commands=ordered("cancel"))) == CancelRun(run_id=None, model_id=2)


def test_a_shadow_lasts_its_hours_unless_it_finds_harm() -> None:
    quiet = CheckView(id=9, reasons=("40 answers are compared",))
    assert decide(checked(quiet, Phase.SHADOWING), SHADOWED) is None
    assert decide(checked(quiet, Phase.SHADOWING), SHADOWED, NOW + HOUR + 1) == DEPLOYED
    worse = replace(quiet, verdict="reject", reasons=("it is worse",))
    back = FailCheck(model_id=2, check_id=9, reason="it is worse")
    assert decide(checked(worse, Phase.SHADOWING), SHADOWED) == back
    assert decide(checked(quiet, Phase.SHADOWING, commands=ordered("proceed")), SHADOWED) == DEPLOYED
    silent = replace(CHALLENGER, healthy=False, unhealthy_since=NOW - HOUR)
    gone = decide(replace(checked(quiet, Phase.SHADOWING), challenger=silent), SHADOWED)
    assert isinstance(gone, AbandonModel)


def test_a_challenger_that_a_person_brings() -> None:
    brought = decide(seen(commands=ordered("challenge", url="http://mine", name="mine", model="big")))
    assert brought == Challenge(name="mine", url="http://mine", model="big")
    otherwise = decide(seen(commands=ordered("challenge", rewrite='{"system": {"prepend": "Be brief."}}')))
    assert isinstance(otherwise, Challenge)
    assert (otherwise.url, otherwise.rewrite) == (None, {"system": {"prepend": "Be brief."}})
    assert otherwise.name.startswith("challenger-1970")
    assert decide(seen(commands=ordered("deploy", path="/models/mine"))) == Challenge(
        name="challenger-19700105-040000-1", path="/models/mine"
    )


def test_without_a_trainer_data_is_prepared_and_nothing_more() -> None:
    due = replace(seen().triggers, new_quality_samples=1000)
    action = decide(seen(triggers=due), replace(RULES, trains=False))
    assert isinstance(action, PrepareData)
    assert not action.train


# ------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (replace(RUN, status=RunStatus.FAILED, message="exit status 1: out of memory"), "exit status 1: out of memory"),
        (replace(RUN, status=RunStatus.FAILED), "the trainer gave no reason"),
        (
            replace(RUN, status=RunStatus.LOST, message="not found"),
            "the trainer no longer knows the run: not found",
        ),
    ],
)
def test_a_training_that_fails_or_is_lost_ends_with_a_reason(run: RunView, reason: str) -> None:
    assert decide(seen(Phase.TRAINING, run=run)) == FailRun(run_id="run-1", reason=reason)


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.UNKNOWN])
def test_a_training_that_takes_too_long_is_failed(status: RunStatus) -> None:
    snapshot = seen(Phase.TRAINING, run=replace(RUN, status=status))
    assert decide(snapshot) is None
    late = decide(snapshot, now=NOW + 24 * HOUR)
    assert isinstance(late, FailRun)
    assert "trainer.timeout_seconds" in late.reason


def test_a_deployment_ends_by_failure_or_by_time() -> None:
    broken = replace(CHALLENGER, ready=False, failed="exit status 3")
    assert decide(seen(Phase.DEPLOYING, challenger=broken)) == AbandonModel(model_id=2, reason="exit status 3")
    starting = replace(CHALLENGER, ready=False, waiting_for="HTTP 503")
    late = decide(seen(Phase.DEPLOYING, challenger=starting))
    assert isinstance(late, AbandonModel)
    assert "HTTP 503" in late.reason
    assert "deployer.ready_timeout_seconds" in late.reason


def test_a_challenger_that_stops_answering_is_rolled_back_after_a_while() -> None:
    silent = replace(CHALLENGER, healthy=False, unhealthy_since=NOW - 300)
    assert (
        decide(replace(on_trial(SAME), challenger=silent)) is None
    )  # the breaker sends its users to the champion meanwhile
    gone = replace(silent, unhealthy_since=NOW - 601)
    assert decide(replace(on_trial(SAME), challenger=gone)) == RollBack(model_id=2, experiment_id=7, silent=True)


def test_a_winner_is_seen_healthy_before_the_switch_or_not_promoted() -> None:
    unknown = replace(CHALLENGER, healthy=None)
    young = seen(Phase.PROMOTING, challenger=unknown, phase_since=NOW - 10)
    assert decide(young) is None
    assert isinstance(decide(seen(Phase.PROMOTING, challenger=unknown)), FailPromotion)


def test_traffic_returns_when_a_guardrail_breaks_or_the_new_champion_dies() -> None:
    failing = arm_stats(Arm.CHAMPION, 100, errors=(1.0, 0.0))
    assert decide(watching(failing, hours=1)) == ReturnTraffic(model_id=1)
    steady = arm_stats(Arm.CHAMPION, 400)
    dead = replace(CHALLENGER, healthy=False, unhealthy_since=NOW - 700)
    assert decide(replace(watching(steady, hours=1), champion=dead)) == ReturnTraffic(model_id=1, silent=True)


def test_traffic_never_returns_to_a_dead_champion() -> None:
    failing = arm_stats(Arm.CHAMPION, 100, errors=(1.0, 0.0))
    assert decide(watching(failing, hours=1, healthy=False)) is None
    over = watching(failing, hours=25, healthy=False)
    assert over.previous is not None
    quiet = [replace(over, previous=replace(over.previous, unhealthy_since=NOW - seconds)) for seconds in (20, 700)]
    assert [decide(one) for one in quiet] == [None, HaltWatch(model_id=1)], "one missed health check is no death"
    dead = replace(CHALLENGER, healthy=False, unhealthy_since=NOW - 700)
    both = replace(watching(arm_stats(Arm.CHAMPION, 400), hours=1, healthy=False), champion=dead)
    assert decide(both) is None


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.IDLE])
def test_a_phase_whose_rows_are_gone_recovers_to_idle(phase: Phase) -> None:
    assert isinstance(decide(seen(phase)), Recover)


def test_the_next_retrain_waits_after_a_rejection_where_asked() -> None:
    due = replace(seen().triggers, new_quality_samples=1000)
    rules = replace(RULES, ab_test=ABTestConfig(rejection_cooldown_hours=5.0))
    decided = plan(seen(triggers=due, last_rejection_at=NOW - HOUR), rules, NOW)
    assert decided.action is None
    assert decided.wake_at == NOW + HOUR  # the usual interval is sooner than the four hours that are left
    assert "can start in 4.0 h" in decided.reasons[0]
    assert isinstance(decide(seen(triggers=due, last_rejection_at=NOW - 6 * HOUR), rules), PrepareData)


# ------------------------------------------------------------------------------------------------ commands


@pytest.mark.parametrize(
    ("snapshot", "verb", "expected"),
    [
        (seen(), "trigger", PrepareData(run_id="run-19700105-040000-1", trigger="manual", train=True)),
        (seen(), "pause", SetPaused(paused=True)),
        (seen(paused=True), "resume", SetPaused(paused=False)),
        (on_trial(SAME), "promote", BeginPromotion(model_id=2, experiment_id=7)),
        (on_trial(SAME), "rollback", RollBack(model_id=2, experiment_id=7)),
        (seen(Phase.PROMOTING, challenger=CHALLENGER), "rollback", RollBack(model_id=2, experiment_id=None)),
        (watching(arm_stats(Arm.CHAMPION, 400), hours=1), "rollback", ReturnTraffic(model_id=1)),
        (seen(Phase.TRAINING, run=RUN), "cancel", CancelRun(run_id="run-1", model_id=None)),
        (seen(Phase.DEPLOYING, run=RUN, challenger=CHALLENGER), "cancel", CancelRun(run_id="run-1", model_id=2)),
    ],
)
def test_a_command_that_fits_the_phase_is_done(snapshot: Snapshot, verb: str, expected: Action) -> None:
    decided = plan(replace(snapshot, commands=ordered(verb)), RULES, NOW)
    assert decided.action == expected
    assert decided.command is not None
    assert decided.reasons == (f"ann asked for `{verb}` (I say so)",)


@pytest.mark.parametrize(
    ("snapshot", "verb", "args", "why"),
    [
        (on_trial(SAME), "trigger", {}, "one retrain at a time"),
        (seen(), "promote", {}, "no challenger is being tested"),
        (seen(), "rollback", {}, "there is nothing to roll back"),
        (seen(), "cancel", {}, "no run is under way"),
        (on_trial(SAME), "cancel", {}, "use `ratchet rollback`"),
        (seen(), "share", {"share": 0.5}, "no challenger is being tested"),
        (on_trial(SAME), "share", {"share": 1.5}, "is not between 0 and 1"),
        (on_trial(SAME), "share", {"share": True}, "is not between 0 and 1"),
        (seen(), "deploy", {}, "run: name a run"),
        (seen(), "challenge", {}, "url: name an endpoint, a model, or a rewrite"),
        (seen(), "challenge", {"rewrite": "[]", "url": "http://mine"}, "rewrite: it is no JSON object"),
        (seen(), "challenge", {"rewrite": "be brief"}, "rewrite: it is no JSON"),
        (seen(), "challenge", {"rewrite": "[" * 200_000}, "rewrite: it is no JSON"),
        (seen(), "challenge", {"rewrite": '{"parameters":' + '{"a":' * 600 + "1" + "}" * 601}, "nested more than 40"),
        (on_trial(SAME), "challenge", {"url": "http://mine"}, "one challenger at a time: the phase is testing"),
        (seen(), "proceed", {}, "no challenger is being checked: the phase is idle"),
        (seen(), "deploy", {"run": True}, "run: name a run"),
        (on_trial(SAME), "deploy", {"run": "run-1"}, "one challenger at a time: the phase is testing, not idle"),
        (seen(), "dance", {}, "there is no such command"),
        (watching(arm_stats(Arm.CHAMPION, 400), hours=1, healthy=False), "rollback", {}, "does not answer"),
    ],
)
def test_a_command_that_does_not_fit_is_refused_with_the_reason(
    snapshot: Snapshot, verb: str, args: dict[str, Any], why: str
) -> None:
    action = decide(replace(snapshot, commands=ordered(verb, **args)))
    assert isinstance(action, Refuse)
    assert why in action.reason


def test_the_arguments_of_commands() -> None:
    dry = decide(seen(commands=ordered("trigger", no_train=True)))
    assert isinstance(dry, PrepareData)
    assert not dry.train
    assert decide(on_trial(SAME, commands=ordered("share", share=0.5))) == SetShare(experiment_id=7, share=0.5)


# ------------------------------------------------------------------------------------------- holding back


def test_a_paused_loop_starts_nothing_and_still_protects() -> None:
    due = replace(seen().triggers, new_quality_samples=1000)
    decided = plan(seen(triggers=due, paused=True), RULES, NOW)
    assert decided.action is None
    assert isinstance(decided.held, PrepareData)
    assert "paused" in decided.reasons[0]
    assert decide(on_trial(BETTER, paused=True)) is None
    assert decide(on_trial(WORSE, paused=True)) == RollBack(model_id=2, experiment_id=7)
    assert decide(seen(paused=True, commands=ordered("trigger"))) is not None


def test_an_action_that_failed_waits_and_is_given_up_in_the_end() -> None:
    snapshot = seen(Phase.TRAINING, run=RUN)
    once = replace(snapshot, retries=(Retry(action="StartTraining", at=NOW + 30, attempts=1, reason="no route"),))
    decided = plan(once, RULES, NOW)
    assert decided.action is None
    assert decided.held == StartTraining(run_id="run-1")
    assert decided.wake_at == NOW + 30
    assert decide(once, now=NOW + 31) == StartTraining(run_id="run-1")
    often = replace(snapshot, retries=(Retry(action="StartTraining", at=NOW + 30, attempts=5, reason="no route"),))
    assert decide(often) == FailRun(run_id="run-1", reason="no route")
    fresh = seen(Phase.DEPLOYING, challenger=ModelView(id=2, name="model-2"))
    stuck = (Retry(action="StartDeployment", at=NOW, attempts=5, reason="no GPU"),)
    assert decide(replace(fresh, retries=stuck)) == AbandonModel(model_id=2, reason="no GPU")
    goes_on = seen(
        retiring=(Retiring(id=1, name="base", due_at=NOW),),
        retries=(Retry(action="Retire", at=NOW + 9, attempts=50, reason="refused"),),
    )
    assert plan(goes_on, RULES, NOW).held == Retire(model_id=1)


def test_too_few_samples_wait_for_a_whole_check_interval_however_long() -> None:
    waits = (Retry(action="PrepareData", at=NOW + 24 * HOUR, attempts=1, reason="too few"),)
    due = replace(seen().triggers, new_quality_samples=1000)
    daily = replace(RULES, check_interval_s=24 * HOUR)
    assert isinstance(plan(seen(triggers=due, retries=waits), daily, NOW).held, PrepareData)


def test_a_clock_that_was_set_back_holds_nothing_for_ever() -> None:
    far = (Retry(action="StartTraining", at=NOW + 900 * HOUR, attempts=1, reason="no route"),)
    assert decide(seen(Phase.TRAINING, run=RUN, retries=far)) == StartTraining(run_id="run-1")
    assert decide(seen(retiring=(Retiring(id=1, name="base", due_at=NOW + 900 * HOUR),))) == Retire(model_id=1)
    ahead = seen(Phase.TRAINING, run=replace(RUN, status=RunStatus.RUNNING), phase_since=NOW + 50 * HOUR)
    assert decide(ahead) is None
    said = plan(ahead, RULES, NOW).reasons[1]
    assert "the clock is 2.1 days behind the start of this phase" in said
    assert "`ratchet cancel` does not wait" in said
    assert len(plan(replace(ahead, phase_since=NOW), RULES, NOW).reasons) == 1


# ----------------------------------------------------------------------------------------------- sleeping


def test_the_next_look_is_as_soon_as_something_can_change() -> None:
    assert plan(seen(), RULES, NOW).wake_at == NOW + HOUR
    assert plan(on_trial(SAME), RULES, NOW).wake_at == NOW + 60
    assert plan(seen(Phase.TRAINING, run=replace(RUN, status=RunStatus.RUNNING)), RULES, NOW).wake_at == NOW + 5
    leaving = seen(retiring=(Retiring(id=1, name="base", due_at=NOW + 20),))
    assert plan(leaving, RULES, NOW).wake_at == NOW + 20
    almost_over = watching(arm_stats(Arm.CHAMPION, 400), hours=24 - 10 / 3600)
    assert plan(almost_over, RULES, NOW).wake_at == pytest.approx(NOW + 10, abs=0.1)
    soon = seen(installed_at=0.0, triggers=replace(seen().triggers, installed_at=NOW - 168 * HOUR + 30))
    assert plan(soon, RULES, NOW).wake_at == pytest.approx(NOW + 30)
    acting: Plan = plan(on_trial(WORSE), RULES, NOW)
    assert acting.wake_at == NOW


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (600, "10 min"), (3.5 * HOUR, "3.5 h"), (48 * HOUR, "2.0 days")]
)
def test_lengths_of_time_read_well(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_run_ids_differ_by_time_and_by_count() -> None:
    ids = {new_run_id(seen(totals=LoopTotals(runs=n)), now) for n in (0, 1) for now in (NOW, NOW + 1)}
    assert len(ids) == 4


_MODELS = st.builds(
    ModelView,
    id=st.integers(1, 3),
    name=st.just("m"),
    deployed=st.booleans(),
    ready=st.booleans(),
    healthy=st.sampled_from([True, False, None]),
    unhealthy_since=st.sampled_from([None, NOW - 1000, NOW + 5]),
    failed=st.sampled_from([None, "broken"]),
)
_COMMANDS = st.sampled_from([*Verb, "nonsense"])


def test_an_earlier_run_is_deployed_by_order_also_while_paused() -> None:
    for paused in (False, True):
        ordered_now = seen(paused=paused, commands=ordered("deploy", run="run-1"))
        assert decide(ordered_now) == Redeploy(run_id="run-1")


def test_a_deployment_that_may_come_up_yet_is_tried_again_so_often() -> None:
    patient = replace(RULES, deployment_retries=2)
    model = ModelView(id=2, name="model-2", deployed=True, ready=False)
    failed = replace(model, failed="no memory", may_pass=True)
    for restarts, left in ((0, 2), (1, 1)):
        at = seen(Phase.DEPLOYING, challenger=replace(failed, restarts=restarts))
        decided = plan(at, patient, NOW)
        assert decided.action == RestartDeployment(model_id=2, reason="no memory")
        assert f"{left} of 2 retries are left" in decided.reasons[0]
    gone = seen(Phase.DEPLOYING, challenger=replace(failed, restarts=2))
    assert decide(gone, patient) == AbandonModel(model_id=2, reason="no memory")
    never = seen(Phase.DEPLOYING, challenger=replace(failed, may_pass=False))
    assert decide(never, patient) == AbandonModel(model_id=2, reason="no memory")
    late = seen(Phase.DEPLOYING, challenger=model, phase_since=NOW - 601)
    assert isinstance(decide(late, patient), RestartDeployment)
    stuck = (Retry(action="RestartDeployment", target="2", at=NOW, attempts=5, reason="HTTP 500"),)
    assert decide(replace(late, retries=stuck), patient) == AbandonModel(model_id=2, reason="HTTP 500")


@given(
    phase=st.sampled_from(list(Phase)),
    since=st.floats(-1e6, 1e9),
    challenger=st.none() | _MODELS,
    previous=st.none() | _MODELS,
    run=st.none() | st.sampled_from([replace(RUN, status=status) for status in RunStatus]),
    experiment=st.sampled_from([None, SAME, BETTER, WORSE, UNEVEN]),
    verbs=st.lists(_COMMANDS, max_size=2),
    paused=st.booleans(),
    retry=st.none() | st.sampled_from([*TAGS.values()]),
    now=st.floats(0, 1e9),
)
def test_every_situation_has_one_decision_with_a_reason(
    phase: Phase, since: float, challenger: ModelView | None, previous: ModelView | None, run: RunView | None,
    experiment: Any, verbs: list[str], paused: bool, retry: str | None, now: float,
) -> None:  # fmt: skip
    snapshot = seen(
        phase,
        phase_since=since,
        challenger=challenger,
        previous=previous,
        run=run,
        experiment=None if experiment is None else ExperimentView(id=7, facts=experiment),
        commands=tuple(command for verb in verbs for command in ordered(verb)),
        paused=paused,
        retries=() if retry is None else (Retry(action=retry, at=NOW, attempts=1, reason="r"),),
    )
    decided = plan(snapshot, RULES, now)
    assert decided == plan(snapshot, RULES, now)
    assert decided.reasons
    assert all(decided.reasons)
    assert decided.wake_at == now if decided.action else now <= decided.wake_at <= now + HOUR
