"""A judge compares two answers: by a score for each, or by which is better, read in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from policies.gate import Side
from proxy.checks.reading import Read
from proxy.judge.items import item_of
from proxy.judge.ports import Choice, Judge, JudgePair

__all__ = ["Silent", "Weigher"]

_PASSES = 0.5
"""Score from which on an answer is as a rubric wants it."""
_SIDE: dict[Choice, Side] = {Choice.FIRST: "champion", Choice.SECOND: "challenger", Choice.TIE: "tie"}


@dataclass(frozen=True, slots=True)
class Silent:
    """The judge has said nothing that makes sense; why, in words."""

    reason: str


class Weigher:
    """Asks one judge, in one way."""

    def __init__(self, judge: Judge, by: Literal["scores", "pairs"]) -> None:
        self._judge = judge
        self.by = by

    async def weigh(self, champion: Read, challenger: Read) -> dict[str, Any] | Silent:
        """What is kept of its verdict, see `proxy.checks.facts`."""
        first, second = item_of(champion.said), item_of(challenger.said)
        if first is None or second is None:
            return {"by": "none", "tokens": 0}
        if self.by == "scores":
            one, other = await self._judge.score((first, second))
            tokens = one.tokens + other.tokens
            if one.score is None or other.score is None:
                return Silent(_why(one if one.score is None else other))
            return {"by": "scores", "champion": one.score, "challenger": other.score, "tokens": tokens}
        pair = JudgePair(messages=first.messages, first=first.answer, second=second.answer, tools=first.tools)
        (judged,) = await self._judge.prefer((pair,))
        if judged.straight is None or judged.turned is None:
            return Silent(_why(judged))
        straight, turned = _SIDE[judged.straight], _SIDE[judged.turned]
        return {"by": "pairs", "straight": straight, "turned": turned, "tokens": judged.tokens}

    async def fits(self, answers: tuple[Read, Read], rubric: str) -> tuple[bool, bool] | Silent:
        """Whether each of the answers is as the rubric wants it. One that nobody can read is not."""
        items = [item_of(answer.said, rubric) for answer in answers]
        judged = iter(await self._judge.score([item for item in items if item is not None]))
        found = []
        for item in items:
            verdict = None if item is None else next(judged)
            if verdict is not None and verdict.score is None:
                return Silent(_why(verdict))
            found.append(verdict is not None and verdict.score is not None and verdict.score >= _PASSES)
        return found[0], found[1]


def _why(judged: Any) -> str:
    """What went wrong, without the judge's own words, which may quote users."""
    return f"the judge gave no verdict ({judged.failure.value if judged.failure is not None else 'unreadable'})"
