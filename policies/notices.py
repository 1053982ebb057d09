"""What people are told of an event, in a message: what happened, why, by whom, and which page has more.

The reason is the loop's own sentence, with the number that decided. It quotes names of models and what programs have
said: whoever writes it into a chat escapes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from policies.lifecycle import Event

__all__ = ["TITLES", "Notice", "notice_of"]

_HELD: Final = {
    "invalid": "The test cannot be evaluated",
    "inconclusive": "The test has ended without a result",
    "few_clusters": "A promotion waits for a person",
    "check_hold": "The check lacks something, and waits for a person",
    "check_undecided": "The check is undecided, and waits for a person",
    "stopped_after_rejections": "No further training starts until a person has looked",
}
"""Events that ask a person for something; the loop itself goes nowhere by them."""
TITLES: Final[Mapping[str, str]] = MappingProxyType(
    _HELD
    | {
        "test": "This is a test message",
        Event.DATASET_READY: "Training data is ready",
        Event.DATASET_TOO_SMALL: "There is too little training data",
        Event.DATASET_ONLY: "Training data is ready, and nothing is trained",
        Event.DATASET_FAILED: "Training data could not be made",
        Event.TRAINING_STARTED: "A training has started",
        Event.TRAINED: "A training has finished",
        Event.TRAINING_FAILED: "A training has failed",
        Event.RUN_CANCELLED: "A run was cancelled",
        Event.DEPLOYMENT_STARTED: "The challenger is being deployed",
        Event.DEPLOYMENT_RESTARTED: "The challenger is being deployed again",
        Event.REDEPLOYED: "A model's server was started again",
        Event.CHALLENGED: "There is a new challenger",
        Event.CHECK_STARTED: "The challenger is being checked",
        Event.CHECK_REJECTED: "The check has rejected the challenger",
        Event.SHADOW_STARTED: "The challenger gets copies of live requests",
        Event.DEPLOYED: "The challenger is in its test",
        Event.DEPLOYED_UNTESTED: "The challenger is ready, without a test",
        Event.DEPLOYMENT_FAILED: "The challenger could not be deployed",
        Event.SHARE_CHANGED: "The challenger's share has changed",
        Event.STAGE_REACHED: "The challenger's share has risen",
        Event.TERMS_CHANGED: "The terms of the test have changed",
        Event.WON: "The challenger has won its test",
        Event.ROLLED_BACK: "The challenger was taken out",
        Event.REJECTED: "The challenger was not better",
        Event.PROMOTED: "The challenger was promoted",
        Event.PROMOTION_FAILED: "The promotion has failed",
        Event.RETURNED: "Traffic has returned to the old champion",
        Event.CONTROL_RELEASED: "The last users have moved to the new champion",
        Event.WATCH_RENEWED: "The watch has begun anew",
        Event.WATCH_FINISHED: "The new champion has passed its watch",
        Event.WATCH_HALTED: "The watch has stopped: the old champion does not answer",
        Event.RETIRED: "A model was stopped",
        Event.PAUSED: "The loop is paused",
        Event.RESUMED: "The loop goes on",
        Event.REFUSED: "A command was refused",
        Event.RECOVERED: "The loop has recovered",
    }
)
"""What happened, by event."""
_ALARMS: Final = frozenset(_HELD) | {
    Event.DATASET_FAILED,
    Event.TRAINING_FAILED,
    Event.DEPLOYMENT_FAILED,
    Event.PROMOTION_FAILED,
    Event.ROLLED_BACK,
    Event.RETURNED,
    Event.WATCH_HALTED,
}
_OURS: Final = "ratchet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message, before it is written in anybody's form."""

    title: str
    """What happened; ours, and harmless in any form."""
    text: str
    """Why, and by whom; it quotes what others have written."""
    path: str
    """Of the console's page."""
    alarm: bool
    """Whether somebody should look."""


def notice_of(event: Mapping[str, Any]) -> Notice:
    """What to tell of a notification's fields; of an event of another version, its name."""
    name = str(event.get("event"))
    reason, why, who = (str(event.get(key) or "").strip() for key in ("reason", "why", "who"))
    sentences = [_sentence(reason)]
    if why and why.rstrip(".") not in reason:
        sentences.append(_sentence(f"Decided because {_inside(why)}" if who in ("", _OURS) else f"Asked for: {why}"))
    if who not in ("", _OURS):
        sentences.append(f"By {who}.")
    if missed := event.get("missed"):
        sentences.append(f"Earlier messages that were lost: {missed}.")
    return Notice(
        title=TITLES.get(name, name.replace("_", " ").capitalize()),
        text=" ".join(filter(None, sentences)),
        path=_path(event),
        alarm=name in _ALARMS,
    )


def _path(event: Mapping[str, Any]) -> str:
    if (seq := event.get("journal_seq")) is not None:
        return f"/history/{seq}"
    if (experiment := event.get("experiment_id")) is not None:
        return f"/experiment/{experiment}"
    return "/"


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".!?" else f"{text}."


def _inside(text: str) -> str:
    """As a part of a sentence: a first word that is no name or number in small letters."""
    first = text.partition(" ")[0]
    return text[0].lower() + text[1:] if first.isalpha() and first[1:].islower() else text
