"""Formats that teach one answer: chatml, prompt_completion, alpaca, completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from policies.conversation import Turn
from policies.formats.form import TYPED, Format, Holds, Member
from policies.formats.line import Partners, TrainingLine
from policies.formats.material import Material
from policies.formats.messages import message, messages, tools_of

__all__ = ["ALPACA", "CHATML", "COMPLETION", "PROMPT_COMPLETION"]


def _chatml(material: Material, _: Partners) -> list[TrainingLine]:
    """All messages in a row; what is not to be learnt carries the weight 0."""
    style = material.style
    said = messages(
        material.prompt,
        reasoning=style.keep_reasoning,
        unlearnt=lambda turn: style.train_on == "last" or not turn.taught,
    )
    said.append(message(material.answer, reasoning=style.keep_reasoning))
    return [material.line({"messages": said, **tools_of(material.tools)})]


def _prompt_completion(material: Material, _: Partners) -> list[TrainingLine]:
    """The messages before the answer, and the answer."""
    thoughts = material.style.keep_reasoning
    body = {
        "prompt": messages(material.prompt, objects=True, reasoning=thoughts),
        "completion": [message(material.answer, objects=True, reasoning=thoughts)],
        **tools_of(material.tools),
    }
    return [material.line(body)]


def _alpaca(material: Material, _: Partners) -> list[TrainingLine]:
    """Earlier turns go into `history` as [question, answer] pairs."""
    turns = [turn for turn in material.prompt if turn.role != "system"]
    system = [turn.text for turn in material.prompt if turn.role == "system"]
    line: dict[str, Any] = {"instruction": turns[-1].text, "input": "", "output": material.answer.text}
    if system:
        line["system"] = "\n\n".join(system)
    if len(turns) > 1:
        line["history"] = [[turns[at].text, turns[at + 1].text] for at in range(0, len(turns) - 1, 2)]
    return [material.line(line)]


def _alternates(turns: Sequence[Turn]) -> bool:
    """Whether these are a system prompt, if any, and then user and assistant in turn, ending with the user."""
    roles = [turn.role for turn in turns]
    while roles and roles[0] == "system":
        roles.pop(0)
    return len(roles) % 2 == 1 and roles == (["user", "assistant"] * len(roles))[: len(roles)]


def _completion(material: Material, _: Partners) -> list[TrainingLine]:
    """A bare prompt stays as it was sent; a conversation of several messages becomes a transcript."""
    turns = material.turns
    prompt = turns[-1].text
    if len(turns) > 1:
        prompt = "\n\n".join([*(f"{turn.role}: {turn.text}" for turn in turns), "assistant:"])
    return [material.line({"prompt": prompt, "completion": material.answer.text})]


CHATML: Final = Format(
    name="chatml",
    line='{"messages": [{"role", "content", "weight"?, …}, …], "tools"?}',
    meaning="OpenAI, Mistral, Axolotl. Answers with `weight: 0` are not learnt.",
    holds=TYPED | {Holds.WEIGHTS},
    build=_chatml,
    fields={"messages": list},
    message_fields={"messages": Member.CONVERSATION},
    consumers=frozenset({"openai", "trl", "axolotl", "mistral"}),
)
PROMPT_COMPLETION: Final = Format(
    name="prompt_completion",
    line='{"prompt": [{"role", "content", …}, …], "completion": [{"role", "content", …}], "tools"?}',
    meaning="TRL's SFT: only the completion is learnt.",
    holds=TYPED,
    build=_prompt_completion,
    fields={"prompt": list, "completion": list},
    message_fields={"prompt": Member.CONTEXT, "completion": Member.ANSWER},
    consumers=frozenset({"trl"}),
)
ALPACA: Final = Format(
    name="alpaca",
    line='{"instruction", "input", "output", "system"?, "history"?}',
    meaning="Stanford Alpaca, LLaMA-Factory, Axolotl. Words alone, user and assistant in turn.",
    holds=frozenset(),
    build=_alpaca,
    fields={"instruction": str, "output": str},
    message_fields={},
    consumers=frozenset({"axolotl"}),
    fits=_alternates,
)
COMPLETION: Final = Format(
    name="completion",
    line='{"prompt", "completion"}',
    meaning="TRL, and small models: a bare prompt, or a transcript. Words alone.",
    holds=frozenset(),
    build=_completion,
    fields={"prompt": str, "completion": str},
    message_fields={"prompt": Member.CONTEXT, "completion": Member.ANSWER},
    consumers=frozenset({"trl"}),
)
