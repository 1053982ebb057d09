"""The turns of a conversation as formats write them: calls joined with their results, the disliked left out.

Every trainer refuses a call without a result and a result without a call, and none can read arguments that are no JSON
object; a conversation with such a thing has no line. Calls that came without an id (Ollama, Gemini) are numbered, in
the nine characters that Mistral asks for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from policies.conversation import Content, Conversation, ToolCall, Turn

__all__ = ["arguments_of", "numbered", "paired", "speakable", "without_disliked"]


def paired(said: Conversation) -> Conversation | None:
    """`said` with an id on every call and on every result; None where calls and results do not belong together."""
    if not said.answer.calls and not any(turn.calls or turn.role == "tool" for turn in said.turns):
        return said
    turns: list[Turn] = []
    waiting: list[ToolCall] = []
    known = 0
    for turn in said.turns:
        if turn.role == "tool":
            call = _answered(turn, waiting)
            if call is None:
                return None
            waiting = [other for other in waiting if other is not call]
            turns.append(replace(turn, call_id=call.id, name=turn.name or call.name))
            continue
        if waiting:
            return None
        turns.append(numbered(turn, known))
        known += len(turn.calls)
        waiting = list(turns[-1].calls)
    return None if waiting else replace(said, turns=tuple(turns), answer=numbered(said.answer, known))


def speakable(calls: Sequence[ToolCall]) -> bool:
    """Whether trainers can read these calls: functions with a name, and a JSON object for arguments."""
    return all(call.name and not call.custom and arguments_of(call) is not None for call in calls)


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """The arguments as an object; None where they are something else. None at all are an empty object."""
    if not call.arguments.strip():
        return {}
    try:
        found = json.loads(call.arguments, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def without_disliked(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns without those that are not `taught`, nor the results of their calls.

    Two turns of one side that meet where something was left out become one, so that sides go on alternating. An answer
    takes the calls that led to it along, for no result can stand before a question. What came after the last question
    stays: the answer rests on it, and a prompt is not learnt.
    """
    if all(turn.taught for turn in turns):
        return tuple(turns)
    last = max((at for at, turn in enumerate(turns) if turn.role == "user"), default=0)
    kept: list[list[Turn]] = []
    gap = False
    for step in [*_steps(turns[:last]), *_steps(turns[last:], kept=True)]:
        if not step:
            gap = True
            continue
        if gap and step[0].role == "user":
            while kept and len(kept[-1]) > 1:
                kept.pop()
        if gap and kept and _meet(kept[-1], step):
            kept[-1] = [_joined(kept[-1][0], step[0])]
        else:
            kept.append(step)
        gap = False
    return tuple(turn for step in kept for turn in step)


def _steps(turns: Sequence[Turn], *, kept: bool = False) -> list[list[Turn]]:
    """Each turn with the results of its calls; an empty list for what is left out."""
    steps: list[list[Turn]] = []
    for turn in turns:
        if turn.role == "tool" and steps:
            steps[-1] += [turn] if steps[-1] else []
        else:
            steps.append([turn] if kept or turn.taught else [])
    return steps


def _meet(before: list[Turn], after: list[Turn]) -> bool:
    return len(before) == len(after) == 1 and before[0].role == after[0].role


def _joined(first: Turn, second: Turn) -> Turn:
    name = first.name if first.name == second.name else None
    return replace(second, content=_both(first.content, second.content), name=name)


def _both(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return (*((first,) if isinstance(first, str) else first), *((second,) if isinstance(second, str) else second))


def _answered(result: Turn, waiting: Sequence[ToolCall]) -> ToolCall | None:
    """The call that a tool's result belongs to: by id, else by the tool's name, else the next in order."""
    if result.call_id is not None:
        return next((call for call in waiting if call.id == result.call_id), None)
    named = [call for call in waiting if result.name in (None, call.name)]
    return named[0] if named else None


def numbered(turn: Turn, known: int) -> Turn:
    """`turn` with an id on every call, `known` calls standing before it."""
    if all(call.id for call in turn.calls):
        return turn
    calls = tuple(
        call if call.id else replace(call, id=f"call{number:05d}") for number, call in enumerate(turn.calls, known)
    )
    return replace(turn, calls=calls)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
