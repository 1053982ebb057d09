"""What a format is: how its lines look, what they can hold, who writes them, who reads them, how they are read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from policies.conversation import Turn
from policies.formats.line import FormatType, Partners, TrainingLine
from policies.formats.material import Material

__all__ = ["TYPED", "ConsumerName", "Format", "Holds", "Member", "Types"]

ConsumerName = Literal["openai", "trl", "axolotl", "mistral"]
"""Who trains on files, by the name that `ratchet data check --for` has for them."""
Types = type | tuple[type, ...]


class Holds(StrEnum):
    """What a line can say besides who said what."""

    TOOLS = "tools"
    """Tools, their calls and their results."""
    ATTACHMENTS = "attachments"
    """Pictures, sounds and files, as content parts."""
    REASONING = "reasoning"
    """What the model thought."""
    WEIGHTS = "weights"
    """Which turns are not to be learnt."""
    PAIRS = "pairs"
    """Which of two answers is the better one."""
    LABELS = "labels"
    """Whether an answer was liked."""


TYPED: Final = frozenset({Holds.TOOLS, Holds.ATTACHMENTS, Holds.REASONING})
"""What lines with messages hold."""


class Member(StrEnum):
    """What messages, or a bare text, are that a member of a line holds."""

    CONVERSATION = "conversation"
    """All of it; weights say what is learnt."""
    CONTEXT = "context"
    """What came before the answer; not learnt."""
    ANSWER = "answer"
    """Follows the context, and is learnt."""
    REJECTED = "rejected"
    """Follows the context, and is not to be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of training lines."""

    name: FormatType
    line: str
    """How a line looks; `?` follows what may be missing."""
    meaning: str
    """Who reads it, and what is learnt from it."""
    holds: frozenset[Holds]
    build: Callable[[Material, Partners], list[TrainingLine]]
    """The lines of a sample that was made ready; see `lines`."""
    fields: Mapping[str, Types]
    """What every line has, with its JSON type. A line is told by them: see `format_of`."""
    message_fields: Mapping[str, Member]
    """The fields that hold messages or a bare text, in the order in which they were said; none where a line is written
    in another way."""
    consumers: frozenset[ConsumerName]
    """Who takes a file of such lines as it is."""
    fits: Callable[[Sequence[Turn]], bool] = field(default=lambda _: True)
    """Whether it can hold turns in this order."""
    needs_votes: bool = False
    """Whether it learns from what people disliked, too: a sample needs a vote or a correction."""
