"""What formats are asked with and answer: how to write, the line, and the answers that wait for a counterpart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from policies.records import Author

__all__ = ["FormatType", "MemoryPartners", "Partners", "Style", "TrainingLine", "Waiting"]

FormatType = Literal["chatml", "prompt_completion", "alpaca", "completion", "dpo", "kto"]
"""Names of the formats of `policies.formats.FORMATS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How lines are to be written."""

    format_type: FormatType
    system_prompt: str | None = None
    """A system message for conversations that have none."""
    train_on: Literal["last", "all"] = "last"
    """Which of the model's turns are learnt, where the format can say so."""
    keep_reasoning: bool = False
    """Whether what the model thought is written, where the format can hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An answer with a vote that waits for its counterpart."""

    record_id: str
    user: int | None
    answer: str
    """The assistant's message, as JSON text."""
    author: Author
    generation: int = 0
    model: str = ""


@dataclass(slots=True, kw_only=True)
class TrainingLine:
    """One line of the training file. Nobody changes one."""

    body: Mapping[str, Any]
    """The JSON object."""
    author: Author
    """Who wrote the answer that is to be learnt."""
    generation: int = 0
    """Of the model that wrote it; 0 for one from elsewhere, and for a person."""
    model: str | None = None
    """Whose answer is to be learnt, where that is not the record's own."""
    preferred: bool = False
    """Whether it is from two answers that people compared side by side."""
    regenerated: bool = False
    """Whether it is from an answer that a user had made anew, and the one that was kept."""
    partner: Waiting | None = None
    """The other record in a pair of two."""
    reasoning: bool = False
    """Whether the model thought aloud anywhere in the conversation, written or not."""
    parts: bool = False
    """Whether a content is a list of parts: then all of the file is to be written `in_parts`, or this line left out."""


class Partners(Protocol):
    """Answers with a vote that wait for an answer to the same conversation with the opposite vote."""

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return a waiting answer, if there is one."""
        ...

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        ...


class MemoryPartners:
    """Waiting answers in a dictionary, for small sets and for tests."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, bool], list[Waiting]] = {}

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return the answer that waited longest."""
        answers = self._waiting.get((conversation, liked))
        return answers.pop(0) if answers else None

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        self._waiting.setdefault((conversation, liked), []).append(waiting)
