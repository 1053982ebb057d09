"""The format check: is an answer empty, truncated, refused, broken, looping? A score in [0, 1] without any model.

An answer without a visible defect scores 1, any other as low as its worst defect: nothing else about it can make up
for that. So the score says "nothing is visibly wrong", not "this is right": an answer that is wrong or flatters scores
1 as well. The application and people say more, and win where they speak. It is cheap (some 15 µs for 1 KB) and the
same for both arms.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Final, NoReturn

from policies.intervals import Interval

__all__ = ["FORMAT_CHECK", "ResponseFacts", "Score", "ScoringConfig", "score", "scorer_label"]

FORMAT_CHECK: Final = "heuristic"
"""What store, exports and API have called the format check since the first version; people read `scorer_label`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """The format check: scores in [0, 1] by visible defects; a score sent with feedback or found by pointer wins."""

    enabled: bool = True
    """Score every answer whose text was understood."""
    min_response_chars: Annotated[int, Interval("[0, inf)", "a count")] = 1
    """Shorter answers are empty and score 0."""
    refusal_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.2
    """Score of an answer that declines."""
    truncated_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.4
    """Score of an answer that a limit truncated."""
    repetition_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.2
    """Score of an answer that repeats itself."""
    invalid_json_score: Annotated[float, Interval("[0, 1]", "a score, 0 to 1")] = 0.0
    """Score of an answer that is no JSON where JSON was asked for."""


@dataclass(slots=True, kw_only=True)
class ResponseFacts:
    """What is known about an answer. Nobody changes one; not frozen, as every record makes one, and a frozen one takes
    twice as long to make. The same goes for Score."""

    text: str
    finish_reason: str | None = None
    """As the provider says it, in its own spelling: stop, length, end_turn, MAX_TOKENS, content_filter, …"""
    refused: bool = False
    """The provider marked the answer as a refusal."""
    json_requested: bool = False
    malformed: bool = False
    """The answer is the text of a tool call that its server did not understand. Calls that it did understand, which
    `text` shows in the same way, are none."""
    partial_text: bool = False
    """`text` is only the beginning of what was answered (capture limit): its end proves nothing."""


@dataclass(slots=True)
class Score:
    """A score in [0, 1] and the defects that explain it.

    They are empty, failed, refusal, truncated, repetition, invalid_json, malformed.
    """

    value: float
    reasons: tuple[str, ...] = ()


_LIMITS: Final = frozenset(
    {
        "length", "max_tokens", "max_output_tokens", "max_length", "model_length", "limit", "error_limit",
        "model_context_window_exceeded",
    }
)  # fmt: skip
"""Finish reasons of a truncated answer, in lower case with underscores, of all APIs: OpenAI and TGI, Anthropic,
Gemini, Cohere and Bedrock, Mistral, llama.cpp."""
_REFUSALS: Final = frozenset(
    {
        "content_filter", "content_filtered", "guardrail_intervened", "refusal", "sensitive", "error_toxic",
        "safety", "prohibited_content", "blocklist", "recitation", "spii", "language",
        "image_safety", "image_prohibited_content", "image_recitation",
    }
)  # fmt: skip
"""Of one that was withheld."""
_FAILURES: Final = frozenset(
    {
        "error", "abort", "aborted", "cancelled", "timeout", "network_error", "insufficient_system_resource",
        "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls", "malformed_model_output",
        "malformed_tool_use",
    }
)  # fmt: skip
"""Of one that the model or its server broke off or spoilt. Such answers are failed, and are not scored; should one be,
it is worth nothing."""
_HEAD_CHARS: Final = 240
_CANNOT: Final = r"(?:can(?:no|')?t|can\s+not|won't|will\s+not|(?:'m|\s+am)\s+(?:unable|not\s+able)\s+to)"
_LACK: Final = r"(?:do\s+not|don't)\s+(?:have|feel\s+comfortable)"
_HELP: Final = (
    r"(?:be\s+able\s+to\s+|do\s+that|help|assist|comply|provide|fulfil|answer|create|write|generate|discuss|share|"
    r"continue|support|engage)"
)
_DECLINES: Final = re.compile(
    rf"""\W*(?:
        (?:(?:i'?m|i\s+am)\s+(?:very\s+|really\s+|so\s+)?sorry|sorry|i\s+apologi[sz]e|my\s+apologies|unfortunately
            |as\s+an\s+ai(?:\s+language\s+model|\s+assistant)?)
            \b[^.!?\n]{{0,60}}?\bi\s*(?:{_CANNOT}|{_LACK})
      | i\s*{_CANNOT}\s+{_HELP}
      | i\s+must\s+(?:respectfully\s+)?decline\b
      | es\s+tut\s+mir\s+leid\b[^.!?\n]{{0,60}}?\bkann\b[^.!?\n]{{0,60}}?\b(?:nicht|keine?n?)\b
      | (?:je\s+suis\s+)?désolée?\b[^.!?\n]{{0,40}}?\bje\s+ne\s+(?:peux|suis)\b
      | lo\s+siento\b[^.!?\n]{{0,40}}?\bno\s+puedo\b
      | (?:很)?抱歉[^。！？\n]{{0,20}}?(?:无法|不能)
      | 申し訳(?:ありません|ございません)[^。！？\n]{{0,40}}?(?:できません|できかねます)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_PIECES: Final = 240
"""How much of an answer's end is looked at for repetition: models that start to loop do not stop."""
_MIN_PIECES: Final = 40
_GRAM: Final = 4
_DISTINCT_SHARE: Final = 0.4
"""Text that repeats itself has fewer distinct four-word runs than this share; prose has 0.95 and more."""
_WORD_CHARS: Final = 15


def score(facts: ResponseFacts, config: ScoringConfig) -> Score:
    """How good the answer looks, with reasons: 1 without a defect, else the score of the worst one."""
    text = facts.text.strip()
    if len(text) < max(config.min_response_chars, 1) and not facts.refused:
        return Score(0.0, ("empty",))
    defects = []
    reason = (facts.finish_reason or "").casefold().replace("-", "_")
    if reason in _FAILURES:
        defects.append((0.0, "failed"))
    is_json = _is_json(text) if facts.json_requested or text[:1] in ("{", "[") else False
    if facts.refused or reason in _REFUSALS or (not is_json and _declines(text)):
        defects.append((config.refusal_score, "refusal"))
    if reason in _LIMITS:
        defects.append((config.truncated_score, "truncated"))
    if not is_json and _repeats(text):
        defects.append((config.repetition_score, "repetition"))
    if facts.malformed:
        defects.append((0.0, "malformed"))
    if facts.json_requested and not is_json and not facts.partial_text and "<tool_call>" not in text:
        defects.append((config.invalid_json_score, "invalid_json"))
    return Score(min((value for value, _ in defects), default=1.0), tuple(reason for _, reason in defects))


def scorer_label(scorer: str) -> str:
    """`heuristic` → "format check"; any other is called as it is."""
    return "format check" if scorer == FORMAT_CHECK else scorer


def _declines(text: str) -> bool:
    """Whether the answer begins as refusals do. Later on, the same words are usually part of an answer."""
    return _DECLINES.match(text[:_HEAD_CHARS].replace("’", "'")) is not None


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _repeats(text: str) -> bool:
    """Whether the end of the text says the same again and again: in words, or in characters where nothing is spaced."""
    tail = text[-_PIECES * _WORD_CHARS :]
    pieces: str | list[str] = tail.split()[-_PIECES:]
    if len(tail) > _WORD_CHARS * len(pieces):
        pieces = tail[-_PIECES:]
    grams = len(pieces) - _GRAM + 1
    enough = _DISTINCT_SHARE * grams
    if grams < _MIN_PIECES or len(set(pieces)) - _GRAM + 1 >= enough:
        return False  # every distinct piece but the last three begins a run of its own: no need to count runs
    distinct = len(set(zip(*(pieces[start : start + grams] for start in range(_GRAM)), strict=True)))
    return distinct < enough
