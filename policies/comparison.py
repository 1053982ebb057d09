"""What can be seen of two answers to one question without understanding them: defects, and what tells them apart.

Each answer is looked at by itself, in the same way whichever model gave it, so that of two equal models neither looks
better. An answer without a visible defect is worth 1, any other as much as its worst one. `policies.scoring` is the
check that every answer of the traffic gets; this one sees the question, too, and may be slower.

Tool calls are read, and nothing runs them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from policies.conversation import ToolCall
from policies.language import language
from policies.scoring import ScoringConfig, score

__all__ = [
    "HARD",
    "Answer",
    "AskedQuestion",
    "ComparedAnswers",
    "Defect",
    "SeenAnswer",
    "StockAnswers",
    "call_complaint",
    "compare",
    "look_at",
    "misfit",
    "same_model",
]  # fmt: skip


class Defect(StrEnum):
    """What is visibly wrong with an answer. The first seven are those of `policies.scoring`."""

    EMPTY = "empty"
    FAILED = "failed"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    REPETITION = "repetition"
    INVALID_JSON = "invalid_json"
    MALFORMED = "malformed"
    """The text of a tool call that its server did not understand."""
    NOT_IN_SCHEMA = "not_in_schema"
    """JSON, but not as the request's schema has it."""
    INVALID_CALL = "invalid_call"
    """A call of a tool that was not offered, or with arguments that it does not take."""
    TEMPLATE = "template"
    """Marks of a chat template, or the turn of somebody else, stand in the answer."""
    ECHO = "echo"
    """It says what was asked."""
    STOCK = "stock"
    """The same answer as to several other questions, which the other model never gave."""
    WRONG_MODEL = "wrong_model"
    """It names another model than the one that was asked for."""
    ASKS_BACK = "asks_back"
    """It is nothing but a question."""
    OTHER_LANGUAGE = "other_language"
    """It is written in another language than the question."""


HARD: Final = frozenset(
    {
        Defect.EMPTY, Defect.FAILED, Defect.REPETITION, Defect.INVALID_JSON, Defect.MALFORMED, Defect.NOT_IN_SCHEMA,
        Defect.INVALID_CALL, Defect.TEMPLATE, Defect.ECHO, Defect.STOCK, Defect.WRONG_MODEL,
    }
)  # fmt: skip
"""Defects that no judge can make up for: such an answer helps nobody."""
_WORTH: Final = {Defect.ASKS_BACK: 0.5, Defect.OTHER_LANGUAGE: 0.2}
"""Of an answer with that defect; of the hard ones it is nothing."""
_TIMES_LONGER: Final = 3.0
_TIMES_SLOWER: Final = 2.0
_LONG_ENOUGH: Final = 200
"""Characters from which on a length is compared."""
_SLOW_ENOUGH_S: Final = 0.5
_STOCK_SEEN: Final = 3
_ASKED_WORDS: Final = 5
_LONGEST_QUESTION: Final = 300
_DEPTH: Final = 12

_TEMPLATE: Final = re.compile(
    r"<\|(?:im_start|im_end|im_sep|eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text|endoftext"
    r"|end|user|assistant|system|endofprompt)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|<｜(?:User|Assistant|begin▁of▁sentence|end▁of▁sentence)｜>|\{%-? |\{\{ ?messages"
)
_OTHERS_TURN: Final = re.compile(
    r"\A\s*(?:user|assistant|system|human)\s*(?:\n|:)|^(?:#{2,3} ?(?:Instruction|Response|Human|Assistant|User):?"
    r"|(?:Human|User|USER|HUMAN): )",
    re.MULTILINE,
)
_WORDS: Final = re.compile(r"\w+")
_SUFFIX: Final = re.compile(r"[-@:_]?(?:\d{4}-?\d{2}-?\d{2}|latest|preview|v?\d{3,8}|\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """What was asked."""

    text: str = ""
    """The words of the last user turn."""
    json_requested: bool = False
    schema: Mapping[str, Any] | None = None
    """JSON schema that the request asked the answer to fit."""
    tools: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Offered: the name of each tool and the JSON schema of its arguments, None where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered."""

    text: str = ""
    """With tool calls in it, as records have it."""
    words: str = ""
    """Without them."""
    finish_reason: str | None = None
    refused: bool = False
    malformed: bool = False
    partial: bool = False
    """The copy is cut: its end proves nothing."""
    calls: tuple[ToolCall, ...] = ()
    failed: str | None = None
    """Why there is no answer, in words; None where there is one."""
    latency_s: float | None = None
    model: str | None = None
    """As the answer names it."""
    asked_model: str | None = None
    """As the request named it; None where nobody minds which one answers."""


@dataclass(frozen=True, slots=True)
class SeenAnswer:
    """What an answer is worth, 0 to 1, and why that is not 1."""

    worth: float
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedAnswers:
    """Two answers to one question."""

    champion: SeenAnswer
    challenger: SeenAnswer
    differences: tuple[str, ...]
    """What tells the challenger's answer from the champion's: `longer`, `shorter` (three times), `slower`, `faster`
    (twice), `calls` (other tools, or other arguments), `language`, `text`; defects that only one has are in
    `SeenAnswer`."""

    @property
    def outcome(self) -> float:
        """X by what is visible: how much more the challenger's answer is worth, -1 to 1."""
        return self.challenger.worth - self.champion.worth


def look_at(question: AskedQuestion, answer: Answer, config: ScoringConfig) -> SeenAnswer:
    """What is visibly wrong with an answer by itself."""
    if answer.failed is not None:
        return SeenAnswer(0.0, (Defect.FAILED,))
    seen = score(
        answer.text,
        config,
        finish_reason=answer.finish_reason,
        refused=answer.refused,
        json_requested=question.json_requested and not answer.calls,
        malformed=answer.malformed,
        partial_text=answer.partial,
    )
    more = [] if "empty" in seen.reasons else _more_defects(question, answer)
    defects = (*(Defect(reason) for reason in seen.reasons), *more)
    worth = min((_WORTH.get(defect, 0.0) for defect in more), default=1.0)
    return SeenAnswer(min(seen.value, worth), defects)


def _more_defects(question: AskedQuestion, answer: Answer) -> list[Defect]:
    """What the traffic's own check does not look at."""
    said = answer.words.strip()
    found = []
    if any(call_complaint(call, question.tools) for call in answer.calls):
        found.append(Defect.INVALID_CALL)
    if question.schema is not None and not answer.calls and not answer.partial and _off_schema(said, question.schema):
        found.append(Defect.NOT_IN_SCHEMA)
    if _has_template(said, question.text):
        found.append(Defect.TEMPLATE)
    if answer.asked_model and answer.model and not same_model(answer.asked_model, answer.model):
        found.append(Defect.WRONG_MODEL)
    if not answer.calls and _echoes(question.text, said):
        found.append(Defect.ECHO)
    elif not answer.calls and _only_asks(said):
        found.append(Defect.ASKS_BACK)
    asked_in, said_in = language(question.text), language(said)
    if asked_in and said_in and asked_in != said_in and not question.json_requested:
        found.append(Defect.OTHER_LANGUAGE)
    return found


def compare(
    question: AskedQuestion,
    champion: Answer,
    challenger: Answer,
    config: ScoringConfig,
    *,
    rewritten: AskedQuestion | None = None,
) -> ComparedAnswers:
    """Look at both answers, and at what tells them apart. `rewritten`: the question as the challenger was asked it,
    where that is another one."""
    return ComparedAnswers(
        champion=look_at(question, champion, config),
        challenger=look_at(rewritten or question, challenger, config),
        differences=tuple(_differences(champion, challenger)),
    )


def _differences(champion: Answer, challenger: Answer) -> list[str]:
    if champion.failed is not None or challenger.failed is not None:
        return []
    found = []
    if champion.words.strip() != challenger.words.strip():
        found.append("text")
    before, after = len(champion.words), len(challenger.words)
    if max(before, after) >= _LONG_ENOUGH:
        found += ["longer"] if after > _TIMES_LONGER * before else []
        found += ["shorter"] if before > _TIMES_LONGER * after else []
    if champion.latency_s and challenger.latency_s and max(champion.latency_s, challenger.latency_s) >= _SLOW_ENOUGH_S:
        found += ["slower"] if challenger.latency_s > _TIMES_SLOWER * champion.latency_s else []
        found += ["faster"] if champion.latency_s > _TIMES_SLOWER * challenger.latency_s else []
    if _called(champion.calls) != _called(challenger.calls):
        found.append("calls")
    if (one := language(champion.words)) and (other := language(challenger.words)) and one != other:
        found.append("language")
    return found


def _called(calls: Sequence[ToolCall]) -> list[tuple[str, Any]]:
    return [(call.name, _json(call.arguments)) for call in calls]


def call_complaint(call: ToolCall, tools: Mapping[str, Mapping[str, Any] | None]) -> str | None:
    """What is wrong with a call, in words; None where it is of a tool that was offered and its arguments fit."""
    if call.name not in tools:
        return f"{call.name or 'a tool without a name'} was not offered"
    if call.custom:
        return None
    arguments = _json(call.arguments or "{}")
    if not isinstance(arguments, dict):
        return f"the arguments of {call.name} are no JSON object"
    schema = tools[call.name]
    wrong = None if schema is None else misfit(arguments, schema)
    return wrong and f"the arguments of {call.name}: {wrong}"


def misfit(value: Any, schema: Mapping[str, Any], depth: int = 0) -> str | None:
    """Where `value` is surely not as `schema` has it; None where nothing says so.

    Looks at `type`, `enum`, `const`, `properties`, `required`, `additionalProperties: false` and `items`; what else a
    schema may say (references, conditions, formats) is taken for fulfilled.
    """
    if depth > _DEPTH:
        return None
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    if known and len(known) == len(names) and not any(_is(name, value) for name in known):
        return f"{_shown(value)} is not of type {' or '.join(known)}"
    if isinstance(choices := schema.get("enum"), list) and value not in choices:
        return f"{_shown(value)} is none of the values that it may have"
    if "const" in schema and value != schema["const"]:
        return f"{_shown(value)} is not the value that it must have"
    if isinstance(value, dict):
        return _object_misfit(value, schema, depth)
    if isinstance(value, list) and isinstance(of := schema.get("items"), dict):
        return next((wrong for one in value if (wrong := misfit(one, of, depth + 1))), None)
    return None


def _object_misfit(value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> str | None:
    required, properties = schema.get("required"), schema.get("properties")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in value:
            return f"{name} is missing"
    known = properties if isinstance(properties, dict) else {}
    for name, part in value.items():
        of = known.get(name)
        if of is None and name not in known and schema.get("additionalProperties") is False:
            return f"{name} is not asked for"
        if isinstance(of, dict) and (wrong := misfit(part, of, depth + 1)):
            return f"{name}: {wrong}"
    return None


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int, float),
    "number": (int, float),
}


def _is(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _shown(value: Any) -> str:
    """What kind of thing it is: the words themselves may be a user's."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _off_schema(said: str, schema: Mapping[str, Any]) -> bool:
    value = _json(said)
    return not isinstance(value, str) and misfit(value, schema) is not None  # a text is no JSON: another defect


def _has_template(said: str, asked: str) -> bool:
    """Marks of a template, where the question does not talk about such."""
    return any(pattern.search(said) and not pattern.search(asked) for pattern in (_TEMPLATE, _OTHERS_TURN))


def _echoes(asked: str, said: str) -> bool:
    if len(said) > 2 * len(asked):
        return False
    before, after = set(_WORDS.findall(asked.lower())), set(_WORDS.findall(said.lower()))
    return len(before) >= _ASKED_WORDS and len(before & after) >= 0.8 * len(before | after)


def _only_asks(said: str) -> bool:
    """One or two questions, and no statement."""
    if not said.endswith(("?", "？")) or len(said) > _LONGEST_QUESTION or "\n\n" in said:
        return False
    return not re.search(r"[.!:。！][\s”\"')]", said)


def same_model(asked: str, answered: str) -> bool:
    """Whether two names may be of one model: up to case, a path before it, and a date or version behind it."""
    one, other = (_SUFFIX.sub("", name.lower().rstrip("/").rpartition("/")[2]) for name in (asked, answered))
    return one == other or asked.lower() == answered.lower()


class StockAnswers:
    """Notices a model that answers all questions alike, without blaming it for a `yes`.

    Answers (their texts, or a hash of each; an empty one is none) are fed in the order drawn. One is stock where its
    own model has given it to three other questions before, and the other model never has: what both say is a habit of
    the task.
    """

    def __init__(self) -> None:
        self._given: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def feed(self, champion: str, challenger: str) -> tuple[bool, bool]:
        """Whether each of the next two answers is stock."""
        texts = (champion, challenger)
        found = tuple(
            bool(text) and mine[text] >= _STOCK_SEEN and not others[text]
            for text, mine, others in zip(texts, self._given, reversed(self._given), strict=True)
        )
        for text, mine in zip(texts, self._given, strict=True):
            mine[text] += 1
        return found[0], found[1]
