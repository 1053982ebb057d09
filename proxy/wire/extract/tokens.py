"""Token counts wherever servers put them, read into an Answer.

OpenAI counts cached and reasoning tokens within the others, and Anthropic beside them; an Answer has them within.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract.model import Answer
from proxy.wire.extract.values import count, items, mapping, sum_of

__all__ = ["count_in", "usage_of"]

_READ: Final = ("prompt_tokens_details", "input_tokens_details")
_WRITTEN: Final = ("completion_tokens_details", "output_tokens_details")


def usage_of(response: dict[str, Any]) -> dict[str, Any]:
    """The usage of an answer: its own, Groq's `x_groq`, or that of its last choice which has one."""
    if usage := mapping(response.get("usage")):
        return usage
    if usage := mapping(mapping(response.get("x_groq")).get("usage")):
        return usage
    for choice in reversed(items(response.get("choices"))):
        if usage := mapping(mapping(choice).get("usage")):
            return usage
    return {}


def count_in(answer: Answer, usage: dict[str, Any]) -> Answer:
    """`answer` with the counts of `usage`, in whichever words it has them."""
    if not usage:
        return answer
    read = next((details for key in _READ if (details := usage.get(key))), None)
    written = next((details for key in _WRITTEN if (details := usage.get(key))), None)
    reads, writes = mapping(read), mapping(written)
    answer.prompt_tokens = _first(usage, "prompt_tokens", "inputTokens", "promptTokens")
    answer.completion_tokens = _first(usage, "completion_tokens", "output_tokens", "outputTokens", "completionTokens")
    answer.cache_read_tokens = _first(reads, "cached_tokens", "cache_read_tokens")
    if answer.cache_read_tokens is None:
        answer.cache_read_tokens = _first(usage, "cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")
    answer.cache_write_tokens = _first(reads, "cache_write_tokens", "cache_creation_tokens")
    if answer.cache_write_tokens is None:
        answer.cache_write_tokens = _cache_writes(usage)
    answer.reasoning_tokens = _first(writes, "reasoning_tokens", "thinking_tokens")
    if answer.reasoning_tokens is None:
        answer.reasoning_tokens = _first(usage, "reasoning_tokens")
    if answer.prompt_tokens is None and "input_tokens" in usage:
        answer.prompt_tokens = _input(usage, answer.cache_write_tokens)
    return answer


def _first(fields: dict[str, Any], *names: str) -> int | None:
    return next((found for name in names if (found := count(fields.get(name))) is not None), None)


def _cache_writes(usage: dict[str, Any]) -> int | None:
    """Anthropic's sum, or the parts of it by how long they are kept."""
    found = count(usage.get("cache_creation_input_tokens"))
    return sum_of(mapping(usage.get("cache_creation")).values()) if found is None else found


def _input(usage: dict[str, Any], written: int | None) -> int | None:
    """The tokens of the prompt where `input_tokens` counts them: without those of the cache in Anthropic's words."""
    if any(key in usage for key in _READ):
        return count(usage.get("input_tokens"))
    return sum_of((usage.get("input_tokens"), usage.get("cache_read_input_tokens"), written))
