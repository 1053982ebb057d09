"""What people read for a phase, an action and a command: one table each.

The console, `ratchet`, and docs/explanation/lifecycle.md take their words from here and have none of their own; a test
names whatever is missing. What the journal, the status document and the metrics write down for an action is its tag
(`actions.TAGS`), which never changes; the words may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from policies.lifecycle import Phase

__all__ = ["ACTIONS", "COMMANDS", "HOLD", "INSTALL", "MEASURES", "PHASES", "TRIGGERS", "VERDICTS", "ActionWords",
           "CommandWords", "PhaseWords", "Verb", "action_label", "measure_label", "trigger_label"]  # fmt: skip

HOLD: Final = "Hold"
"""The journal's tag of a decision to do nothing."""
INSTALL: Final = "Install"
"""The journal's tag of a change of the installation itself: new settings, a restored database."""


class Verb(StrEnum):
    """What a person can tell the loop: a command."""

    TRIGGER = "trigger"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    SHARE = "share"
    DEPLOY = "deploy"
    CHALLENGE = "challenge"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseWords:
    """How a phase is called and explained."""

    label: str
    meaning: str
    """Full sentences: what goes on."""
    retrain_waits: str | None
    """Until when the next retrain waits, behind "waits "; None where nothing keeps it."""
    commands: tuple[Verb, ...]
    """Commands that fit the phase, apart from pause and resume, which fit each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionWords:
    """How something that the loop does is called and explained."""

    label: str
    """In the imperative."""
    meaning: str
    """One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandWords:
    """How a command is called and explained."""

    label: str
    """In the imperative: the name of the button."""
    meaning: str
    """Full sentences, the first in the imperative: what it does."""


PHASES: Final[Mapping[Phase, PhaseWords]] = MappingProxyType(
    {
        Phase.IDLE: PhaseWords(
            label="idle",
            meaning="No run and no experiment. The loop checks the triggers, and stops models that have no traffic.",
            retrain_waits=None,
            commands=(Verb.TRIGGER, Verb.DEPLOY, Verb.CHALLENGE),
        ),
        Phase.TRAINING: PhaseWords(
            label="training",
            meaning="A dataset is ready, and the trainer makes a model from it.",
            retrain_waits="until this run ends",
            commands=(Verb.CANCEL,),
        ),
        Phase.DEPLOYING: PhaseWords(
            label="deploying",
            meaning="The model exists and its server is starting. It gets no users yet.",
            retrain_waits="until the new model is deployed and tested",
            commands=(Verb.CANCEL,),
        ),
        Phase.CHECKING: PhaseWords(
            label="checking",
            meaning="The challenger answers questions that the champion has answered, and both answers are compared. "
            "It gets no users yet.",
            retrain_waits="until the new model is checked and tested",
            commands=(Verb.PROCEED, Verb.CANCEL),
        ),
        Phase.SHADOWING: PhaseWords(
            label="shadowing",
            meaning="The challenger gets copies of live requests. Its answers are compared, and no user gets them.",
            retrain_waits="until the new model is checked and tested",
            commands=(Verb.PROCEED, Verb.CANCEL),
        ),
        Phase.TESTING: PhaseWords(
            label="testing",
            meaning="The challenger serves its share of the users. Every tick evaluates the experiment.",
            retrain_waits="until the experiment ends",
            commands=(Verb.PROMOTE, Verb.ROLLBACK, Verb.SHARE),
        ),
        Phase.PROMOTING: PhaseWords(
            label="promoting",
            meaning="The challenger has won, or tests are off. Its health is checked again before it gets all users.",
            retrain_waits="until the promotion is complete",
            commands=(Verb.ROLLBACK,),
        ),
        Phase.WATCHING: PhaseWords(
            label="watching",
            meaning="The new champion has all users but a few (`ab_test_config.holdback_share`), who stay on the old "
            "one to compare with. The old one gets all users back if a guardrail breaks.",
            retrain_waits="until the watch window ends",
            commands=(Verb.ROLLBACK,),
        ),
    }
)

COMMANDS: Final[Mapping[Verb, CommandWords]] = MappingProxyType(
    {
        Verb.TRIGGER: CommandWords(
            label="Retrain now",
            meaning="Prepare training data from the records and start a training, whatever the triggers say.",
        ),
        Verb.PROMOTE: CommandWords(
            label="Promote",
            meaning="Make the challenger the champion, whatever the evidence says. The watch window still applies.",
        ),
        Verb.ROLLBACK: CommandWords(
            label="Roll back",
            meaning="Take all users away from the new model and give them back to the old champion.",
        ),
        Verb.PAUSE: CommandWords(
            label="Pause",
            meaning="Start nothing new. The loop still takes users away from a model that does harm.",
        ),
        Verb.RESUME: CommandWords(
            label="Resume", meaning="End the pause: the loop continues where it stopped, and triggers may train again."
        ),
        Verb.CANCEL: CommandWords(
            label="Cancel the run",
            meaning="Stop the training, deployment, check or shadowing in progress. No user is affected.",
        ),
        Verb.SHARE: CommandWords(
            label="Change the share",
            meaning="Change the challenger's share of the users; it stays there until the test ends. If the share "
            "rises, the evidence so far counts on; if it falls, evidence is collected afresh.",
        ),
        Verb.DEPLOY: CommandWords(
            label="Deploy this model",
            meaning="Deploy the model of an earlier run as the challenger, without training it again.",
        ),
        Verb.CHALLENGE: CommandWords(
            label="Bring a challenger",
            meaning="Test a model of your own, or the champion with another prompt, without a training. "
            "It is checked before any user sees it.",
        ),
        Verb.PROCEED: CommandWords(
            label="Proceed to the test",
            meaning="End the check or the shadowing, whatever it has found, and give the challenger its share of the "
            "users.",
        ),
    }
)

ACTIONS: Final[Mapping[str, ActionWords]] = MappingProxyType(
    {
        HOLD: ActionWords(label="Wait", meaning="There was nothing to do, or something to wait for."),
        INSTALL: ActionWords(
            label="Update the installation", meaning="New settings or a restored database took effect."
        ),
        "PrepareData": ActionWords(label="Prepare training data", meaning="Write the training file of a new run."),
        "StartTraining": ActionWords(label="Start training", meaning="Hand the run to the trainer."),
        "AcceptModel": ActionWords(
            label="Accept the trained model", meaning="Register the model that the training returned."
        ),
        "FailRun": ActionWords(
            label="Mark the run as failed", meaning="Give up a run that failed, timed out or was lost."
        ),
        "CancelRun": ActionWords(
            label="Cancel the run", meaning="Stop the training, deployment, check or shadowing in progress."
        ),
        "StartDeployment": ActionWords(label="Deploy the model", meaning="Hand the model to the deployer."),
        "RestartDeployment": ActionWords(
            label="Deploy the model again", meaning="Stop a deployment that did not start, and try again."
        ),
        "Redeploy": ActionWords(
            label="Deploy an earlier model", meaning="Hand the model of an earlier run to the deployer."
        ),
        "Challenge": ActionWords(
            label="Bring a challenger", meaning="Register a model that a person brought, and hand it to a deployer."
        ),
        "StartCheck": ActionWords(
            label="Check the challenger",
            meaning="Compare the challenger's answers with the champion's before users see it.",
        ),
        "StartShadow": ActionWords(
            label="Shadow the champion",
            meaning="Send the challenger copies of live requests; no user gets its answers.",
        ),
        "FailCheck": ActionWords(
            label="Reject the challenger unseen",
            meaning="Send back a challenger whose answers are worse, before any user has seen it.",
        ),
        "AbandonModel": ActionWords(label="Give up the model", meaning="Stop a model that could not be deployed."),
        "StartExperiment": ActionWords(
            label="Start the experiment", meaning="Give the challenger its first share of the users."
        ),
        "SetShare": ActionWords(
            label="Change the share",
            meaning="A person changes the challenger's share of the users. If it rises, the evidence so far counts on.",
        ),
        "RaiseShare": ActionWords(
            label="Raise the share", meaning="Go on to the next stage of the ramp; the evidence so far counts on."
        ),
        "BeginEpoch": ActionWords(
            label="Begin a new epoch",
            meaning="Collect evidence afresh, because settings that define the test have changed.",
        ),
        "BeginPromotion": ActionWords(
            label="Decide for the challenger",
            meaning="Select the challenger for promotion; it is checked once more first.",
        ),
        "Promote": ActionWords(
            label="Promote",
            meaning="Make the challenger the champion; some users stay on the old one for a while, as a control.",
        ),
        "FailPromotion": ActionWords(
            label="Call off the promotion", meaning="Send back a challenger that stopped answering before the switch."
        ),
        "RollBack": ActionWords(label="Roll back", meaning="Take the users away from a challenger that does harm."),
        "Reject": ActionWords(
            label="Reject the challenger", meaning="Send back a challenger that cannot reach the required gain."
        ),
        "ReturnTraffic": ActionWords(
            label="Return to the old champion", meaning="Give all users back to the old champion."
        ),
        "ReleaseControl": ActionWords(
            label="Release the control",
            meaning="Give the new champion all users, because the old one cannot serve those that stayed on it.",
        ),
        "RenewWatch": ActionWords(
            label="Begin the next part of the watch",
            meaning="Count users and failures afresh, so that good hours do not hide a model that turns bad; the "
            "evidence so far counts on.",
        ),
        "FinishWatch": ActionWords(
            label="Finish watching", meaning="End the watch window; the old champion is stopped."
        ),
        "HaltWatch": ActionWords(
            label="Stop watching and notify",
            meaning="A guardrail broke, but the old champion does not answer: traffic stays where it is.",
        ),
        "Retire": ActionWords(label="Stop a model", meaning="Stop a model that no longer has traffic."),
        "SetPaused": ActionWords(label="Pause or resume", meaning="Pause the loop, or end the pause."),
        "Refuse": ActionWords(label="Refuse a command", meaning="Answer a command that does not fit the phase."),
        "Recover": ActionWords(
            label="Recover", meaning="Go back to idle, because the database no longer has what the phase needs."
        ),
    }
)
"""By tag: of all of `actions.TAGS`, and the journal's own two."""

VERDICTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "promote": "Promote",
        "roll_back": "Roll back",
        "reject": "Reject",
        "continue": "Keep testing",
        "inconclusive": "Inconclusive",
        "invalid": "Not comparable",
        "withdrawn": "Withdrawn by a person",
        "returned": "Promoted, then undone",
        "lost": "Lost",
    }
)
"""What an experiment says: of each `Verdict`, and of three ends that no evaluation has."""


MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "scores": "scores of the application",
        "rectified": "the judge, rectified by votes",
        "judge": "the judge as it is",
        "format_check": "the format check",
        "nothing": "nothing measures it yet",
        "waiting": "no scores yet",
        "unweighed": "not weighed",
    }
)
"""What stands for quality: of each `QualityMeasure`."""


TRIGGERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "manual": "command of a person",
        "quality_drop": "drop of quality",
        "sample_count": "new samples",
        "negative_feedback": "negative votes",
        "schedule": "schedule",
    }
)
"""What starts a retrain: of each `Trigger`."""


def trigger_label(trigger: str) -> str:
    """`sample_count` → "new samples". What a newer version has written down stays as it is."""
    return TRIGGERS.get(trigger, trigger)


def measure_label(measure: str) -> str:
    """`format_check` → "the format check"."""
    return MEASURES.get(measure, measure)


def action_label(tag: str) -> str:
    """`StartExperiment` → "Start the experiment". What a newer version has written down stays its tag."""
    words = ACTIONS.get(tag)
    return tag if words is None else words.label
