"""What `ratchet status` makes of the document for people to read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.assessment import NextStage, StageResult
from policies.experiment import evaluate
from policies.guardrails import GuardrailResult, GuardrailState
from policies.holdback import WatchedGuardrail
from policies.plan import LoopRules
from policies.promotion import WatchDecision
from policies.records import Arm
from policies.triggers import Trigger, TriggerConfig, TriggerFacts, TriggerProgress, evaluate_triggers
from policies.vocabulary import TRIGGERS
from proxy.cli.app import app
from proxy.cli.common import console
from proxy.cli.status import print_stages, print_status
from proxy.status import (
    ChampionStatus,
    ErrorStatus,
    ExperimentStatus,
    NextStatus,
    PhaseStatus,
    RetryStatus,
    Status,
    TrafficStatus,
    TriggerStatus,
    TroubleStatus,
    WatchStatus,
)
from tests.harness.arms import arm_stats, facts
from tests.harness.loop import HOUR_S, World, rules, settle

WAITS = "0 usable samples, 100 needed."


def shown(value: float, hold: str | None, capsys: pytest.CaptureFixture[str]) -> str:
    """The output where a trigger has this value."""
    trigger = TriggerProgress(name=Trigger.SCHEDULE, enabled=True, value=value, target=168.0, fraction=0.0, due=False,
                              reason="due after 7 days")  # fmt: skip
    triggers = TriggerStatus(fired=None, progress=(trigger,), hold=hold, hold_until=None, schedule_at=None)
    print_status(Status(phase=PhaseStatus(name="idle"), next=NextStatus(reasons=(WAITS,)), triggers=triggers))
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "figure"),
    [(5.576e-05, "<0.001"), (-0.0001, ">−0.001"), (0.705, "0.705"), (23456.0, "23,456"), (0.0, "0"), (20.04, "20.04")],
)
def test_figures_have_no_exponent(value: float, figure: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [line for line in shown(value, None, capsys).splitlines() if "due after" in line]
    assert f" {figure} " in row
    assert " 168 " in row


def test_what_keeps_a_retrain_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(1.0, WAITS, capsys).count(WAITS) == 1
    assert "no retrain yet: cool-down" in shown(1.0, "cool-down", capsys)


STAGES = tuple(
    StageResult(share=share, started_at=1_700_000_000.0 + at, champion_requests=1000, challenger_requests=requests,
                champion_users=90, challenger_users=10, theta=theta, lower=None, upper=0.2, part=part)
    for at, (share, requests, theta, part) in enumerate(((0.01, 10, None, 0.1), (0.1, 110, 0.0512, 0.9)))
)  # fmt: skip


def test_the_stages_of_a_test_are_a_table_and_what_the_next_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    following = NextStage(share=0.5, waits=("another 3.0 hours in this stage", "an estimate of the gain"), in_hours=3.0)
    print_stages(console(), STAGES, following)
    head, canary, tenth, following_line = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert head == "stage share since requests users gain bounds part"
    assert canary == "1 1 % 2023-11-14 22:13:20 UTC 1,000 / 10 90 / 10 – – … +20.0 % 10 %"
    assert tenth == "2 10 % 2023-11-14 22:13:21 UTC 1,000 / 110 90 / 10 +5.1 % – … +20.0 % 90 %"
    assert following_line == "next share: 50 %, waits for: another 3.0 hours in this stage; an estimate of the gain"


def test_a_test_with_one_share_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_stages(console(), STAGES[:1], None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("held", "control", "said"),
    [
        (0.1, 60, "60 of the old one, from the 10 % who stay on it"),
        (0.0, None, "none of the old one"),
    ],
)
def test_the_watch_says_beside_whom(
    held: float, control: int | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = WatchStatus(decision=WatchDecision.KEEP, reasons=(), at=0.0, elapsed_hours=1.0, remaining_hours=23.0,
                        guardrails=(), concurrent=control is not None, holdback_share=held, requests=540, users=180,
                        control_requests=control, control_users=control)  # fmt: skip
    print_status(Status(phase=PhaseStatus(name="watching"), watch=watch))
    assert f"watch: 23.0 hours to go; 540 requests of the new champion, {said}" in capsys.readouterr().out


def test_a_share_is_said_to_be_there_since_it_rose(capsys: pytest.CaptureFixture[str]) -> None:
    began = 1_700_000_000.0
    running = ExperimentStatus(id=3, share=0.033389, started_at=began, epoch_started_at=began + 3600)
    print_status(Status(phase=PhaseStatus(name="testing"), experiment=running))
    assert "experiment 3: 3.3 % of the users since 2023-11-14 23:13:20 UTC" in capsys.readouterr().out


def staged() -> LoopRules:
    base = rules()
    return replace(base, ab_test=replace(base.ab_test, initial_challenger_traffic=0.45, stages=(0.45, 0.5)))


def test_explain_shows_the_stages_and_the_watch_that_a_decision_saw(tmp_path: Path) -> None:
    """Over a real loop's journal, without a server."""
    world = World(tmp_path, rules=staged())

    async def story() -> None:
        async with world.store() as store:
            loop = world.start(store)
            await world.chat(store, users=200)
            await settle(loop)
            for _ in range(3):
                world.clock.advance(0.4 * HOUR_S)
                await world.chat(store, users=200, quality={Arm.CHAMPION: 0.7, Arm.CHALLENGER: 0.8})
                await settle(loop)

    asyncio.run(story())
    asked = ["explain", "--data-dir", str(tmp_path)]
    now = CliRunner().invoke(app, asked)
    assert now.exit_code == 0, now.output
    assert "0 requests of the new champion, 0 of the old one, from the 10 % who stay on it" in now.output
    at = datetime.fromtimestamp(world.clock.now() - 0.5 * HOUR_S, UTC).isoformat()
    earlier = CliRunner().invoke(app, [*asked, "--at", at])
    assert earlier.exit_code == 0, earlier.output
    lines = [" ".join(line.split()) for line in earlier.output.splitlines()]
    assert any(line.startswith("1 45 % 20") for line in lines), earlier.output


BEGAN = 1_700_000_000.0
FAILED = "the model's server refused the connection"


def new_installation() -> TriggerStatus:
    found = TriggerFacts(installed_at=BEGAN, new_quality_samples=0, usable_samples=0, runs_at=())
    report = evaluate_triggers(found, TriggerConfig(), BEGAN + 60)
    return TriggerStatus(**{name: getattr(report, name) for name in report.__slots__}, facts=found)


def lines_of(status: Status, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_status(status, "http://127.0.0.1:8080")
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_what_hurts_comes_before_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    triggers = new_installation()
    stopped = replace(triggers, brake="rejections", facts=replace(triggers.facts, rejections_in_a_row=3))
    status = Status(
        phase=PhaseStatus(name="idle", reason="installed", paused=True),
        champion=ChampionStatus(id=1, name="base", healthy=False, requests=25, failed_share=1.0),
        troubles={
            "store": TroubleStatus(sentence="the database is away", since=BEGAN),
            "champion": TroubleStatus(sentence=FAILED, since=BEGAN),
        },
        retries=(RetryStatus(action="Deploy", attempts=2, at=BEGAN, reason="no GPU", about="run-1"),),
        triggers=stopped,
    )
    champion, store, retry, paused, brake, phase, *_ = lines_of(status, capsys)
    assert champion == f"champion base is not healthy: {FAILED} (since 2023-11-14 22:13:20 UTC)"
    assert store == "trouble (store): the database is away (since 2023-11-14 22:13:20 UTC)"
    assert retry.endswith("(run-1): failed 2 times, next attempt at 2023-11-14 22:13:20 UTC: no GPU")
    assert paused.startswith("the loop is paused: ")
    assert brake.startswith("triggers start no training: 3 challengers in a row were not better")
    assert phase == "idle (paused): installed"


def test_a_store_that_is_being_opened_is_no_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    opening = TroubleStatus(sentence="the store is not open yet", since=BEGAN, starting=True)
    first, *_ = lines_of(Status(phase=PhaseStatus(name="starting"), troubles={"store": opening}), capsys)
    assert first.startswith("starting")


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (
            0.4,
            "champion base is failing: 10 of 25 requests in the last minute (40.0 %); the latest: 502 from it",
        ),
        (0.04, "champion base answers: 1 of 25 requests failed in the last minute"),
    ],
)
def test_a_champion_that_fails_is_named_before_it_is_given_up(
    share: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ErrorStatus(at=BEGAN, text="502 from it")
    champion = ChampionStatus(id=1, name="base", healthy=True, requests=25, failed_share=share, last_error=error)
    assert lines_of(Status(phase=PhaseStatus(name="idle"), champion=champion), capsys)[0] == said


def test_nought_requests_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    waits = NextStatus(reasons=("0 usable samples, 100 needed.",))
    empty = Status(phase=PhaseStatus(name="idle", reason="installed"), next=waits, triggers=new_installation(),
                   traffic=TrafficStatus(minutes=15))  # fmt: skip
    assert lines_of(empty, capsys) == [
        "idle: installed",
        "waiting for the first request at http://127.0.0.1:8080: nothing has been recorded yet",
    ]
    asked = lines_of(replace(empty, traffic=TrafficStatus(minutes=15, requests=1)), capsys)
    assert any("0 usable samples" in line for line in asked)


@pytest.mark.parametrize(("champion", "challenger"), [(0, 0), (40, 0), (0, 40)])
def test_an_arm_without_requests_is_all_that_is_said_of_a_test(
    champion: int, challenger: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = facts(arm_stats(Arm.CHAMPION, champion), arm_stats(Arm.CHALLENGER, challenger))
    found = evaluate(arms, rules().ab_test, 3600.0)
    running = ExperimentStatus(id=3, share=0.5, started_at=BEGAN, assessment=found)
    for reasons in ((), found.reasons):
        status = Status(phase=PhaseStatus(name="testing"), experiment=running, next=NextStatus(reasons=reasons))
        said = [line for line in lines_of(status, capsys)[1:] if "experiment 3" not in line]
        assert len(said) == 1, said
        assert "had no request yet" in said[0] or "No request has come yet" in said[0]


def test_nothing_found_is_no_proof_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    result = GuardrailResult(name="errors", champion=0.01, challenger=0.01, estimate=0.0, lower=-0.1, upper=0.1,
                             log_e_harm=-1.0, state=GuardrailState.PASS, reason="1.0 % against 1.0 %")  # fmt: skip
    rail = WatchedGuardrail(result=result, leans_to_harm=False, concurrent=True)
    watch = WatchStatus(
        decision=WatchDecision.KEEP,
        reasons=(),
        at=0.0,
        elapsed_hours=1.0,
        remaining_hours=23.0,
        guardrails=(rail.result,),
        concurrent=True,
        holdback_share=0.1,
        requests=540,
        users=180,
    )
    (said,) = [line for line in lines_of(Status(phase=PhaseStatus(name="watching"), watch=watch), capsys)
               if line.startswith("·")]  # fmt: skip
    assert "No proof that they differ (n = 180 users); 1.0 % against 1.0 %" in said
    assert "pass" not in said


def test_triggers_have_names_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert TRIGGERS.keys() == {trigger.value for trigger in Trigger}
    status = Status(phase=PhaseStatus(name="idle"), triggers=replace(new_installation(), facts=None))
    said = " ".join(lines_of(status, capsys))
    assert all(words in said for name, words in TRIGGERS.items() if name != "manual")
    assert "_" not in said
