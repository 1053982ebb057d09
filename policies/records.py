"""The words and values that every policy shares: arms, outcomes, phases, samples.

Instants are Unix seconds (float, UTC) in fields ending `_at`; durations end in their unit. `None` means
unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Literal

__all__ = ["Arm", "Feedback", "FormatType", "Outcome", "Sample", "StickySource"]

FormatType = Literal["chatml", "alpaca", "completion", "dpo", "kto"]
"""How a line of a training file looks; see policies.formats."""


class Arm(IntEnum):
    """A side of the experiment. The integer is what the store keeps."""

    CHAMPION = 0
    CHALLENGER = 1

    @property
    def label(self) -> str:
        """Lower-case name, as used in metrics, headers and pages."""
        return self.name.lower()


class Outcome(IntEnum):
    """How an exchange ended, seen from the client. The integer is what the store keeps."""

    OK = 0
    CLIENT_DISCONNECT = 1
    UPSTREAM_ERROR = 2
    TIMEOUT = 3
    TRUNCATED = 4

    @property
    def label(self) -> str:
        """Lower-case name, as used in metrics and pages."""
        return self.name.lower()


class StickySource(StrEnum):
    """Where the sticky key of a request came from, in the order in which the sources are tried."""

    RATCHET_HEADER = "x-ratchet-user"
    HEADER = "header"
    COOKIE = "cookie"
    BODY = "body"
    FIRST_MESSAGE = "first-message"
    RANDOM = "random"


class Feedback(IntEnum):
    """One vote."""

    NEGATIVE = -1
    NEUTRAL = 0
    POSITIVE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One logged exchange as the training-data policies see it."""

    record_id: str
    """The record's id (UUID text); rehearsal samples carry `rehearsal:<line>`."""
    created_at: float
    """When the request arrived, Unix seconds."""
    user: int | None
    """Hash of the sticky key (signed 64 bits), or None for a key that was random per request."""
    query: str
    """The text of the last user turn, or the prompt."""
    response: str
    """The text the model answered."""
    messages: tuple[Mapping[str, str], ...] = ()
    """The whole conversation before the response (role, content), when the request was a chat."""
    model: str = ""
    """Name of the model that answered."""
    arm: Arm = Arm.CHAMPION
    quality: float | None = None
    """Score in [0, 1]; None when nothing scored it."""
    feedback: float | None = None
    """Mean of the effective votes in [-1, 1]; None when nobody voted."""
    correction: str | None = None
    """What a person said the answer should have been."""
    trainable: bool = True
    """False when the request asked not to be stored for training (`store: false`, no-train header)."""
    tags: Mapping[str, str] = field(default_factory=dict)
