"""What a request of a test shows of what its user thinks: of itself, and of the answer before.

Keys instead of texts are kept, so that the store can tell that two requests ask the same without reading any body:
`prompt_key` is the hash of all that was said and of the settings that shape an answer, so that a sweep over
temperatures asks something else every time. A chat sends its history along: whether its last turn complains about the
answer before is judged here, where both texts are at hand, and `answers_key` is the key of the request that got it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from policies.ballots import can_be_judged
from policies.complaints import complaint_in
from policies.records import Outcome
from policies.signals import Signal
from proxy.store.tables.keys import alias_hash
from proxy.wire.extract import Extraction

__all__ = ["Shown", "shown_by", "thread_of"]

_SETTINGS: Final = ("model", "temperature", "top_p", "top_k", "seed", "n", "max_tokens", "max_completion_tokens",
                    "max_output_tokens", "reasoning_effort", "response_format", "generationConfig", "inferenceConfig",
                    "options")  # fmt: skip
"""Of a request, what shapes its answer beside what is said."""
_TURNS: Final = ("messages", "input", "contents")
_WORDS: Final = frozenset(("text", "input_text", "output_text"))
_ATTEMPT: Final = re.compile(r"attempt=(\d{1,4})")
_LEFT: Final = Outcome.CLIENT_DISCONNECT
_AWAITED: Final = (Outcome.OK, _LEFT)
_JUDGEABLE, _ANSWER = Signal.JUDGEABLE.value, Signal.ANSWER.value
_TELLS, _RETRY = Signal.TELLS_RETRIES.value, Signal.RETRY.value
_COMPLAINT, _WAITED, _ABANDONED = Signal.COMPLAINT.value, Signal.AWAITED.value, Signal.ABANDONED.value

UserHash = Callable[[bytes], int]


class Shown(NamedTuple):
    """The fields of a record."""

    signals: int | None
    prompt_key: int | None
    answers_key: int | None


def shown_by(
    found: Extraction, headers: Mapping[str, str], outcome: Outcome, status: int, *, whole: bool, user_known: bool
) -> Shown:
    """What it shows by itself. `headers` have lower-case names; `whole`: all that was asked is at hand."""
    bits = _attempt(headers)
    answered = can_be_judged(outcome, status)
    if answered:
        bits |= _ANSWER
    if outcome in _AWAITED:
        bits |= _WAITED | (_ABANDONED if outcome is _LEFT else 0)
    if not whole or not user_known or not (found.messages or found.query):
        return Shown(bits & ~(_TELLS | _RETRY), None, None)
    if answered:
        bits |= _JUDGEABLE
    asked = _Prompt.of(found)
    if asked.earlier is not None and complaint_in(found.query or "", asked.question):
        return Shown(bits | _COMPLAINT, asked.key(), asked.earlier)
    return Shown(bits, asked.key(), None)


def thread_of(found: Extraction, user_hash: UserHash | None) -> int | None:
    """What stands for a conversation that has no id: the answer that it goes on from, which the provider keeps; else
    its first message of a user."""
    if isinstance(earlier := found.request_fields.get("previous_response_id"), str) and earlier:
        return alias_hash(earlier)  # as aliases are known by; `proxy.store.ingest.chains` finds the answer
    if user_hash is None:
        return None
    first = next((turn["content"] for turn in found.messages if turn["role"] == "user"), found.query)
    return user_hash(b"first message\0" + first.encode("utf-8", "surrogatepass")) if first else None


def _attempt(headers: Mapping[str, str]) -> int:
    """Whether the client says which attempt this is, and whether it is one after the first."""
    count = headers.get("x-stainless-retry-count")  # OpenAI's and Anthropic's SDKs, and all that Stainless makes
    if count is not None and count.isdecimal():
        return _TELLS | (_RETRY if int(count[:9]) else 0)
    if (attempt := _ATTEMPT.search(headers.get("amz-sdk-request", ""))) is not None:  # AWS' SDKs
        return _TELLS | (_RETRY if int(attempt[1]) > 1 else 0)
    return 0


class _Prompt:
    """All that was asked, hashed once."""

    __slots__ = ("_hash", "earlier", "question")

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=8)
        self.earlier: int | None = None
        """Key of the request whose answer stands before the last turn; None where there is none."""
        self.question: str | None = None
        """What the user had asked there."""

    @classmethod
    def of(cls, found: Extraction) -> _Prompt:
        asked, fields, said = cls(), found.request_fields, found.messages
        asked._hash.update(_settings(fields))
        if not said:
            asked._add("user", found.query or "")
            return asked
        goes_on = len(said) > 2 and said[-1]["role"] == "user" and said[-2]["role"] == "assistant"
        attached = _attached(fields)
        for turn in said[:-2] if goes_on else said:
            asked._add(turn["role"], turn["content"])
        if goes_on:
            asked.question = next((turn["content"] for turn in reversed(said[:-2]) if turn["role"] == "user"), None)
            asked.earlier = asked.key()
            for turn in said[-2:]:
                asked._add(turn["role"], turn["content"])
        if attached:
            asked._hash.update(attached)
        return asked

    def key(self) -> int:
        return int.from_bytes(self._hash.digest(), "big", signed=True)

    def _add(self, role: str, content: str) -> None:
        self._hash.update(f"\0{role}\0{content}".encode("utf-8", "surrogatepass"))


def _settings(fields: Mapping[str, Any]) -> bytes:
    said = {name: fields[name] for name in _SETTINGS if name in fields}
    return orjson.dumps(said, option=orjson.OPT_NON_STR_KEYS, default=str) if said else b""


def _attached(fields: Mapping[str, Any]) -> bytes:
    """What the last turn brings that is no words: another picture is another question."""
    turns: Any = next((fields[name] for name in _TURNS if isinstance(fields.get(name), list)), ())
    last = turns[-1] if turns else None
    content = (last.get("content") or last.get("parts")) if isinstance(last, dict) else None
    if not isinstance(content, list):
        return b""
    rest = [part for part in content if not _is_words(part)]
    return orjson.dumps(rest, default=str) if rest else b""


def _is_words(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and (part.get("type") in _WORDS or set(part) == {"text"}))
