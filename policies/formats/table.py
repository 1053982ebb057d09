"""The one list of formats: what a line looks like, what it can hold, who writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from policies.conversation import Lack, Turn
from policies.formats.line import FormatType, Partners, Style, TrainingLine
from policies.formats.material import Material, misfit, prepared
from policies.formats.pairs import dpo, kto
from policies.formats.single import alpaca, alternates, chatml, completion, prompt_completion
from policies.records import Sample

__all__ = ["FORMATS", "Format", "Holds", "conforms", "lines", "prepare"]


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


Kinds = type | tuple[type, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format."""

    name: FormatType
    line: str
    """How a line looks; `?` follows what may be missing."""
    meaning: str
    """Who reads it, and what is learnt from it."""
    holds: frozenset[Holds]
    build: Callable[[Material, Partners], list[TrainingLine]]
    fields: Mapping[str, Kinds]
    """What every line has, with its JSON type."""
    fits: Callable[[Sequence[Turn]], bool] = field(default=lambda _: True)
    """Whether it can hold turns in this order."""

    needs_votes: bool = False
    """Whether it learns from what people disliked, too: a sample needs a vote or a correction."""


_TYPED: Final = frozenset({Holds.TOOLS, Holds.ATTACHMENTS, Holds.REASONING})
_TEXTS: Final[Kinds] = (str, list)

FORMATS: Final[Mapping[FormatType, Format]] = {
    item.name: item
    for item in (
        Format(
            name="chatml",
            line='{"messages": [{"role", "content", "weight"?, …}, …], "tools"?}',
            meaning="OpenAI, Mistral, Axolotl. Answers with `weight: 0` are not trained on.",
            holds=_TYPED | {Holds.WEIGHTS},
            build=chatml,
            fields={"messages": list},
        ),
        Format(
            name="prompt_completion",
            line='{"prompt": [{"role", "content", …}, …], "completion": [{"role", "content", …}], "tools"?}',
            meaning="TRL's SFT: only the completion is trained on.",
            holds=_TYPED,
            build=prompt_completion,
            fields={"prompt": list, "completion": list},
        ),
        Format(
            name="alpaca",
            line='{"instruction", "input", "output", "system"?, "history"?}',
            meaning="Stanford Alpaca, LLaMA-Factory, Axolotl. Text only, user and assistant alternate.",
            holds=frozenset(),
            build=alpaca,
            fields={"instruction": str, "output": str},
            fits=alternates,
        ),
        Format(
            name="completion",
            line='{"prompt", "completion"}',
            meaning="TRL, and small models: a bare prompt, or a transcript. Text only.",
            holds=frozenset(),
            build=completion,
            fields={"prompt": str, "completion": str},
        ),
        Format(
            name="dpo",
            line='{"prompt": […], "chosen": […], "rejected": […], "tools"?}',
            meaning="TRL's DPO, OpenAI's preferences: corrections over corrected answers, thumbs up over thumbs down.",
            holds=_TYPED | {Holds.PAIRS},
            needs_votes=True,
            build=dpo,
            fields={"prompt": _TEXTS, "chosen": _TEXTS, "rejected": _TEXTS},
        ),
        Format(
            name="kto",
            line='{"prompt": […], "completion": […], "label": true or false, "tools"?}',
            meaning="TRL's KTO: every answer with a vote.",
            holds=_TYPED | {Holds.LABELS},
            needs_votes=True,
            build=kto,
            fields={"prompt": _TEXTS, "completion": _TEXTS, "label": bool},
        ),
    )
}


def lines(material: Material, partners: Partners) -> list[TrainingLine]:
    """The lines that a prepared sample yields: one as a rule, two from a kto correction, none from a dpo answer that
    waits.

    Give the training file and the holdout file partners of their own, or a pair would sit on both sides.
    """
    return FORMATS[material.style.format_type].build(material, partners)


def conforms(line: Mapping[str, Any], format_type: FormatType) -> bool:
    """Whether a rehearsal line has the fields of the format, with the right JSON types; messages are objects."""
    return all(
        isinstance(value := line.get(name), kind)
        and (not isinstance(value, list) or all(isinstance(one, Mapping) for one in value))
        for name, kind in FORMATS[format_type].fields.items()
    )


def prepare(sample: Sample, style: Style) -> Material | Lack:
    """The sample made ready for the format, or why the format cannot hold it."""
    form = FORMATS[style.format_type]
    material = prepared(sample, style, weights=Holds.WEIGHTS in form.holds)
    if material is None:
        return Lack.NOT_IN_FORMAT
    reason = misfit(
        material,
        tools=Holds.TOOLS in form.holds,
        attachments=Holds.ATTACHMENTS in form.holds,
        pairs=form.needs_votes,
    )
    return reason or (material if form.fits(material.turns) else Lack.NOT_IN_FORMAT)
