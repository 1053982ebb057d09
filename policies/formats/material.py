"""What builders write from: a kept sample made ready for a format, or why it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.conversation import Conversation, Lack, Turn
from policies.formats.line import Style, TrainingLine
from policies.formats.turns import paired, speakable, without_disliked
from policies.records import Author, Sample

__all__ = ["Material", "misfit", "prepared"]


@dataclass(slots=True, kw_only=True)
class Material:
    """A sample whose calls have ids. Nobody changes one."""

    sample: Sample
    style: Style
    turns: tuple[Turn, ...]
    """Before the answer."""
    answer: Turn
    """The answer to be learnt: the correction, where there is one."""
    given: Turn
    """The answer that the model gave."""
    tools: tuple[Mapping[str, Any], ...]
    words_alone: bool
    """Whether nobody called a tool, and all contents are text."""

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns, after the style's system prompt where they have none."""
        if self.style.system_prompt is None or any(turn.role == "system" for turn in self.turns):
            return self.turns
        return (Turn(role="system", content=self.style.system_prompt), *self.turns)

    @property
    def thoughts(self) -> bool:
        """Whether the model thought aloud anywhere."""
        return bool(self.given.reasoning) or any(turn.reasoning for turn in self.turns)

    def line(self, body: Mapping[str, Any], *, by_model: bool = False) -> TrainingLine:
        """The line of this sample. `by_model`: what it teaches is the model's answer, whatever a person said since."""
        person = self.sample.correction is not None and not by_model
        model = Author.OWN if self.sample.generation else Author.ELSEWHERE
        return TrainingLine(
            body=body,
            author=Author.PERSON if person else model,
            generation=0 if person else self.sample.generation,
            reasoning=self.thoughts,
            parts=not self.words_alone and any(turn.attachments for turn in (*self.turns, self.answer, self.given)),
        )


def prepared(sample: Sample, style: Style, *, weights: bool) -> Material | None:
    """The sample made ready; None where calls and results do not belong together.

    `weights`: the format can say what is not to be learnt. Else what was disliked is left out.
    """
    words_alone = _in_words(sample.said)
    said = sample.said if words_alone else paired(sample.said)
    if said is None:
        return None
    turns = said.turns if weights else without_disliked(said.turns)
    correction = sample.correction
    answer = said.answer if correction is None else Turn(role="assistant", content=correction)
    return Material(
        sample=sample,
        style=style,
        turns=turns,
        answer=answer,
        given=said.answer,
        tools=tuple(said.tools),
        words_alone=words_alone,
    )


def misfit(material: Material, *, tools: bool, attachments: bool, pairs: bool) -> Lack | None:
    """Why a format that holds this much, or this little, cannot hold the sample."""
    if material.words_alone:
        return Lack.NOT_IN_FORMAT if material.tools and not tools else None
    answers = (material.answer, material.given) if pairs else (material.answer,)
    turns = (*material.turns, *answers)
    found = [attachment for turn in turns if not isinstance(turn.content, str) for attachment in turn.attachments]
    if found and (not attachments or any(attachment.part is None for attachment in found)):
        return Lack.MULTIMODAL
    if not tools and (material.tools or any(turn.calls or turn.role == "tool" for turn in turns)):
        return Lack.NOT_IN_FORMAT
    return None if all(speakable(turn.calls) for turn in turns) else Lack.NOT_IN_FORMAT


def _in_words(said: Conversation) -> bool:
    """Whether nobody called a tool, and all contents are text: nearly every conversation."""
    turns = (*said.turns, said.answer)
    return all(isinstance(turn.content, str) and not turn.calls and turn.role != "tool" for turn in turns)
