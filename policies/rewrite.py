"""The same model, asked otherwise: what of a request is changed on its way to a model.

    {"system":     {"replace": text} or {"prepend": text},
     "examples":   [{"role": "user", "content": text}, {"role": "assistant", "content": text}, …],
     "parameters": a JSON merge patch (RFC 7396) of the body: {"temperature": 0.2, "tools": […], "top_p": null}}

Any of the three may be missing. Each API has its own place for a system prompt and for turns (`RequestShape`);
parameters are the API's own, so a patch for one API (`temperature`) is none for another (`generationConfig`). Nothing
else of the body changes. A prompt to be improved, and parameters to be tried, are models like any other then: they are
tested on users, promoted, and go back.

`apply` takes documents whose values may be opaque, where it has no reason to look into them (`proxy.wire.rewriting`
leaves them as bytes): it reads the fields that it changes, and of a turn the role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from policies.wording import many

__all__ = ["LONGEST", "RequestShape", "Rewrite", "RewriteError", "System", "apply", "kind_of", "lacks", "merge_patch",
           "opened_fields"]  # fmt: skip

_Json: TypeAlias = Mapping[str, Any]

LONGEST: Final = 131_072
"""Characters of all texts of a rewrite together. It is in the route table, which every worker reads."""
_MOST_EXAMPLES: Final = 200
_DEEPEST: Final = 40
"""Lists and objects within each other: more than any tool's schema has, and far less than JSON libraries can follow."""
_GREATEST: Final = 2**63 - 1
_MEMBERS: Final = ("system", "examples", "parameters")
_OF_CONVERSATION: Final = ("messages", "input", "contents", "prompt", "system", "instructions", "systemInstruction",
                           "system_instruction", "previous_response_id", "conversation")  # fmt: skip
_OF_CLIENT: Final = {
    "model": "name the model beside the rewrite (`--model`)",
    "stream": "whether an answer comes in pieces is for the client to say, which has to read it",
    "stream_options": "how an answer comes in pieces is for the client to say, which has to read it",
}
_LEADING: Final = ("system", "developer")


class RewriteError(ValueError):
    """A rewrite that cannot be used: the message says what, where, and what to change."""


class RequestShape(StrEnum):
    """Where a request's API keeps its system prompt and its turns."""

    CHAT = "chat"
    """OpenAI's chat completions, Ollama's and Cohere's chat: `messages`, of which the first are the system's."""
    RESPONSES = "responses"
    """OpenAI's Responses: `instructions`, and `input`, a text or a list."""
    MESSAGES = "messages"
    """Anthropic's Messages: `system`, a text or blocks, and `messages`."""
    GEMINI = "gemini"
    """Google's generateContent: `systemInstruction` and `contents`."""
    OTHER = "other"
    """No place for a system prompt is known: only parameters are changed."""
    APART = "apart"
    """It asks for no text (embeddings, tokens, files): nothing is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What happens to the system prompt."""

    how: Literal["prepend", "replace"]
    """`prepend`: before the application's own. `replace`: instead of it, and also where it has none."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """What is changed in a request, read and found right."""

    system: System | None = None
    examples: tuple[tuple[str, str], ...] = ()
    """Pairs of a user's turn and the answer to it, put before the conversation."""
    parameters: _Json | None = None
    """A JSON merge patch."""

    @classmethod
    def of(cls, document: object, where: str = "rewrite") -> Rewrite:
        """Read a JSON value. Raises RewriteError, which names what is wrong by `where` it is."""
        if not isinstance(document, Mapping):
            raise RewriteError(f"{where}: {_shown(document)} is not an object with {_or(_MEMBERS)}")
        for name in document:
            if name not in _MEMBERS:
                raise RewriteError(f"{where}.{name}: there is no such member; a rewrite has {_or(_MEMBERS)}")
        rewrite = cls(
            system=_system(document.get("system"), f"{where}.system"),
            examples=_examples(document.get("examples"), f"{where}.examples"),
            parameters=_parameters(document.get("parameters"), f"{where}.parameters"),
        )
        if rewrite == cls():
            raise RewriteError(f"{where}: it changes nothing; give at least one of {_or(_MEMBERS)}")
        if (size := len(repr(dict(document)))) > LONGEST:
            raise RewriteError(
                f"{where}: {many(size)} characters are more than the {many(LONGEST)} that a rewrite may have"
            )
        return rewrite

    def as_json(self) -> dict[str, Any]:
        """The JSON object that `of` has read, without what is empty."""
        found: dict[str, Any] = {}
        if self.system is not None:
            found["system"] = {self.system.how: self.system.text}
        if self.examples:
            pairs = ((("user", asked), ("assistant", answer)) for asked, answer in self.examples)
            found["examples"] = [{"role": role, "content": text} for pair in pairs for role, text in pair]
        if self.parameters is not None:
            found["parameters"] = self.parameters
        return found


def kind_of(target: str, document: _Json) -> RequestShape:
    """Which API a request speaks, by its `target` (path, perhaps with a query) and the names in its body."""
    path = target.partition("?")[0].rstrip("/").lower()
    last = path.rpartition("/")[2]
    if last.rpartition(":")[2] in _APART:
        return RequestShape.APART
    if last.endswith((":generatecontent", ":streamgeneratecontent")):
        return RequestShape.GEMINI
    if last in ("converse", "converse-stream"):  # Bedrock's: contents and system in blocks of its own
        return RequestShape.OTHER
    if last == "responses":
        return RequestShape.RESPONSES
    if "messages" in document:
        anthropic = path.endswith("v1/messages") or "anthropic_version" in document
        return RequestShape.MESSAGES if anthropic else RequestShape.CHAT
    return RequestShape.OTHER


def apply(rewrite: Rewrite, document: _Json, kind: RequestShape) -> dict[str, Any]:
    """A request's body as the model is to see it; `document` is left as it is. See `lacks` for what has no place."""
    asked = dict(document)
    if kind is RequestShape.APART:
        return asked
    match kind:
        case RequestShape.CHAT:
            _chat(rewrite, asked)
        case RequestShape.RESPONSES:
            _responses(rewrite, asked)
        case RequestShape.MESSAGES:
            _messages(rewrite, asked)
        case RequestShape.GEMINI:
            _gemini(rewrite, asked)
    if rewrite.parameters is not None:
        asked = merge_patch(asked, rewrite.parameters)
    return asked


def lacks(rewrite: Rewrite, kind: RequestShape) -> tuple[str, ...]:
    """What of `rewrite` a request of this kind has no place for, a sentence each."""
    if kind is RequestShape.APART:
        return ("this request asks for no text, so nothing of it is rewritten",)
    if kind is not RequestShape.OTHER:
        return ()
    said = []
    if rewrite.system is not None:
        said.append("this API has no place for a system prompt that is known here: it stays as it was")
    if rewrite.examples:
        said.append("this API has no place for examples that is known here: there are none")
    return tuple(said)


def opened_fields(rewrite: Rewrite) -> tuple[frozenset[str], frozenset[str]]:
    """The top-level fields of a body that `apply` looks into: those with turns, and all others."""
    asks = rewrite.system is not None or bool(rewrite.examples)
    turns = frozenset({"messages", "input", "contents"}) if asks else frozenset()
    others = set(rewrite.parameters or ())
    if rewrite.system is not None:
        others |= {"instructions", "system", "systemInstruction", "system_instruction"}
    if rewrite.examples:
        others |= {"previous_response_id", "conversation"}
    return turns, frozenset(others)


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` as the JSON merge patch `patch` makes it (RFC 7396): null takes a member away, a list is replaced."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


# -- the APIs


def _chat(rewrite: Rewrite, asked: dict[str, Any]) -> None:
    turns, system = _list(asked.get("messages")), rewrite.system
    if turns is None:
        return
    first = _role(turns[0]) if turns else None
    if system is not None and system.how == "prepend" and first in _LEADING:
        turns[0] = {**turns[0], "content": _before(system.text, turns[0].get("content"))}
    elif system is not None:
        role = first if first in _LEADING else "system"
        turns = [{"role": role, "content": system.text}, *turns[_leading(turns) :]]
    asked["messages"] = _with_examples(rewrite, turns)


def _responses(rewrite: Rewrite, asked: dict[str, Any]) -> None:
    system, said = rewrite.system, asked.get("input")
    turns = _list(said)
    if system is not None:
        own = asked.get("instructions") if system.how == "prepend" else None
        asked["instructions"] = _before(system.text, own) if isinstance(own, str) else system.text
        if system.how == "replace" and turns is not None:
            asked["input"] = turns = turns[_leading(turns) :]
    if not rewrite.examples or asked.get("previous_response_id") or asked.get("conversation"):
        return  # the conversation goes on: its beginning, where examples belong, is with the provider
    if isinstance(said, str):
        turns = [{"role": "user", "content": said}]
    if turns is not None:
        asked["input"] = _with_examples(rewrite, turns)


def _messages(rewrite: Rewrite, asked: dict[str, Any]) -> None:
    system, own = rewrite.system, asked.get("system")
    if system is not None and system.how == "prepend" and own:
        asked["system"] = _before(system.text, own)
    elif system is not None:
        asked["system"] = _cached_alike(system.text, own)
    if rewrite.examples and (turns := _list(asked.get("messages"))) is not None:
        asked["messages"] = _with_examples(rewrite, turns)


def _gemini(rewrite: Rewrite, asked: dict[str, Any]) -> None:
    system, said = rewrite.system, asked.get("contents")
    if system is not None:
        name = "system_instruction" if "system_instruction" in asked else "systemInstruction"
        own = asked.get(name)
        parts = _list(own.get("parts")) if isinstance(own, Mapping) and system.how == "prepend" else None
        before = own if parts is not None and isinstance(own, Mapping) else {}
        asked[name] = {**before, "parts": [{"text": system.text}, *(parts or ())]}
    turns = [said] if isinstance(said, Mapping) else _list(said)
    if rewrite.examples and turns is not None:
        examples = [{"role": role, "parts": [{"text": text}]} for role, text in _turns(rewrite, "model")]
        asked["contents"] = [*examples, *turns]


def _with_examples(rewrite: Rewrite, turns: list[Any]) -> list[Any]:
    """`turns` with the examples behind those of the system."""
    at = _leading(turns)
    examples = [{"role": role, "content": text} for role, text in _turns(rewrite, "assistant")]
    return [*turns[:at], *examples, *turns[at:]]


def _list(found: object) -> list[Any] | None:
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else None


def _turns(rewrite: Rewrite, answers: str) -> list[tuple[str, str]]:
    return [turn for asked, answer in rewrite.examples for turn in (("user", asked), (answers, answer))]


def _leading(turns: Sequence[Any]) -> int:
    """How many turns at the beginning are the system's."""
    return next((at for at, turn in enumerate(turns) if _role(turn) not in _LEADING), len(turns))


def _role(turn: object) -> object:
    return turn.get("role") if isinstance(turn, Mapping) else None


def _before(text: str, own: object) -> object:
    """`text` before what is there: a text, or a list of blocks."""
    if isinstance(own, str):
        return f"{text}\n\n{own}" if own else text
    if isinstance(own, Sequence):
        return [{"type": "text", "text": text}, *own]
    return text


def _cached_alike(text: str, own: object) -> object:
    """`text` in the place of Anthropic's `own` system prompt; one that was to be cached by the provider stays so."""
    if isinstance(own, Sequence) and not isinstance(own, str):
        marks = [block["cache_control"] for block in own if isinstance(block, Mapping) and "cache_control" in block]
        if marks:
            return [{"type": "text", "text": text, "cache_control": marks[-1]}]
    return text


_APART: Final = frozenset(
    (
        *("embed", "embeddings", "embedcontent", "batchembedcontents", "rerank", "reranking", "similarity", "score"),
        *("moderations", "classify", "pooling", "tokenize", "detokenize", "count_tokens", "counttokens"),
        *("input_tokens", "transcriptions", "translations", "speech", "generations", "edits", "variations"),
        *("files", "uploads", "batches", "jobs", "models"),
    )
)
"""Last words of paths that ask for no text."""


# -- reading one


def _system(found: object, where: str) -> System | None:
    if found is None:
        return None
    if not isinstance(found, Mapping) or len(found) != 1 or not set(found) <= {"prepend", "replace"}:
        raise RewriteError(f'{where}: write {{"prepend": "…"}} or {{"replace": "…"}}, one of the two')
    ((how, text),) = found.items()
    if not isinstance(text, str) or not text.strip():
        raise RewriteError(f"{where}.{how}: {_shown(text)} is not a text; give the system prompt's words")
    return System(how=how, text=_told(text, f"{where}.{how}"))


def _examples(found: object, where: str) -> tuple[tuple[str, str], ...]:
    if found is None:
        return ()
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) % 2 or len(found) > _MOST_EXAMPLES:
        raise RewriteError(
            f"{where}: not a list of turns in pairs, a user's and the answer to it (at most {_MOST_EXAMPLES} turns)"
        )
    texts = []
    for at, turn in enumerate(found):
        role, place = ("user", "assistant")[at % 2], f"{where}[{at}]"
        if not isinstance(turn, Mapping) or set(turn) != {"role", "content"} or turn["role"] != role:
            raise RewriteError(f'{place}: not {{"role": "{role}", "content": "…"}}; turns alternate, the user\'s first')
        if not isinstance(turn["content"], str) or not turn["content"]:
            raise RewriteError(f"{place}.content: {_shown(turn['content'])} is not a text")
        texts.append(_told(turn["content"], f"{place}.content"))
    return tuple(zip(texts[::2], texts[1::2], strict=True))


def _parameters(found: object, where: str) -> _Json | None:
    if found is None:
        return None
    if not isinstance(found, Mapping) or not found:
        raise RewriteError(f"{where}: {_shown(found)} is not an object with the parameters to change")
    for name in found:
        if name in _OF_CONVERSATION:
            raise RewriteError(f"{where}.{name}: this is the conversation; change it with `system` or `examples`")
        if name in _OF_CLIENT:
            raise RewriteError(f"{where}.{name}: this cannot be rewritten: {_OF_CLIENT[name]}")
    _check_values(found, where)
    return dict(found)


def _check_values(patch: _Json, where: str) -> None:
    """Raises RewriteError for what cannot be kept and sent: nested too deep, a number beyond JSON's, half a character.

    Level by level: what is too deep must not be followed.
    """
    level: list[tuple[str, object]] = [(f"{where}.{name}", value) for name, value in patch.items()]
    for _ in range(_DEEPEST):
        below: list[tuple[str, object]] = []
        for place, value in level:
            _told(place, where)
            if isinstance(value, str):
                _told(value, place)
            elif isinstance(value, Mapping):
                below += [(f"{place}.{name}", inner) for name, inner in value.items()]
            elif isinstance(value, Sequence):
                below += [(f"{place}[{at}]", inner) for at, inner in enumerate(value)]
            elif isinstance(value, int | float) and not abs(value) <= _GREATEST:
                raise RewriteError(f"{place}: {_shown(value)} is not a number that every JSON reader has")
        if not below:
            return
        level = below
    raise RewriteError(f"{where}: lists and objects in it are nested more than {_DEEPEST} deep")


def _told(text: str, where: str) -> str:
    """`text`, which can be sent. Raises RewriteError for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise RewriteError(f"{where}: it has half a character (a lone surrogate) at {exc.start}") from exc
    return text


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "what is nested so deep"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _or(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
