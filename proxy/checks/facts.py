"""What is kept of a comparison beside the texts: numbers and names, no words of users or models.

order        place in the order in which items are looked at
champion, challenger   each: worth, defects, characters, latency_s, tokens, said (a hash of the words), failed
differences  see `policies.comparison`
judge        {"by": "scores", "champion": s, "challenger": s} or {"by": "pairs", "straight": c, "turned": c}, with the
             judge's tokens; {"by": "none"} where it could not read this one
golden       {"name": …, "champion": [what did not hold], "challenger": […]}
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from policies.comparison import HARD, ComparedAnswers, Defect, SeenAnswer
from policies.gate import pair_outcome
from proxy.checks.reading import Read

__all__ = ["SIDES", "facts_of", "is_hard", "outcome_of", "tokens_of", "why_lost", "with_stock"]

SIDES = ("champion", "challenger")


def facts_of(
    order: float, champion: Read, challenger: Read, compared: ComparedAnswers, *, fresh: bool
) -> dict[str, Any]:
    """Of two answers. `fresh`: the champion was asked, too, so that its tokens count."""
    return {
        "order": order,
        "champion": _side(champion, compared.champion, tokens=champion.tokens if fresh else 0),
        "challenger": _side(challenger, compared.challenger, tokens=challenger.tokens),
        "differences": list(compared.differences),
    }


def _side(read: Read, seen: SeenAnswer, *, tokens: int) -> dict[str, Any]:
    return {
        "worth": seen.worth,
        "defects": [defect.value for defect in seen.defects],
        "characters": len(read.answer.words),
        "latency_s": read.answer.latency_s,
        "tokens": tokens,
        "said": _digest(read.answer.text),
        "failed": read.answer.failed is not None,
    }


def _digest(text: str) -> str:
    plain = " ".join(text.lower().split())
    return blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if plain else ""


def with_stock(facts: Mapping[str, Any], stock: tuple[bool, bool]) -> dict[str, Any]:
    """The same, where one of the answers is a stock answer."""
    changed = dict(facts)
    for side, found in zip(SIDES, stock, strict=True):
        if found and Defect.STOCK.value not in facts[side]["defects"]:
            defects = [*facts[side]["defects"], Defect.STOCK.value]
            changed[side] = {**facts[side], "worth": 0.0, "defects": defects}
    return changed


def outcome_of(facts: Mapping[str, Any], *, judged: bool) -> float | None:
    """X: what the judge says, unless an answer has a defect that nothing makes up for; then, and where no judge is
    asked, how much more the challenger's is visibly worth. None where the judge has yet to speak."""
    champion, challenger = (facts[side] for side in SIDES)
    visible = float(challenger["worth"]) - float(champion["worth"])
    if not judged or is_hard(facts):
        return visible
    judge = facts.get("judge")
    if judge is None:
        return None
    match judge["by"]:
        case "scores":
            return float(judge["challenger"]) - float(judge["champion"])
        case "pairs":
            return float(pair_outcome(judge["straight"], judge["turned"]))
        case _:
            return visible


def is_hard(facts: Mapping[str, Any]) -> bool:
    """Whether one of the answers has a defect that no judge makes up for: none needs to be asked."""
    return any(Defect(name) in HARD for side in SIDES for name in facts[side]["defects"])


def why_lost(facts: Mapping[str, Any]) -> str:
    """What is visible of the challenger's answer, in names; empty where nothing is."""
    return ", ".join((*facts["challenger"]["defects"], *facts["differences"]))


def tokens_of(facts: Mapping[str, Any]) -> int:
    """What it has cost."""
    return sum(int(facts[side]["tokens"]) for side in SIDES) + int(facts.get("judge", {}).get("tokens", 0))
