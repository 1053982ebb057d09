"""From what was logged to what a judge reads: the conversation, and nothing about who served it.

Neither arm, model, endpoint, headers nor ids go along. What stands in the texts themselves cannot be taken out.
"""

from __future__ import annotations

from dataclasses import replace

from policies.conversation import Conversation, Lack, Turn
from policies.formats.messages import message
from policies.formats.turns import paired
from proxy.judge.ports import JudgeItem

__all__ = ["item_of"]

_LACKING = frozenset((Lack.TRUNCATED, Lack.CONTEXT_ELSEWHERE, Lack.UNREAD))
"""A judge would read another conversation than the model."""


def item_of(said: Conversation, rubric: str | None = None) -> JudgeItem | None:
    """The conversation as a judge reads it; None where a part of it is not at hand, or nothing was answered."""
    if said.lacks in _LACKING or said.goes_on_from is not None or said.answer.empty or not said.turns:
        return None
    whole = paired(said) or said  # results without calls are shown as they came
    return JudgeItem(
        messages=tuple(message(_spoken(turn)) for turn in whole.turns),
        answer=message(_spoken(whole.answer)),
        tools=whole.tools,
        rubric=rubric,
    )


def _spoken(turn: Turn) -> Turn:
    """Without what the model thought: users do not see it, and it tells models apart."""
    return replace(turn, reasoning=None) if turn.reasoning else turn
