"""The format check: is an answer empty, truncated, refused, broken, looping? A score in [0, 1] without any model.

An answer without a visible defect scores 1, any other as low as its worst defect: nothing else about it can make up
for that. So the score says "nothing is visibly wrong", not "this is right": an answer that is wrong or flatters scores
1 as well. The application and people say more, and win where they speak. It is cheap (some 5 µs for 500 characters
where it is compiled, twice that where not) and the same for both arms.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from policies.repetition import repeats
from policies.scoring_config import ScoringConfig

__all__ = ["FORMAT_CHECK", "Score", "ScoringConfig", "score", "scorer_label"]

FORMAT_CHECK: Final = "heuristic"
"""What store, exports and API have called the format check since the first version; people read `scorer_label`."""


@dataclass(slots=True)
class Score:
    """A score in [0, 1] and the defects that explain it. Nobody changes one: most answers share theirs.

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
_NEVER_FIRST: Final = frozenset("bcfghknopqrtvwxyzBCFGHKNOPQRTVWXYZ0123456789_")
"""With these no such text begins: half of all answers are told by their first letter."""
_FAULTLESS: Final = Score(1.0)


def score(
    text: str,
    config: ScoringConfig,
    *,
    finish_reason: str | None = None,
    refused: bool = False,
    json_requested: bool = False,
    malformed: bool = False,
    partial_text: bool = False,
) -> Score:
    """How good the answer looks, with reasons: 1 without a defect, else the score of the worst one.

    `finish_reason`: as the provider says it, in its own spelling: stop, length, end_turn, MAX_TOKENS, content_filter, …
    `refused`: the provider marked the answer as a refusal. `malformed`: it is the text of a tool call that its server
    did not understand; calls that it did understand, which `text` shows in the same way, are none. `partial_text`:
    `text` is only the beginning of what was answered (capture limit), and its end proves nothing.
    """
    text = text.strip()
    if len(text) < max(config.min_response_chars, 1) and not refused:
        return Score(0.0, ("empty",))
    defects: list[tuple[float, str]] = []
    reason = (finish_reason or "").casefold().replace("-", "_")
    if reason in _FAILURES:
        defects.append((0.0, "failed"))
    is_json = _is_json(text) if json_requested or text[:1] in ("{", "[") else False
    if refused or reason in _REFUSALS or (not is_json and _declines(text)):
        defects.append((config.refusal_score, "refusal"))
    if reason in _LIMITS:
        defects.append((config.truncated_score, "truncated"))
    if not is_json and repeats(text):
        defects.append((config.repetition_score, "repetition"))
    if malformed:
        defects.append((0.0, "malformed"))
    if json_requested and not is_json and not partial_text and "<tool_call>" not in text:
        defects.append((config.invalid_json_score, "invalid_json"))
    if not defects:
        return _FAULTLESS
    return Score(min(value for value, _ in defects), tuple(defect for _, defect in defects))


def scorer_label(scorer: str) -> str:
    """`heuristic` → "format check"; any other is called as it is."""
    return "format check" if scorer == FORMAT_CHECK else scorer


def _declines(text: str) -> bool:
    """Whether the answer begins as refusals do. Later on, the same words are usually part of an answer."""
    if text[:1] in _NEVER_FIRST:
        return False
    return _DECLINES.match(text[:_HEAD_CHARS].replace("’", "'")) is not None


def _is_json(text: str) -> bool:
    try:
        _JSON.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    """NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


_JSON: Final = json.JSONDecoder(parse_constant=_no_constant)
