"""Every phase, action and command has its words, in one table, and no page or command has names of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies.actions import TAGS, Refuse
from policies.assessment import QualityMeasure, Verdict
from policies.commands import answer
from policies.lifecycle import Phase
from policies.records import Arm
from policies.snapshot import Command, ExperimentView, ModelView, RunStatus, RunView, Snapshot
from policies.triggers import TriggerFacts
from policies.vocabulary import (
    ACTIONS,
    COMMANDS,
    HOLD,
    INSTALL,
    MEASURES,
    PHASES,
    VERDICTS,
    Verb,
    action_label,
    measure_label,
)
from tests.harness.arms import arm_stats, facts

ROOT = Path(__file__).parents[2]
SHOWN = [*(ROOT / "proxy/cli").glob("*.py"), *(ROOT / "proxy/web").rglob("*.py"), *(ROOT / "proxy/web").rglob("*.html")]


def test_everything_that_can_be_shown_has_words() -> None:
    assert set(ACTIONS) == {*TAGS.values(), HOLD, INSTALL}
    assert set(PHASES) == set(Phase)
    assert set(COMMANDS) == set(Verb)
    assert set(VERDICTS) > set(Verdict)
    for words in (*ACTIONS.values(), *COMMANDS.values()):
        assert words.label[0].isupper()
        assert words.meaning.endswith(".")
    for phase, about in PHASES.items():
        assert about.label == phase.value
        assert about.meaning.endswith(".")


def test_no_two_actions_are_called_alike() -> None:
    assert len({words.label for words in ACTIONS.values()}) == len(ACTIONS)
    assert len({words.label for words in COMMANDS.values()}) == len(COMMANDS)


def test_what_a_newer_version_has_written_down_keeps_its_tag() -> None:
    assert action_label("StartExperiment") == "Start the experiment"
    assert action_label("TeleportModel") == "TeleportModel"


def test_pages_and_commands_have_no_names_of_their_own() -> None:
    """Neither a tag nor a label is written where something is shown: both come from the table."""
    labels = (words.label for words in ACTIONS.values() if " " in words.label)
    written = [*(rf"""["']{tag}["']""" for tag in ACTIONS), *(rf"""[">]{re.escape(label)}["<]""" for label in labels)]
    found = {path.name: hits for path in SHOWN if (hits := re.findall("|".join(written), path.read_text()))}
    assert found == {}


@pytest.mark.parametrize("phase", Phase)
def test_the_commands_of_a_phase_are_those_that_it_does_not_refuse(phase: Phase) -> None:
    model = ModelView(id=2, name="new", deployed=True, ready=True, healthy=True)
    snapshot = Snapshot(
        phase=phase,
        phase_since=0.0,
        phase_reason="a test",
        installed_at=0.0,
        triggers=TriggerFacts(installed_at=0.0),
        run=RunView(id="run-1", trigger="manual", status=RunStatus.RUNNING),
        champion=ModelView(id=1, name="old", healthy=True),
        challenger=model,
        previous=model,
        experiment=ExperimentView(id=7, facts=facts(arm_stats(Arm.CHAMPION, 5), arm_stats(Arm.CHALLENGER, 5))),
    )
    args = {Verb.SHARE: {"share": 0.2}, Verb.DEPLOY: {"run": "run-1"}, Verb.CHALLENGE: {"url": "http://mine"}}
    fitting = {
        verb
        for verb in Verb
        if not isinstance(
            answer(
                Command(id=1, at=0.0, verb=verb, args=args.get(verb, {}), who="me", why=""),
                snapshot,
                1.0,
                trains=True,
                share=0.1,
            ),
            Refuse,
        )
    }
    assert fitting == {*PHASES[phase].commands, Verb.PAUSE, Verb.RESUME}


def test_every_measure_of_quality_has_words() -> None:
    assert MEASURES.keys() == set(QualityMeasure)
    assert measure_label("from_a_newer_version") == "from_a_newer_version"
