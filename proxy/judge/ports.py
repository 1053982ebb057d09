"""What a judge is: it reads a conversation and its answer, and says how good that is, or which of two is better.

Who is asked knows neither arm nor model: an item has what the user said and what was answered, and nothing else. A
judge that cannot say, or whose words make no sense, gives no score and a `failure`; nothing is guessed for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

__all__ = ["Choice", "Failure", "Judge", "JudgeItem", "JudgePair", "Judgement", "Message", "PairJudgement"]

Message: TypeAlias = Mapping[str, Any]
"""As OpenAI's chat has it (`policies.formats.messages`): role, content, tool_calls …"""


class Failure(StrEnum):
    """Why there is no score. Also the label of a metric."""

    UNREADABLE = "unreadable"
    """It answered, but not with a verdict."""
    REFUSED = "refused"
    """It declined the request (4xx): a wrong key, model or URL, or a text that it does not read."""
    BUSY = "busy"
    """It said 429, 503 or 529 until the attempts were used up."""
    UNREACHABLE = "unreachable"
    """It was not reached, or failed (5xx)."""
    TIMEOUT = "timeout"
    """It took too long."""
    LACKING = "lacking"
    """It was not asked: a part of the conversation is not at hand."""
    FAILED = "failed"
    """The function raised, its process ended, or it returned no scores."""


class Choice(StrEnum):
    """Which of two answers is better."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeItem:
    """An answer to judge."""

    messages: tuple[Message, ...]
    """What was said before the answer, oldest first."""
    answer: Message
    """The assistant's message."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Offered to the model, as OpenAI's chat lists them."""
    rubric: str | None = None
    """What to judge by, for this item alone; None: the judge's own rubric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePair:
    """Two answers to one question. The judge reads both orders, so that it cannot prefer a place."""

    messages: tuple[Message, ...]
    first: Message
    second: Message
    tools: tuple[Mapping[str, Any], ...] = ()
    rubric: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a `JudgeItem`."""

    score: float | None = None
    """In [0, 1]; None: there is none, and `failure` says why."""
    reason: str = ""
    """The judge's own words, at most some hundred characters; or what went wrong."""
    tokens: int = 0
    """Tokens that it cost, prompt and completion, as the judge's server counts them; 0 where it does not say."""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairJudgement:
    """What became of a `JudgePair`: a choice for each order, both in terms of the pair's own `first` and `second`."""

    straight: Choice | None = None
    """With `first` shown first; None: no verdict."""
    turned: Choice | None = None
    """With `second` shown first."""
    reason: str = ""
    tokens: int = 0
    failure: Failure | None = None


class Judge(Protocol):
    """Something that judges. Its methods never raise for what a judge does wrong: each item has its own failure. Safe
    to call from several tasks of one event loop; how many requests are open at once is the judge's own limit."""

    @property
    def scorer(self) -> str:
        """Who this is in tables and pages: kind, model, and a hash of model, rubric and prompt. Another rubric or model
        is another scorer, whose agreement with people starts anew."""
        ...

    @property
    def at_once(self) -> int:
        """How many items it likes to have in one call: what is killed in the middle of a call is lost."""
        ...

    async def score(self, items: Sequence[JudgeItem]) -> Sequence[Judgement]:
        """A judgement for each item, in order."""
        ...

    async def prefer(self, pairs: Sequence[JudgePair]) -> Sequence[PairJudgement]:
        """A judgement for each pair, in order; both orders are asked."""
        ...

    async def close(self) -> None:
        """End what it has open."""
        ...
