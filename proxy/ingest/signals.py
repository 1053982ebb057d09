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
_OK: Final = Outcome.OK
_LEFT: Final = Outcome.CLIENT_DISCONNECT
_FIRST: Final = b"first message\0"
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
    answered = 200 <= status < 400 and (outcome is _OK or can_be_judged(outcome, status))
    bits = _ANSWER if answered else 0
    if outcome is _OK:
        bits |= _WAITED
    elif outcome is _LEFT:
        bits |= _WAITED | _ABANDONED
    said = found.messages
    if not whole or not user_known or not (said or found.query):
        return Shown(bits, None, None)
    bits |= _attempt(headers)
    if answered:
        bits |= _JUDGEABLE
    key = _key(found.request_fields, said, found.query)
    if len(said) > 2 and said[-1]["role"] == "user" and said[-2]["role"] == "assistant":
        before = said[:-2]
        question = next((turn["content"] for turn in reversed(before) if turn["role"] == "user"), None)
        if complaint_in(found.query or "", question):
            return Shown(bits | _COMPLAINT, key, _key(found.request_fields, before, None, attached=False))
    return Shown(bits, key, None)


def thread_of(found: Extraction, user_hash: UserHash | None) -> int | None:
    """What stands for a conversation that has no id: the answer that it goes on from, which the provider keeps; else
    its first message of a user."""
    earlier = found.request_fields.get("previous_response_id")
    if isinstance(earlier, str) and earlier:
        return alias_hash(earlier)  # as aliases are known by; `proxy.store.ingest.chains` finds the answer
    if user_hash is None:
        return None
    for turn in found.messages:
        if turn["role"] == "user":
            return user_hash(_FIRST + turn["content"].encode("utf-8", "surrogatepass"))
    return user_hash(_FIRST + found.query.encode("utf-8", "surrogatepass")) if found.query else None


def _attempt(headers: Mapping[str, str]) -> int:
    """Whether the client says which attempt this is, and whether it is one after the first."""
    count = headers.get("x-stainless-retry-count")  # OpenAI's and Anthropic's SDKs, and all that Stainless makes
    if count is not None:
        return (_TELLS | (_RETRY if int(count[:9]) else 0)) if count.isdecimal() else 0
    told = headers.get("amz-sdk-request")  # AWS' SDKs
    attempt = None if told is None else _ATTEMPT.search(told)
    return 0 if attempt is None else _TELLS | (_RETRY if int(attempt[1]) > 1 else 0)


def _key(fields: dict[str, Any], said: tuple[dict[str, str], ...], query: str | None, *, attached: bool = True) -> int:
    """Of all that was said, and how it was to be answered."""
    settings = orjson.dumps([fields.get(name) for name in _SETTINGS], default=str)
    texts = "\0".join([f"{turn['role']}\1{turn['content']}" for turn in said]) if said else f"user\1{query}"
    more = _attached(fields) if attached else b""
    data = settings + texts.encode("utf-8", "surrogatepass") + more
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big", signed=True)


def _attached(fields: dict[str, Any]) -> bytes:
    """What the last turn brings that is no words: another picture is another question."""
    for name in _TURNS:
        turns = fields.get(name)
        if isinstance(turns, list) and turns:
            last = turns[-1]
            content = (last.get("content") or last.get("parts")) if isinstance(last, dict) else None
            if not isinstance(content, list):
                return b""
            rest = [part for part in content if not _is_words(part)]
            return orjson.dumps(rest, default=str) if rest else b""
    return b""


def _is_words(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and (part.get("type") in _WORDS or set(part) == {"text"}))
