"""What `ratchet status` makes of the document for people to read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from policies.assessment import NextStage, StageResult
from policies.plan import LoopRules
from policies.promotion import WatchDecision
from policies.records import Arm
from policies.triggers import Trigger, TriggerProgress
from proxy.cli.app import app
from proxy.cli.common import console
from proxy.cli.status import print_stages, print_status
from proxy.status import ExperimentStatus, NextStatus, PhaseStatus, Status, TriggerStatus, WatchStatus
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
    [(5.576e-05, "0"), (-0.0001, "0"), (0.705, "0.705"), (23456.0, "23456"), (1e9, "1000000000"), (20.04, "20.04")],
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
    assert canary == "1 1 % 2023-11-14 22:13:20 UTC 1,000 / 10 90 / 10 – – … +20.0 % 10%"
    assert tenth == "2 10 % 2023-11-14 22:13:21 UTC 1,000 / 110 90 / 10 +5.1 % – … +20.0 % 90%"
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
