"""Token counts, wherever servers put them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.extract import CapturedExchange, Extraction, ParsedResponse, extract
from proxy.wire.extract import tokens as counting

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}


def answered(response: dict[str, Any], target: str = "/v1/chat/completions", request: bytes = CHAT) -> Extraction:
    return extract(CapturedExchange(target=target, request=request, response=json.dumps(response).encode()))


def streamed(*chunks: dict[str, Any], target: str = "/v1/chat/completions", request: bytes = CHAT) -> Extraction:
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    return extract(
        CapturedExchange(target=target, request=request, response=body.encode(), response_type="text/event-stream")
    )


def tokens(found: Extraction) -> tuple[int | None, ...]:
    return (found.prompt_tokens, found.completion_tokens, found.cache_read_tokens, found.cache_write_tokens,
            found.reasoning_tokens)  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "right"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3}, (10, 3, None, None, None)),
        ({"prompt_tokens": 10.0, "completion_tokens": "3"}, (10, 3, None, None, None)),
        ({"prompt_tokens": 10.5, "completion_tokens": "three"}, (None,) * 5),
        ({"prompt_tokens": -1, "completion_tokens": True}, (None,) * 5),
        ({"prompt_tokens": "²", "completion_tokens": 2**31}, (None,) * 5),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8},
          "completion_tokens_details": {"reasoning_tokens": 2}}, (10, 3, 8, None, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": None,
          "completion_tokens_details": None}, (10, 3, None, None, None)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_cache_hit_tokens": 4}, (10, 3, 4, None, None)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cache_write_tokens": 6}},
         (10, 3, None, 6, None)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "reasoning_tokens": 2}, (10, 3, None, None, 2)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "cache_read_input_tokens": 4,
          "cache_creation_input_tokens": 5}, (10, 3, 4, 5, None)),
        ({"input_tokens": 10, "output_tokens": 3}, (10, 3, None, None, None)),
        ({"inputTokens": 10, "outputTokens": 3}, (10, 3, None, None, None)),
    ],
)  # fmt: skip
def test_chat(usage: dict[str, Any], right: tuple[int | None, ...]) -> None:
    assert tokens(answered({"choices": [CHOICE], "usage": usage})) == right
    chunk = {"choices": [{"index": 0, "delta": {"content": "ab"}, "finish_reason": "stop"}]}
    assert tokens(streamed(chunk, {"choices": [], "usage": usage})) == right
    assert tokens(streamed(chunk | {"x_groq": {"id": "req", "usage": usage}})) == right
    assert tokens(answered({"choices": [CHOICE], "usage": None, "x_groq": {"usage": usage}})) == right
    assert tokens(answered({"choices": [CHOICE | {"usage": usage}]})) == right
    assert tokens(streamed({"choices": [chunk["choices"][0] | {"usage": usage}]})) == right
    assert tokens(answered({"answer": "ab", "usage": usage}, target="/own", request=b'{"query":"q"}')) == right


def test_the_last_counts_are_the_ones_and_null_erases_nothing() -> None:
    def chunk(text: str, usage: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"content": text}}], "usage": usage}

    usages = [{"prompt_tokens": 10, "completion_tokens": n} for n in (1, 2, 3)]
    assert tokens(streamed(*(chunk("a", usage) for usage in usages), chunk("b", None)))[:2] == (10, 3)
    assert tokens(streamed(chunk("a", usages[0]), chunk("b", {"prompt_tokens": None, "completion_tokens": 2}),
                           {"choices": "none"}))[:2] == (10, 2)  # fmt: skip
    completion = [{"choices": [{"index": 0, "text": "a"}], "usage": usage} for usage in (*usages, None)]
    assert tokens(streamed(*completion, target="/v1/completions", request=b'{"prompt":"p"}'))[:2] == (10, 3)


@pytest.mark.parametrize(
    ("usage", "right"),
    [
        ({"input_tokens": 10, "output_tokens": 3}, (10, 3, None, None, None)),
        ({"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 2, "output_tokens": 3},
         (17, 3, 5, 2, None)),
        ({"input_tokens": 10, "cache_read_input_tokens": None, "cache_creation_input_tokens": 0, "output_tokens": 3},
         (10, 3, None, 0, None)),
        ({"input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 4},
          "output_tokens": 3}, (16, 3, None, 6, None)),
        ({"input_tokens": 10, "cache_creation_input_tokens": 6,
          "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 4}},
         (16, None, None, 6, None)),
        ({"cache_read_input_tokens": 5}, (5, None, 5, None, None)),
        ({}, (None,) * 5),
    ],
)  # fmt: skip
def test_messages(usage: dict[str, Any], right: tuple[int | None, ...]) -> None:
    content = [{"type": "text", "text": "ab"}]
    assert tokens(answered({"type": "message", "content": content, "usage": usage}, target="/v1/messages")) == right
    events = (
        {"type": "message_start", "message": {"content": [], "usage": {**usage, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    )
    if "output_tokens" in usage:
        assert tokens(streamed(*events, target="/v1/messages")) == right


def test_responses() -> None:
    usage = {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 3,
             "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 13}  # fmt: skip
    response = {"status": "completed", "output": [], "usage": usage}
    assert tokens(answered(response, "/v1/responses", b'{"input":"hi"}')) == (10, 3, 8, None, 2)


_COUNTS = st.none() | st.integers(0, 9) | st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.none() | st.integers(0, 9)
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(counting._RARE | {"prompt_tokens", "input_tokens"})), _COUNTS))
def test_a_usage_without_rare_counts_is_read_as_any_other(usage: dict[str, Any]) -> None:
    plain = ParsedResponse(
        prompt_tokens=counting.count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion_tokens=counting.count(usage.get("completion_tokens", usage.get("output_tokens"))),
    )
    assert counting.count_in(ParsedResponse(), usage) == counting._count_rare(plain, usage)
