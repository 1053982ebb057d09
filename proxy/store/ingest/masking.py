"""What the dictionary for bodies is trained on: the shape of exchanges, and nothing that any one user has said.

A dictionary outlives the bodies it was trained on, and holds stretches of them as they were. So everything is blanked
first: outside of JSON strings all but punctuation and the commonest values, and every string but those that the APIs
themselves spell (`VOCABULARY`: names of members, roles, types) and those that at least `SHARED_BY` different users of
this installation have sent, each the very same one (an application's system prompt, its tools, its model's name). A
string counts whole: a sentence made of common words is nobody else's. Records without a user vouch for nothing.

What is blanked makes room for single words that so many users have used, in an order that is nobody's: bodies that are
packed later are full of them. Nothing here needs to understand what it reads: of bodies that are cut, or no JSON at
all, what is not clearly such a string goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final

__all__ = ["SHARED_BY", "VOCABULARY", "blanked"]

SHARED_BY: Final = 20
"""Users who must have sent a string, for it to be no one's own."""
_LONGEST: Final = 8192
_STRING: Final = re.compile(rb'"((?>(?:[^"\\]++|\\.)*))"', re.DOTALL)
_WORD: Final = re.compile(rb"[A-Za-z\x80-\xff]{2,}")
_OUTSIDE: Final = re.compile(rb"[^\[\]{}:,]+")
_COMMON_VALUES: Final = frozenset((b"null", b"true", b"false", b"0", b"1"))

VOCABULARY: Final = frozenset(
    b"""
    POST GET PUT DELETE /v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/messages /api/chat
    /api/generate accept accept-encoding accept-language anthropic-version application/json content content-encoding
    content-length content-type date host origin referer server text/event-stream text/plain traceparent user-agent
    vary x-request-id x-ratchet-request-id x-ratchet-user openai-processing-ms openai-version request-id
    messages role user assistant system developer tool function model name text type input output prompt suffix echo
    temperature top_p top_k n stream stream_options include_usage stop max_tokens max_completion_tokens
    max_output_tokens presence_penalty frequency_penalty logit_bias logprobs top_logprobs seed response_format
    json_object json_schema schema strict tools tool_choice parallel_tool_calls tool_calls tool_call_id tool_use
    tool_result tool_use_id functions function_call arguments parameters properties required description enum items
    object string number integer boolean array null additionalProperties title default anyOf id created created_at
    choices index message delta finish_reason stop_reason stop_sequence length content_filter end_turn max_tokens
    usage prompt_tokens completion_tokens total_tokens input_tokens output_tokens prompt_tokens_details
    completion_tokens_details input_tokens_details output_tokens_details cached_tokens audio_tokens reasoning_tokens
    accepted_prediction_tokens rejected_prediction_tokens cache_creation_input_tokens cache_read_input_tokens
    system_fingerprint service_tier chat.completion chat.completion.chunk text_completion response completed
    in_progress incomplete failed status error code param output_text input_text refusal annotations reasoning
    reasoning_content reasoning_effort effort summary thinking budget_tokens redacted_thinking signature
    previous_response_id instructions metadata store truncation incomplete_details image_url url detail auto low high
    input_image image source base64 media_type data file file_id input_audio audio format contents parts candidates
    generationConfig systemInstruction finishReason usageMetadata promptTokenCount candidatesTokenCount
    totalTokenCount safetyRatings category probability options keep_alive done done_reason total_duration
    load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration message_start user_id session_id
    conversation conversation_id safety_identifier prompt_cache_key encoding_format embedding list float
    """.split()
)
"""Strings that the APIs spell."""


def blanked(samples: Sequence[tuple[int | None, bytes]]) -> list[bytes]:
    """The samples, each with the user who sent it (None: unknown), without what might be a user's own."""
    kept = VOCABULARY | _shared(samples, lambda sample: (s for s in _STRING.findall(sample) if len(s) <= _LONGEST))
    words = sorted(_shared(samples, _WORD.findall), key=lambda word: blake2b(word).digest())
    fill = _Fill(b" ".join(words))
    return [_blank(sample, kept, fill) for _, sample in samples]


class _Fill:
    """A text that is used up from its beginning, again and again."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next bytes of it, at most `size`."""
        taken = self._text[self._at : self._at + size]
        self._at = self._at + size if self._at + size < len(self._text) else 0
        return taken


def _shared(samples: Sequence[tuple[int | None, bytes]], parts: Callable[[bytes], Iterable[bytes]]) -> frozenset[bytes]:
    """Those `parts` of the samples that enough different users have sent."""
    senders: dict[bytes, set[int]] = {}
    for user, sample in samples:
        if user is not None:
            for part in set(parts(sample)):
                senders.setdefault(part, set()).add(user)
    return frozenset(part for part, users in senders.items() if len(users) >= SHARED_BY)


def _blank(sample: bytes, kept: frozenset[bytes], fill: _Fill) -> bytes:
    parts = []
    at = 0
    for found in _STRING.finditer(sample):
        parts.append(_OUTSIDE.sub(_value, sample[at : found.start()]))
        parts.append(found[0] if found[1] in kept else b'"%b"' % fill.take(len(found[1])))
        at = found.end()
    parts.append(_OUTSIDE.sub(_value, sample[at:]))
    return b"".join(parts)


def _value(found: re.Match[bytes]) -> bytes:
    value = found[0].strip()
    return value if value in _COMMON_VALUES else b""
