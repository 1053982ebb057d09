"""Lines of a training file, one builder per format. The usual trainers read each JSON object as it stands.

    chatml      {"messages": [{"role", "content"}, …]}                       OpenAI, TRL, Axolotl
    alpaca      {"instruction", "input", "output", "system"?, "history"?}    Stanford Alpaca, LLaMA-Factory
    completion  {"prompt", "completion"}                                     TRL, OpenAI's older format
    dpo         {"prompt": […], "chosen": […], "rejected": […]}              TRL, conversational
    kto         {"prompt": […], "completion": […], "label": true | false}    TRL, conversational

A preference pair is a correction over the answer it corrects, or an answer with a good vote over one with a bad vote to
the same conversation. The second kind needs a partner, which `Partners` remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any, Protocol

from policies.records import Author, FormatType, Sample

__all__ = ["Line", "MemoryPartners", "Partners", "Waiting", "conforms", "lines"]

Message = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An answer with a vote that waits for its counterpart."""

    record_id: str
    user: int | None
    answer: str
    author: Author
    generation: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the training file."""

    body: Mapping[str, Any]
    """The JSON object."""
    author: Author
    """Who wrote the answer that is to be learnt."""
    generation: int = 0
    """Of the model that wrote it; 0 for one from elsewhere, and for a person."""
    partner: Waiting | None = None
    """The other record in a pair of two."""


class Partners(Protocol):
    """Answers with a vote that wait for an answer to the same conversation with the opposite vote."""

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return a waiting answer, if there is one."""
        ...

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        ...


class MemoryPartners:
    """Waiting answers in a dictionary, for small sets and for tests."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, bool], list[Waiting]] = {}

    def take(self, conversation: int, *, liked: bool) -> Waiting | None:
        """Remove and return the answer that waited longest."""
        answers = self._waiting.get((conversation, liked))
        return answers.pop(0) if answers else None

    def put(self, conversation: int, waiting: Waiting, *, liked: bool) -> None:
        """Let an answer wait."""
        self._waiting.setdefault((conversation, liked), []).append(waiting)


def lines(sample: Sample, format_type: FormatType, system_prompt: str | None, partners: Partners) -> list[Line]:
    """The lines that a kept sample yields: one as a rule, two from a kto correction, none from a dpo answer that waits.

    Give the training file and the holdout file partners of their own, or a pair would sit on both sides.
    """
    if format_type == "dpo":
        return _dpo(sample, system_prompt, partners)
    if format_type == "kto":
        return _kto(sample, system_prompt)
    body = _SINGLE[format_type](sample, system_prompt)
    return [_line(body, sample)]


def conforms(line: Mapping[str, Any], format_type: FormatType) -> bool:
    """Whether a rehearsal line has the fields of the format, with the right JSON types."""
    return all(isinstance(line.get(name), kind) for name, kind in _FIELDS[format_type].items())


def _chatml(sample: Sample, system_prompt: str | None) -> dict[str, Any]:
    return {"messages": [*_conversation(sample, system_prompt), _assistant(_answer(sample))]}


def _alpaca(sample: Sample, system_prompt: str | None) -> dict[str, Any]:
    """Earlier turns go into `history` as [question, answer] pairs; turns that do not alternate are left out."""
    conversation = _conversation(sample, system_prompt)
    line: dict[str, Any] = {"instruction": sample.query, "input": "", "output": _answer(sample)}
    system = [message["content"] for message in conversation if message["role"] in _SYSTEM_ROLES]
    if system:
        line["system"] = "\n\n".join(system)
    turns = [message for message in conversation[:-1] if message["role"] in ("user", "assistant")]
    history = [
        [question["content"], answer["content"]]
        for question, answer in pairwise(turns)
        if question["role"] == "user" and answer["role"] == "assistant"
    ]
    if history:
        line["history"] = history
    return line


def _completion(sample: Sample, _: str | None) -> dict[str, Any]:
    """A bare prompt stays as it was sent; a conversation of several messages becomes a transcript."""
    prompt = sample.query
    if len(sample.said.turns) > 1:
        transcript = [f"{turn.role}: {turn.text}" for turn in sample.said.turns]
        prompt = "\n\n".join([*transcript, "assistant:"])
    return {"prompt": prompt, "completion": _answer(sample)}


def _kto(sample: Sample, system_prompt: str | None) -> list[Line]:
    prompt = _conversation(sample, system_prompt)

    def line(answer: str, whose: Sample, *, label: bool) -> Line:
        return _line({"prompt": prompt, "completion": [_assistant(answer)], "label": label}, whose)

    if sample.correction is None:
        return [line(sample.response, sample, label=(sample.feedback or 0.0) > 0)]
    good = line(sample.correction, sample, label=True)
    corrected = replace(sample, correction=None)
    return [good, line(sample.response, corrected, label=False)] if sample.response.strip() else [good]


def _dpo(sample: Sample, system_prompt: str | None, partners: Partners) -> list[Line]:
    prompt = _conversation(sample, system_prompt)

    def pair(chosen: str, rejected: str) -> dict[str, Any]:
        return {"prompt": prompt, "chosen": [_assistant(chosen)], "rejected": [_assistant(rejected)]}

    if sample.correction is not None:
        body = pair(sample.correction, sample.response)
        return [_line(body, sample)] if sample.response.strip() else []
    liked = (sample.feedback or 0.0) > 0
    key = _key(prompt)
    partner = partners.take(key, liked=not liked)
    if partner is None:
        own = Waiting(
            record_id=sample.record_id,
            user=sample.user,
            answer=sample.response,
            author=sample.author,
            generation=sample.generation,
            model=sample.model,
        )
        partners.put(key, own, liked=liked)
        return []
    if liked:
        return [replace(_line(pair(sample.response, partner.answer), sample), partner=partner)]
    body = pair(partner.answer, sample.response)
    return [Line(body=body, author=partner.author, generation=partner.generation, partner=partner)]


def _conversation(sample: Sample, system_prompt: str | None) -> list[Message]:
    """The messages before the answer; a bare prompt is one user message."""
    messages = [{"role": str(turn.role), "content": turn.text} for turn in sample.said.turns]
    if system_prompt is not None and not any(message["role"] in _SYSTEM_ROLES for message in messages):
        messages.insert(0, {"role": "system", "content": system_prompt})
    return messages


def _assistant(answer: str) -> Message:
    return {"role": "assistant", "content": answer}


def _answer(sample: Sample) -> str:
    return sample.response if sample.correction is None else sample.correction


def _line(body: Mapping[str, Any], sample: Sample) -> Line:
    return Line(body=body, author=sample.author, generation=sample.generation if sample.correction is None else 0)


def _key(conversation: Sequence[Message]) -> int:
    """63-bit hash of a conversation, up to case and white space."""
    text = "\x1e".join(
        f"{message['role']}\x1f{' '.join(message['content'].casefold().split())}" for message in conversation
    )
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


_SYSTEM_ROLES = ("system", "developer")
_SINGLE: dict[str, Callable[[Sample, str | None], dict[str, Any]]] = {
    "chatml": _chatml,
    "alpaca": _alpaca,
    "completion": _completion,
}
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "chatml": {"messages": list},
    "alpaca": {"instruction": str, "output": str},
    "completion": {"prompt": str, "completion": str},
    "dpo": {"prompt": (str, list), "chosen": (str, list), "rejected": (str, list)},
    "kto": {"prompt": (str, list), "completion": (str, list), "label": bool},
}
