"""Two answers to one question as a page shows them: words with their differences marked, calls as calls.

Which stands on the left is decided by a keyed hash of check, item and person: the same on every look, another for
everybody, and nobody can tell from the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from policies.conversation import Conversation, ToolCall, Turn
from policies.wording import many
from proxy.ids import KeyRing
from proxy.store.control.comparisons import ComparedRow
from proxy.store.control.preferences import Choice
from proxy.web.checks.marking import Piece, mark
from proxy.wire.compared import answered, failure_of
from proxy.wire.extract.values import items, mapping

__all__ = ["Pair", "Place", "ShownCall", "Side", "Spoken", "asked_words", "choice_of", "found_words", "pair_of",
           "place_of"]  # fmt: skip

Place = Literal["left", "right", "tie"]
_MOST_CHARS: Final = 60_000
"""Of one answer, or of one turn before it, that a page shows."""
_MOST_CALLS: Final = 50
_MOST_TURNS: Final = 60
_SIDES: Final[tuple[Choice, Choice]] = ("champion", "challenger")


@dataclass(frozen=True, slots=True)
class ShownCall:
    """A tool that a model called."""

    name: str
    arguments: str
    """JSON, indented; as it came where it is none."""
    marked: bool = False
    """The other answer does not have it."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn before the answer."""

    speaker: str
    text: str
    calls: tuple[ShownCall, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two answers."""

    arm: Choice
    pieces: tuple[Piece, ...]
    calls: tuple[ShownCall, ...]
    attachments: int
    failed: str | None
    """Why there is no answer, in words; None where there is one, or nobody knows."""
    defects: tuple[str, ...]
    """What is visibly wrong with it (`policies.comparison.Defect`)."""
    missed: tuple[str, ...]
    """What a golden file expects of it, and what it is not."""
    latency_s: float | None
    score: float | None
    """Of the judge, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A comparison, ready to be shown."""

    item: str
    turns: tuple[Spoken, ...]
    """What was asked, oldest first."""
    left: Side
    right: Side
    marked_by: str
    """`words`, `lines`, or empty where nothing is marked."""
    differ_in_calls: bool
    same: bool
    """Both answers are the same, word for word and call for call."""
    tools: int
    """How many tools were offered."""
    omitted: int
    """Earlier turns that are not shown."""


def pair_of(row: ComparedRow, order: tuple[Choice, Choice] = _SIDES) -> Pair:
    """The comparison with the answer of `order[0]` on the left. Blocks: compare long texts on a thread."""
    said = {side: answered(row.data, side) for side in ("champion", "challenger")}
    one, other = (said[side].answer for side in order)
    texts = _cut(one.text), _cut(other.text)
    found = mark(*texts)
    calls = _calls(one.calls, other.calls), _calls(other.calls, one.calls)
    sides = [
        Side(
            arm=arm,
            pieces=pieces,
            calls=their_calls,
            attachments=len(said[arm].answer.attachments),
            **_seen(row, arm),
        )
        for arm, pieces, their_calls in zip(order, (found.left, found.right), calls, strict=True)
    ]
    turns, differ_in_calls = _turns(said["champion"]), any(call.marked for both in calls for call in both)
    return Pair(
        item=row.item,
        turns=turns[-_MOST_TURNS:],
        left=sides[0],
        right=sides[1],
        marked_by=found.by,
        differ_in_calls=differ_in_calls,
        same=texts[0] == texts[1] and not differ_in_calls,
        tools=len(said["champion"].tools),
        omitted=max(0, len(turns) - _MOST_TURNS),
    )


def _seen(row: ComparedRow, arm: Choice) -> dict[str, Any]:
    """What was found of an answer, as far as it is of the form that checks write."""
    seen, golden, judge = (mapping(row.facts.get(name)) for name in (arm, "golden", "judge"))
    return {
        "failed": failure_of(row.data, arm) if arm != "tie" else None,
        "defects": _texts(seen.get("defects")),
        "missed": _texts(golden.get(arm)),
        "latency_s": _number(seen.get("latency_s")),
        "score": _number(judge.get(arm)) if judge.get("by") == "scores" else None,
    }


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, items(value)))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def place_of(keys: KeyRing, check_id: int, item: str, who: str) -> tuple[Choice, Choice]:
    """Whose answer is on the left and whose on the right, for this person."""
    drawn = keys.user_hash(f"side by side\x1f{check_id}\x1f{item}\x1f{who}".encode())
    return ("challenger", "champion") if drawn & 1 else ("champion", "challenger")


def choice_of(place: Place, order: tuple[Choice, Choice]) -> Choice:
    """Whose answer somebody prefers who says `left`, `right` or `tie`."""
    return "tie" if place == "tie" else order[place == "right"]


def asked_words(row: ComparedRow, most: int = 240) -> str:
    """How the question begins."""
    question = answered(row.data, "champion").question
    if question is None:
        return ""
    begins = " ".join(question.text[: 4 * most].split())
    if len(begins) <= most and len(question.text) <= 4 * most:
        return begins
    whole, _, _ = begins[:most].rpartition(" ")
    return f"{whole or begins[:most]} …"


def found_words(row: ComparedRow) -> tuple[str, ...]:
    """What was found of the challenger's answer that is not true of the champion's, in words."""
    mine, theirs, golden = (mapping(row.facts.get(name)) for name in ("challenger", "champion", "golden"))
    before = _texts(theirs.get("defects"))
    defects = [name.replace("_", " ") for name in _texts(mine.get("defects")) if name not in before]
    missed = [] if _texts(golden.get("champion")) else list(_texts(golden.get("challenger")))
    differences = [name for name in _texts(row.facts.get("differences")) if name != "text"]
    return (*defects, *missed, *differences)


def _turns(said: Conversation) -> tuple[Spoken, ...]:
    return tuple(Spoken(_speaker(turn), _cut(_words(turn)), _calls(turn.calls, turn.calls)) for turn in said.turns)


def _speaker(turn: Turn) -> str:
    return f"tool {turn.name}" if turn.role == "tool" and turn.name else turn.role


def _words(turn: Turn) -> str:
    media = [f"({attachment.medium})" for attachment in turn.attachments]
    return "\n".join(part for part in (turn.text, *media) if part)


def _cut(text: str) -> str:
    return (
        text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}\n… {many(len(text) - _MOST_CHARS)} more characters"
    )


def _calls(mine: Sequence[ToolCall], theirs: Sequence[ToolCall]) -> tuple[ShownCall, ...]:
    """The first fifty calls of `mine`, and which of them are not among `theirs`."""
    there = {(call.name, _folded(call.arguments)) for call in theirs}
    return tuple(
        ShownCall(call.name, _indented(call.arguments), (call.name, _folded(call.arguments)) not in there)
        for call in mine[:_MOST_CALLS]
    )


def _folded(arguments: str) -> str:
    value = _json(arguments)
    return arguments.strip() if value is None else json.dumps(value, sort_keys=True)


def _indented(arguments: str) -> str:
    """JSON indented, and no more of it than is shown: a kilobyte of brackets is a megabyte then."""
    value = _json(arguments)
    if value is None:
        return _cut(arguments)
    pieces: list[str] = []
    left = _MOST_CHARS
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value):
        pieces.append(piece[:left])
        left -= len(piece)
        if left < 0:
            return "".join([*pieces, "\n… cut"])
    return "".join(pieces)


def _json(text: str) -> Any:
    try:
        return json.loads(text) if len(text) <= _MOST_CHARS else None
    except (ValueError, RecursionError):
        return None
