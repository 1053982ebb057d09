"""Token counts wherever servers put them, read into an Answer.

OpenAI counts cached and reasoning tokens within the others, and Anthropic beside them; an Answer has them within.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.wire.extract.model import ParsedResponse
from proxy.wire.extract.values import count, items, mapping, sum_of

__all__ = ["add_usage", "count_in", "usage_of"]

_RARE: Final = frozenset({
    "prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details",
    "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "prompt_cache_hit_tokens",
    "cached_tokens", "reasoning_tokens", "inputTokens", "outputTokens", "promptTokens", "completionTokens",
})  # fmt: skip
"""Members of a usage that need more than a look."""


def usage_of(response: dict[str, Any]) -> dict[str, Any]:
    """The usage of an answer: its own, Groq's `x_groq`, or that of its last choice which has one."""
    if usage := mapping(response.get("usage")):
        return usage
    if usage := mapping(mapping(response.get("x_groq")).get("usage")):
        return usage
    for choice in items(response.get("choices"))[::-1]:
        if usage := mapping(mapping(choice).get("usage")):
            return usage
    return {}


def add_usage(whole: dict[str, Any], event: dict[str, Any]) -> None:
    """The usage in a chunk, if it has one, put into the `whole` answer; what is null there erases nothing."""
    choices = event.get("choices")
    last = choices[-1] if choices and isinstance(choices, list) else None
    if "usage" not in event and "x_groq" not in event and not (isinstance(last, dict) and "usage" in last):
        return  # nearly every chunk
    if usage := usage_of(event):
        whole["usage"] = mapping(whole.get("usage")) | {key: n for key, n in usage.items() if n is not None}


def count_in(answer: ParsedResponse, usage: dict[str, Any]) -> ParsedResponse:
    """`parse_response` with the counts of `usage`, in whichever words it has them."""
    if not usage:
        return answer
    answer.prompt_tokens = count(usage.get("prompt_tokens", usage.get("input_tokens")))
    answer.completion_tokens = count(usage.get("completion_tokens", usage.get("output_tokens")))
    for name, value in usage.items():
        if value is not None and name in _RARE:
            return _count_rare(answer, usage)
    return answer  # nearly every answer


def _count_rare(answer: ParsedResponse, usage: dict[str, Any]) -> ParsedResponse:
    reads = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    writes = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    if answer.prompt_tokens is None:
        answer.prompt_tokens = _first(usage, "inputTokens", "promptTokens")
    if answer.completion_tokens is None:
        answer.completion_tokens = _first(usage, "outputTokens", "completionTokens")
    answer.cache_read_tokens = _first(reads, "cached_tokens", "cache_read_tokens")
    if answer.cache_read_tokens is None:
        answer.cache_read_tokens = _first(usage, "cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens")
    answer.cache_write_tokens = _first(reads, "cache_write_tokens", "cache_creation_tokens")
    if answer.cache_write_tokens is None:
        answer.cache_write_tokens = _cache_writes(usage)
    answer.reasoning_tokens = _first(writes, "reasoning_tokens", "thinking_tokens")
    if answer.reasoning_tokens is None:
        answer.reasoning_tokens = _first(usage, "reasoning_tokens")
    if "prompt_tokens" not in usage and "input_tokens_details" not in usage and "inputTokens" not in usage:
        answer.prompt_tokens = sum_of(
            (answer.prompt_tokens, usage.get("cache_read_input_tokens"), answer.cache_write_tokens)
        )  # Anthropic's words, which count them beside each other
    return answer


def _first(fields: dict[str, Any], *names: str) -> int | None:
    for name in names:
        if (found := count(fields.get(name))) is not None:
            return found
    return None


def _cache_writes(usage: dict[str, Any]) -> int | None:
    """Anthropic's sum, or the parts of it by how long they are kept."""
    found = count(usage.get("cache_creation_input_tokens"))
    return sum_of(mapping(usage.get("cache_creation")).values()) if found is None else found
