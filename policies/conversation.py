"""A conversation as it was: who said what, with which tools, pictures and thoughts; whatever API it went over.

Readers of the wire make these (`proxy.wire.extract`), formats write them (`policies.formats`). Between the two, what is
taught is decided: a turn that people disliked stays in the conversation, but is not `taught`.

Attachments and tools are kept as OpenAI's chat completions write them, which is what trainers read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

__all__ = ["Attachment", "Content", "Conversation", "Lack", "Medium", "Role", "ToolCall", "Turn"]

Role = Literal["system", "user", "assistant", "tool"]
Medium = Literal["image", "audio", "video", "file"]


class Lack(StrEnum):
    """Why a conversation cannot be taught: a part of what the model saw, or said, is not at hand."""

    CONTEXT_ELSEWHERE = "context_elsewhere"
    """It goes on from a conversation that the provider keeps, and of which the log has no whole copy."""
    MULTIMODAL = "multimodal"
    """A picture, a sound or a file that was not sent along, or that the format has no place for."""
    TRUNCATED = "truncated"
    """The captured copy is truncated."""
    UNREAD = "unread"
    """A part could not be understood."""
    MALFORMED = "malformed"
    """The answer contains a call that nobody could run: the text of one, or one whose arguments are no JSON object."""
    NOT_IN_FORMAT = "not_in_format"
    """Something was given that no format has a place for: the text behind a gap, documents beside the messages."""


@dataclass(slots=True, kw_only=True)
class Attachment:
    """Something in a turn that is no text."""

    medium: Medium
    part: Mapping[str, Any] | None = None
    """As a content part of an OpenAI chat message (`{"type": "image_url", …}`) with its data or a public address; None
    where only the provider has it."""


Content = str | tuple[str | Attachment, ...]
"""What a turn says: a text as a rule, else its pieces in order."""


@dataclass(slots=True, kw_only=True)
class ToolCall:
    """A tool that the model called."""

    name: str
    arguments: str
    """JSON text; of a custom tool whatever text it takes."""
    id: str | None = None
    custom: bool = False
    """A custom tool of OpenAI's, which takes plain text."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """What one side said. Nobody changes one; see `dataclasses.replace`."""

    role: Role
    content: Content = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None
    """Of a tool's result: the call that it answers."""
    name: str | None = None
    """Of a tool's result: the tool; of anybody else the name that the client gave them."""
    reasoning: str | None = None
    """What the model thought before it spoke, wherever it stood: beside the text, in a block, or in `<think>`."""
    taught: bool = True
    """Whether a model may learn to say this. False for what people disliked."""

    @property
    def text(self) -> str:
        """The words alone."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(piece for piece in self.content if isinstance(piece, str))

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What is no text."""
        if isinstance(self.content, str):
            return ()
        return tuple(piece for piece in self.content if isinstance(piece, Attachment))

    @property
    def empty(self) -> bool:
        """Whether nothing was said and no tool was called."""
        content = self.content
        if isinstance(content, str):
            return not self.calls and (not content or content.isspace())
        return not self.calls and not any(isinstance(piece, Attachment) or piece.strip() for piece in content)


@dataclass(slots=True, kw_only=True)
class Conversation:
    """What was said before an answer, and the answer. Nobody changes one."""

    turns: tuple[Turn, ...]
    """Before the answer, oldest first; never empty turns, but for tools that had nothing to say."""
    answer: Turn
    tools: tuple[Mapping[str, Any], ...] = ()
    """Offered to the model, as OpenAI's chat lists them: {"type": "function", "function": {…}}."""
    lacks: Lack | None = None
    goes_on_from: str | None = None
    """Provider's id of the answer that it goes on from (`previous_response_id`), while that part is not joined."""
    instructed: bool = False
    """Whether the first turn was said for this answer alone (`instructions`): what goes on from it does not see it."""

    @property
    def question(self) -> Turn | None:
        """The last user turn, else the last turn; None where nothing was said before the answer."""
        for turn in reversed(self.turns):
            if turn.role == "user":
                return turn
        return self.turns[-1] if self.turns else None

    @classmethod
    def plain(cls, query: str, answer: str) -> Conversation:
        """One question and its answer."""
        turns = (Turn(role="user", content=query),)
        return cls(turns=turns, answer=Turn(role="assistant", content=answer))
