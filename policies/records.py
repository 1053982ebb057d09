"""The words and values that every policy shares: arms, outcomes, phases, samples.

Instants are Unix seconds (float, UTC) in fields ending `_at`; durations end in their unit. `None` means
unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from policies.conversation import Conversation, Turn

__all__ = ["AnswerOf", "Arm", "Author", "Feedback", "LoggedExchange", "Outcome", "Preferred", "Sample", "StickySource"]


class Arm(IntEnum):
    """A side of the experiment. The integer is what the store keeps."""

    CHAMPION = 0
    CHALLENGER = 1
    CONTROL = 2
    """After a promotion: users who stay on the old champion for a while, so that the new one is compared with it."""

    @property
    def label(self) -> str:
        """Lower-case name, as used in metrics, headers and pages."""
        return self.name.lower()


TESTED: Final = (Arm.CHAMPION, Arm.CHALLENGER)
"""The arms that a test compares."""


class Author(IntEnum):
    """Who wrote what is to be learnt."""

    PERSON = 0
    """A correction."""
    ELSEWHERE = 1
    """A model that was not trained here."""
    OWN = 2
    """A model that was trained here."""


class Outcome(IntEnum):
    """Whether the user got an answer, and if not, why. The integer is what the store keeps.

    The gateway knows the first five from the connection; what the answer itself says decides the rest, when it is read.
    Whoever asks whether something went wrong asks `failed` or `refused` here, so that all readers agree.
    """

    OK = 0
    """A whole answer."""
    CLIENT_DISCONNECT = 1
    """The client left before its end."""
    UPSTREAM_ERROR = 2
    """The model failed: not reached, broken off, a 5xx, or an error inside an answer that began well."""
    TIMEOUT = 3
    """The model was silent for too long."""
    TRUNCATED = 4
    """We were told to stop, and truncated it."""
    INCOMPLETE = 5
    """A stream of a known shape that ended cleanly, but without its terminal mark."""
    REFUSED = 6
    """The server declined the request with a 4xx."""

    @property
    def label(self) -> str:
        """Lower-case name, as used in metrics and pages."""
        return self.name.lower()

    @property
    def failed(self) -> bool:
        """No answer, and that is the model's fault."""
        return self in _FAILED

    @property
    def refused(self) -> bool:
        """No answer, and whose fault that is shows only beside what the other arm does."""
        return self is Outcome.REFUSED

    def with_status(self, status: int) -> Outcome:
        """What this is of an exchange with that HTTP status: OK is only what was answered with less than 400.

        Version 0.1 called OK whatever came whole; its records and sums are read like this.
        """
        if self is not Outcome.OK or status < 400:
            return self
        return Outcome.REFUSED if status < 500 else Outcome.UPSTREAM_ERROR


_FAILED: Final = frozenset((Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.INCOMPLETE))


class StickySource(StrEnum):
    """Where the sticky key of a request came from, in the order in which the sources are tried; CONVERSATION is
    tried before FIRST_MESSAGE. A store knows them by their position: new ones are added at the end."""

    RATCHET_HEADER = "x-ratchet-user"
    HEADER = "header"
    COOKIE = "cookie"
    BODY = "body"
    FIRST_MESSAGE = "first-message"
    RANDOM = "random"
    CONVERSATION = "conversation"


class Feedback(IntEnum):
    """One vote."""

    NEGATIVE = -1
    NEUTRAL = 0
    POSITIVE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedExchange:
    """What went over the wire, as it was logged: content encodings undone, a streamed answer put together."""

    kind: str = ""
    """One of policies.kinds.Kind."""
    target: str = ""
    """Path and query of the request."""
    request: bytes = b""
    response: bytes = b""
    request_type: str = ""
    """Content-Type of the request."""
    response_type: str = ""
    """Content-Type of the response; of a stream that was put together still that of the stream."""
    cut: bool = False
    """One of the captured copies is truncated."""


@dataclass(slots=True, kw_only=True)
class AnswerOf:
    """What a model answered. Nobody changes one."""

    turn: Turn
    model: str = ""
    """Its name."""
    generation: int = 0
    """How many trainings of this installation lie behind it."""


@dataclass(slots=True, kw_only=True)
class Preferred:
    """Two answers to the question of a sample, of which people who saw both prefer one. Nobody changes one."""

    chosen: AnswerOf
    rejected: AnswerOf
    regenerated: bool = False
    """Nobody saw both side by side: a user had the rejected one made anew, and kept the chosen one."""


@dataclass(slots=True, kw_only=True)
class Sample:
    """One logged exchange as the training-data policies see it. Nobody changes one that another has.

    Not frozen, for a dataset makes a million: a frozen one takes five times as long to make.
    """

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
    exchange: LoggedExchange = field(default_factory=LoggedExchange)
    conversation: Conversation | None = None
    """Read from the exchange; None as long as nobody has read it."""
    generation: int = 0
    """Of the model that answered: how many trainings of this installation lie behind it; 0 for one from elsewhere."""
    model: str = ""
    """Name of the model that answered."""
    arm: Arm = Arm.CHAMPION
    quality: float | None = None
    """Score in [0, 1]; None when nothing scored it."""
    feedback: float | None = None
    """Mean of the effective votes in [-1, 1]; None when nobody voted."""
    correction: str | None = None
    """What a person said the answer should have been."""
    preferred: tuple[Preferred, ...] = ()
    """What people prefer of answers that checks of challengers have compared."""
    trainable: bool = True
    """False when the request asked not to be stored for training (`store: false`, no-train header)."""
    tags: Mapping[str, str] = field(default_factory=dict)
    cluster: int | None = None
    """Whose evidence it is where nobody vouched for the user (a hash, signed 64 bits); else None."""

    @property
    def said(self) -> Conversation:
        """The conversation; of a sample that has no other, its question and answer."""
        return self.conversation or Conversation.plain(self.query, self.response)

    @property
    def author(self) -> Author:
        """Who wrote the answer that counts: a correction stands in the place of the model's."""
        if self.correction is not None:
            return Author.PERSON
        return Author.OWN if self.generation else Author.ELSEWHERE
