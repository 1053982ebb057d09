"""Every phase of the loop and every way from one to another, as one table.

Rule one: what changes the phase is an `Event`, and every event that exists stands in `TRANSITIONS`; nothing
else in the project assigns a phase. The picture in docs/explanation/lifecycle.md is drawn from this table.

    idle       nothing under way; triggers are watched
    training   a dataset is ready, a model is being made from it
    deploying  the model exists, its server is coming up
    checking   the challenger answers old questions, and is compared with the champion before any user sees it
    shadowing  the challenger gets copies of live requests; its answers go to nobody
    testing    the challenger serves its share of the users; every look evaluates the experiment
    promoting  the challenger has won (or tests are off) and is checked once more before it gets everybody
    watching   the new champion has all users but a few, who stay on the old one to compare with; if guardrails
               break, the old one takes all of them back

Paused is a flag beside the phase, not a phase: a paused loop starts nothing, and still rolls back a harmful
challenger and returns traffic from a broken champion.

Preparing data is no phase: it is one effect out of idle, which ends in training (enough samples), or in idle
again (too few, `--no-train`, no trainer, or an error) without any model having been touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "Arrow", "Event", "Phase", "follow"]


class Phase(StrEnum):
    """Where the loop stands."""

    IDLE = "idle"
    TRAINING = "training"
    DEPLOYING = "deploying"
    CHECKING = "checking"
    SHADOWING = "shadowing"
    TESTING = "testing"
    PROMOTING = "promoting"
    WATCHING = "watching"


class Event(StrEnum):
    """What happened. The value is what the journal, the metrics and notifications say."""

    DATASET_READY = "dataset_ready"
    DATASET_TOO_SMALL = "dataset_too_small"
    DATASET_ONLY = "dataset_only"
    DATASET_FAILED = "dataset_failed"
    TRAINING_STARTED = "training_started"
    TRAINED = "trained"
    TRAINING_FAILED = "training_failed"
    RUN_CANCELLED = "run_cancelled"
    DEPLOYMENT_STARTED = "deployment_started"
    DEPLOYMENT_RESTARTED = "deployment_restarted"
    REDEPLOYED = "redeployed"
    CHALLENGED = "challenged"
    CHECK_STARTED = "check_started"
    CHECK_REJECTED = "check_rejected"
    SHADOW_STARTED = "shadow_started"
    DEPLOYED = "deployed"
    DEPLOYED_UNTESTED = "deployed_untested"
    DEPLOYMENT_FAILED = "deployment_failed"
    SHARE_CHANGED = "share_changed"
    STAGE_REACHED = "stage_reached"
    TERMS_CHANGED = "terms_changed"
    WON = "won"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    PROMOTED = "promoted"
    PROMOTION_FAILED = "promotion_failed"
    RETURNED = "returned"
    CONTROL_RELEASED = "control_released"
    WATCH_RENEWED = "watch_renewed"
    WATCH_FINISHED = "watch_finished"
    WATCH_HALTED = "watch_halted"
    RETIRED = "retired"
    PAUSED = "paused"
    RESUMED = "resumed"
    REFUSED = "refused"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One arrow of the picture."""

    event: Event
    source: Phase
    target: Phase
    meaning: str
    """One line for the picture's legend."""


def _arrow(source: Phase, event: Event, target: Phase, meaning: str) -> Arrow:
    return Arrow(event=event, source=source, target=target, meaning=meaning)


def _everywhere(event: Event, meaning: str) -> tuple[Arrow, ...]:
    return tuple(_arrow(phase, event, phase, meaning) for phase in Phase)


TRANSITIONS: Final[tuple[Arrow, ...]] = (
    _arrow(Phase.IDLE, Event.DATASET_READY, Phase.TRAINING, "a trigger fired and the dataset has enough samples"),
    _arrow(Phase.IDLE, Event.DATASET_TOO_SMALL, Phase.IDLE, "there are too few usable samples; no cool-down starts"),
    _arrow(Phase.IDLE, Event.DATASET_ONLY, Phase.IDLE, "only data was requested (--no-train), or there is no trainer"),
    _arrow(Phase.IDLE, Event.DATASET_FAILED, Phase.IDLE, "the dataset could not be written; it is retried later"),
    _arrow(Phase.TRAINING, Event.TRAINING_STARTED, Phase.TRAINING, "the trainer has accepted the run"),
    _arrow(Phase.TRAINING, Event.TRAINED, Phase.DEPLOYING, "the trainer has returned a model"),
    _arrow(Phase.TRAINING, Event.TRAINING_FAILED, Phase.IDLE, "the run failed, timed out or got lost; data is kept"),
    _arrow(Phase.TRAINING, Event.RUN_CANCELLED, Phase.IDLE, "a person cancelled the run"),
    _arrow(Phase.DEPLOYING, Event.DEPLOYMENT_STARTED, Phase.DEPLOYING, "the deployer has accepted the model"),
    _arrow(Phase.DEPLOYING, Event.DEPLOYMENT_RESTARTED, Phase.DEPLOYING, "it did not start; that may be temporary"),
    _arrow(Phase.IDLE, Event.REDEPLOYED, Phase.DEPLOYING, "a person deployed the model of an earlier run"),
    _arrow(Phase.IDLE, Event.CHALLENGED, Phase.DEPLOYING, "a person brought a challenger"),
    _arrow(Phase.DEPLOYING, Event.CHECK_STARTED, Phase.CHECKING, "the challenger is healthy and is compared first"),
    _arrow(Phase.DEPLOYING, Event.DEPLOYMENT_FAILED, Phase.IDLE, "it never became healthy, or cannot be served"),
    _arrow(Phase.DEPLOYING, Event.RUN_CANCELLED, Phase.IDLE, "a person cancelled the deployment"),
    _arrow(Phase.CHECKING, Event.DEPLOYMENT_RESTARTED, Phase.DEPLOYING, "it answers nothing; that may pass"),
    _arrow(Phase.CHECKING, Event.DEPLOYMENT_FAILED, Phase.IDLE, "it answers nothing"),
    _arrow(Phase.CHECKING, Event.CHECK_REJECTED, Phase.IDLE, "its answers are worse than the champion's"),
    _arrow(Phase.CHECKING, Event.RUN_CANCELLED, Phase.IDLE, "a person cancelled the check"),
    _arrow(Phase.CHECKING, Event.SHADOW_STARTED, Phase.SHADOWING, "it passed, and gets copies of live requests"),
    _arrow(Phase.CHECKING, Event.DEPLOYED, Phase.TESTING, "it passed, and gets its share of the users"),
    _arrow(Phase.CHECKING, Event.DEPLOYED_UNTESTED, Phase.PROMOTING, "it passed; A/B testing is off"),
    _arrow(Phase.SHADOWING, Event.DEPLOYMENT_FAILED, Phase.IDLE, "it stopped answering"),
    _arrow(Phase.SHADOWING, Event.CHECK_REJECTED, Phase.IDLE, "its answers are worse than the champion's"),
    _arrow(Phase.SHADOWING, Event.RUN_CANCELLED, Phase.IDLE, "a person cancelled the shadowing"),
    _arrow(Phase.SHADOWING, Event.DEPLOYED, Phase.TESTING, "the shadow hours are over: it gets its share of the users"),
    _arrow(Phase.SHADOWING, Event.DEPLOYED_UNTESTED, Phase.PROMOTING, "the shadow hours are over; A/B testing is off"),
    _arrow(Phase.TESTING, Event.STAGE_REACHED, Phase.TESTING, "no harm so far: the share of users rises by itself"),
    _arrow(Phase.TESTING, Event.SHARE_CHANGED, Phase.TESTING, "a person changed the share; a new epoch begins"),
    _arrow(Phase.TESTING, Event.TERMS_CHANGED, Phase.TESTING, "weights, icc or metrics changed; a new epoch begins"),
    _arrow(Phase.TESTING, Event.WON, Phase.PROMOTING, "the experiment, or a person, promotes the challenger"),
    _arrow(Phase.TESTING, Event.ROLLED_BACK, Phase.IDLE, "the challenger does harm, or a person rolled it back"),
    _arrow(Phase.TESTING, Event.REJECTED, Phase.IDLE, "the challenger cannot reach the required gain"),
    _arrow(Phase.PROMOTING, Event.PROMOTED, Phase.WATCHING, "nearly all users are on the new champion"),
    _arrow(Phase.PROMOTING, Event.PROMOTION_FAILED, Phase.IDLE, "the challenger stopped answering before the switch"),
    _arrow(Phase.PROMOTING, Event.ROLLED_BACK, Phase.IDLE, "a person rolled the challenger back before the switch"),
    _arrow(Phase.WATCHING, Event.CONTROL_RELEASED, Phase.WATCHING, "the old champion cannot serve its users any more"),
    _arrow(Phase.WATCHING, Event.WATCH_RENEWED, Phase.WATCHING, "no harm so far: the next part of the watch begins"),
    _arrow(Phase.WATCHING, Event.RETURNED, Phase.IDLE, "a guardrail broke, or a person rolled the promotion back"),
    _arrow(Phase.WATCHING, Event.WATCH_FINISHED, Phase.IDLE, "the watch window is over; the old champion retires"),
    _arrow(Phase.WATCHING, Event.WATCH_HALTED, Phase.IDLE, "the old champion is down: no rollback is possible"),
    *_everywhere(Event.RETIRED, "a model without traffic was stopped"),
    *_everywhere(Event.PAUSED, "a person paused the loop"),
    *_everywhere(Event.RESUMED, "a person resumed the loop"),
    *_everywhere(Event.REFUSED, "a command does not fit the phase"),
    *(
        _arrow(phase, Event.RECOVERED, Phase.IDLE, "data of the phase is missing (an older database): back to idle")
        for phase in Phase
        if phase is not Phase.IDLE
    ),
)  # fmt: skip

_TARGETS: Final[Mapping[tuple[Phase, Event], Phase]] = MappingProxyType(
    {(arrow.source, arrow.event): arrow.target for arrow in TRANSITIONS}
)


def follow(phase: Phase, event: Event) -> Phase:
    """The phase after `event` in `phase`. Raises ValueError where the table has no such arrow."""
    try:
        return _TARGETS[phase, event]
    except KeyError:
        raise ValueError(f"no transition for {event.value} in phase {phase.value}; see policies/lifecycle.py") from None
