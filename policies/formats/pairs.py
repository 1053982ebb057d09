"""Formats that teach what people prefer: dpo and kto.

A pair is a correction over the answer that it corrects, an answer that people preferred over the one beside it, or an
answer with a good vote over one with a bad vote to the same conversation. The last kind needs a partner, which
`Partners` remembers under all that the model saw: turns, calls, tools, pictures. Case and white space do not count, nor
do the ids of calls, which differ from chat to chat.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from policies.conversation import Attachment, ToolCall, Turn
from policies.formats.form import TYPED, Format, Holds, Member, Types
from policies.formats.line import Partners, TrainingLine, Waiting
from policies.formats.material import Material
from policies.formats.messages import Message, message, messages, tools_of
from policies.formats.turns import arguments_of, numbered, speakable
from policies.records import AnswerOf, Author

__all__ = ["DPO", "KTO"]


def _kto(material: Material, _: Partners) -> list[TrainingLine]:
    """One line with the vote for a label; of a preference two, and of a correction, unless the model said nothing."""
    head, sample = _head(material), material.sample

    def line(answer: Turn, *, label: bool, by_model: bool = False) -> TrainingLine:
        body = {"prompt": head["prompt"], "completion": [_message(answer, material)], "label": label}
        return material.line({**body, **tools_of(material.tools)}, by_model=by_model)

    compared = [
        _by(answer, line(answer.turn, label=label), regenerated=anew)
        for *both, anew in _preferred(material)
        for answer, label in zip(both, (True, False), strict=True)
    ]
    if sample.correction is None:
        voted = not sample.preferred or sample.feedback
        return [*compared, *([line(material.answer, label=(sample.feedback or 0.0) > 0)] if voted else [])]
    good = line(material.answer, label=True)
    if material.given.empty or _confirms(material):
        return [*compared, good]
    return [*compared, good, line(material.given, label=False, by_model=True)]


def _dpo(material: Material, partners: Partners) -> list[TrainingLine]:
    """The pairs of a sample: one of each preference, and one of its correction or of its vote."""
    compared = [
        _by(
            chosen,
            material.line(_pair(material, *(_message(one.turn, material) for one in (chosen, rejected)))),
            regenerated=anew,
        )
        for chosen, rejected, anew in _preferred(material)
    ]
    return [*compared, *_voted(material, partners)]


def _voted(material: Material, partners: Partners) -> list[TrainingLine]:
    """A pair, or none without a vote, or as long as the counterpart is missing."""
    sample, own = material.sample, _message(material.answer, material)
    if sample.correction is not None:
        given = material.given
        if given.empty or _confirms(material):
            return []
        return [material.line(_pair(material, own, _message(given, material)))]
    if sample.preferred and not sample.feedback:
        return []  # it is here for what people prefer
    liked = (sample.feedback or 0.0) > 0
    key = _key(material)
    partner = partners.take(key, liked=not liked)
    if partner is not None and _same(json.loads(partner.answer), own):  # people do not agree about one answer
        partners.put(key, partner, liked=not liked)
        return []
    if partner is None:
        waiting = Waiting(
            record_id=sample.record_id,
            user=sample.user,
            answer=json.dumps(own, ensure_ascii=False),
            author=sample.author,
            generation=sample.generation,
            model=sample.model,
        )
        partners.put(key, waiting, liked=liked)
        return []
    other = json.loads(partner.answer)
    line = material.line(_pair(material, own, other) if liked else _pair(material, other, own))
    line = replace(line, partner=partner, reasoning=line.reasoning or "reasoning_content" in other)
    line = replace(line, parts=line.parts or isinstance(other["content"], list))
    return [line if liked else replace(line, author=partner.author, generation=partner.generation)]


def _preferred(material: Material) -> Iterator[tuple[AnswerOf, AnswerOf, bool]]:
    """The answers that people prefer with those beside them, as far as trainers can read both and tell them apart, and
    whether one was made anew."""
    calls = sum(len(turn.calls) for turn in material.turns)
    for both in material.sample.preferred:
        sides = [replace(one, turn=numbered(one.turn, calls)) for one in (both.chosen, both.rejected)]
        turns = [one.turn for one in sides]
        whole = all(piece.part is not None for turn in turns for piece in turn.attachments)
        if any(turn.empty for turn in turns) or not whole or not all(speakable(turn.calls) for turn in turns):
            continue
        if not _same(*(_message(turn, material) for turn in turns)):
            yield sides[0], sides[1], both.regenerated


def _by(answer: AnswerOf, line: TrainingLine, *, regenerated: bool) -> TrainingLine:
    """The line of an answer that was compared with another: it is that model's, whoever answered the record."""
    return replace(
        line,
        author=Author.OWN if answer.generation else Author.ELSEWHERE,
        generation=answer.generation,
        model=answer.model,
        preferred=not regenerated,
        regenerated=regenerated,
        reasoning=line.reasoning or bool(answer.turn.reasoning),
        parts=line.parts or bool(answer.turn.attachments),
    )


def _confirms(material: Material) -> bool:
    """Whether the correction is what the model said: nothing is better than itself."""
    return not material.given.calls and material.answer.text.split() == material.given.text.split()


def _same(one: Message, other: Message) -> bool:
    """Whether two answers say and call the same; the ids of calls are others in every run."""
    calls = [[call["function"] for call in message.get("tool_calls", ())] for message in (one, other)]
    return bool(one["content"] == other["content"] and calls[0] == calls[1])


def _head(material: Material) -> dict[str, Any]:
    return {"prompt": messages(material.prompt, objects=True, reasoning=material.style.keep_reasoning)}


def _pair(material: Material, chosen: Message, rejected: Message) -> dict[str, Any]:
    return {**_head(material), "chosen": [chosen], "rejected": [rejected], **tools_of(material.tools)}


def _message(answer: Turn, material: Material) -> Message:
    return message(answer, objects=True, reasoning=material.style.keep_reasoning)


def _key(material: Material) -> int:
    """63-bit hash of what the model saw."""
    seen = [[_seen(turn) for turn in material.prompt], material.tools]
    text = json.dumps(seen, sort_keys=True, default=dict)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _seen(turn: Turn) -> list[Any]:
    pieces: Iterable[str | Attachment] = (turn.content,) if isinstance(turn.content, str) else turn.content
    content = [_folded(piece) if isinstance(piece, str) else piece.part for piece in pieces]
    return [turn.role, content, [_called(call) for call in turn.calls]]


def _called(call: ToolCall) -> list[Any]:
    return [call.name, arguments_of(call)]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


_TEXTS: Final[Types] = (str, list)
DPO: Final = Format(
    name="dpo",
    line='{"prompt": […], "chosen": […], "rejected": […], "tools"?}',
    meaning="TRL's DPO, OpenAI's preferences: corrections over corrected answers, preferred answers over those beside "
    "them, thumbs up over thumbs down.",
    holds=TYPED | {Holds.PAIRS},
    needs_votes=True,
    build=_dpo,
    fields={"prompt": _TEXTS, "chosen": _TEXTS, "rejected": _TEXTS},
    message_fields={"prompt": Member.CONTEXT, "chosen": Member.ANSWER, "rejected": Member.REJECTED},
    consumers=frozenset({"openai", "trl"}),
)
KTO: Final = Format(
    name="kto",
    line='{"prompt": […], "completion": […], "label": true or false, "tools"?}',
    meaning="TRL's KTO: every answer with a vote, and those that people compared.",
    holds=TYPED | {Holds.LABELS},
    needs_votes=True,
    build=_kto,
    fields={"prompt": _TEXTS, "completion": _TEXTS, "label": bool},
    message_fields={"prompt": Member.CONTEXT, "completion": Member.ANSWER},
    consumers=frozenset({"trl"}),
)
