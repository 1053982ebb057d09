"""The demo's screen, whatever the controller knows at that moment: right after kill -9 it knows next to nothing."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from policies.triggers import TriggerConfig, TriggerFacts, evaluate_triggers
from proxy.demo.live import render
from proxy.demo.processes import DemoProcess
from proxy.demo.story import Scene, Theatre
from proxy.loop.codec import to_json
from proxy.status import ExperimentStatus, NextStatus, PhaseStatus, Status, TriggerStatus, read_status
from tests.harness.arms import assessed

REPORT = evaluate_triggers(TriggerFacts(installed_at=0.0), TriggerConfig(), 1.0)
FULL = Status(
    phase=PhaseStatus(name="testing", reason="it is deployed"),
    next=NextStatus(reasons=("the test goes on",)),
    triggers=TriggerStatus(**{field.name: getattr(REPORT, field.name) for field in fields(REPORT)}),
    experiment=ExperimentStatus(id=1, share=0.3, started_at=0.0, assessment=assessed()),
)


def shown(tmp_path: Path, status: Status) -> str:
    """What stands on the screen, with the status as the admin port tells it."""
    console = Console(width=100)
    with (
        DemoProcess([sys.executable, "-c", ""], log=tmp_path / "log", env={}) as server,
        console.capture() as screen,
    ):
        theatre = Theatre(
            directory=tmp_path, url="http://p", admin_url="http://a", server=server, seed=1, promotions=1, rate=1.0
        )
        console.print(render(theatre, Scene(status=read_status(to_json(status))), 40))
    return screen.get()


def test_a_test_shows_its_gain_and_verdict(tmp_path: Path) -> None:
    screen = shown(tmp_path, FULL)
    assert "the test goes on" in screen
    assert "challenger serves 30 % of the users" in screen
    assert "estimated gain " in screen


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"next": None}, "starting"),
        ({"next": NextStatus(reasons=())}, "starting"),
        ({"experiment": None}, "new samples"),
        ({"experiment": replace(FULL.experiment, assessment=None)}, "new samples"),  # type: ignore[type-var]
        ({"experiment": None, "triggers": None}, "no experiment is running"),
    ],
)
def test_what_is_not_known_yet_is_no_crash(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in shown(tmp_path, replace(FULL, **changes))


def test_a_controller_that_has_just_started(tmp_path: Path) -> None:
    assert "starting" in shown(tmp_path, Status(phase=PhaseStatus(name="starting")))
