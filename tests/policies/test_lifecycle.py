"""The lifecycle table: complete, reachable, and drawn in the documentation as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.lifecycle import TRANSITIONS, Event, Phase, follow
from tests.harness.lifecycle_page import PAGE, render


def test_a_retrain_that_wins_walks_through_every_phase() -> None:
    phase = Phase.IDLE
    story = [
        (Event.DATASET_READY, Phase.TRAINING),
        (Event.TRAINING_STARTED, Phase.TRAINING),
        (Event.TRAINED, Phase.DEPLOYING),
        (Event.DEPLOYMENT_STARTED, Phase.DEPLOYING),
        (Event.CHECK_STARTED, Phase.CHECKING),
        (Event.SHADOW_STARTED, Phase.SHADOWING),
        (Event.DEPLOYED, Phase.TESTING),
        (Event.SHARE_CHANGED, Phase.TESTING),
        (Event.WON, Phase.PROMOTING),
        (Event.PROMOTED, Phase.WATCHING),
        (Event.WATCH_FINISHED, Phase.IDLE),
    ]
    for event, expected in story:
        phase = follow(phase, event)
        assert phase is expected
    assert {target for _, target in story} == set(Phase)


def test_an_event_that_does_not_fit_the_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="no transition for promoted in phase idle"):
        follow(Phase.IDLE, Event.PROMOTED)


def test_no_phase_has_two_ways_for_one_event() -> None:
    keys = [(arrow.source, arrow.event) for arrow in TRANSITIONS]
    assert len(keys) == len(set(keys))


def test_every_event_can_happen_and_every_phase_can_be_left_for_idle() -> None:
    assert {arrow.event for arrow in TRANSITIONS} == set(Event)
    for phase in Phase:
        assert follow(phase, Event.PAUSED) is phase
        if phase is not Phase.IDLE:
            assert follow(phase, Event.RECOVERED) is Phase.IDLE


def test_the_documented_picture_is_the_table() -> None:
    """`python -m tests.harness.lifecycle_page` writes it anew."""
    assert Path(PAGE).read_text() == render()
