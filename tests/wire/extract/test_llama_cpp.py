"""llama.cpp's own completions: told apart from OpenAI's by the answer, and its errors on lines of their own."""

from typing import Any

import pytest

from tests.harness.shapes import call, facts, sse, streamed, upto

ASK = {"prompt": "hi", "n_predict": 9}
TIMINGS = {"prompt_n": 6, "cache_n": 3, "predicted_n": 2}
LAST = {"stop": True, "model": "m", "stop_type": "eos", "stopping_word": "", "tokens_predicted": 2,
        "tokens_evaluated": 9, "tokens_cached": 10, "truncated": False,
        "timings": TIMINGS}  # fmt: skip
PLAIN = {"content": "Rain.", **LAST}
EVENTS = [{"content": "Ra", "stop": False}, {"content": "in.", "stop": False}, {"content": "", **LAST}]


@pytest.mark.parametrize("path", ["/completion", "/completions", "/infill"])
def test_plain_and_streamed_say_the_same(path: str) -> None:
    plain = call(path, ASK, PLAIN)
    assert (plain.kind, plain.query, plain.response, plain.model) == ("llama.cpp", "hi", "Rain.", "m")
    assert (plain.prompt_tokens, plain.completion_tokens, plain.cache_read_tokens) == (9, 2, 3)
    assert plain.finish_reason == "eos"
    found = streamed(path, ASK, sse(*EVENTS))
    assert facts(found) == facts(plain)
    assert found.reassembled == PLAIN
    assert (found.whole, found.first_content) == (True, upto(sse(EVENTS[0])))


def test_openai_on_the_same_path_is_told_apart() -> None:
    found = call("/v1/completions", ASK, {"choices": [{"text": "Rain.", "finish_reason": "stop"}]})
    assert (found.kind, found.response) == ("completions", "Rain.")
    assert call("/v1/completions", ASK, {"error": {"message": "no"}}, status=400).kind == "completions"


@pytest.mark.parametrize(("ask", "query"), [
    ({"prompt": ["a", "b"]}, "a\nb"), ({"prompt": [1, 2]}, "[1,2]"), ({"prompt": {"prompt_string": "hi"}}, "hi"),
    ({"input_prefix": "def add(", "input_suffix": "return a + b"}, "def add("),
    ({"input_prefix": "def add(", "prompt": "a"}, "def add(\na"), ({"prompt": {}}, None),
])  # fmt: skip
def test_what_may_be_asked(ask: dict[str, Any], query: str | None) -> None:
    assert call("/infill", ask, PLAIN).query == query
    assert call("/completion", ask | {"json_schema": {}}, PLAIN).json_requested


@pytest.mark.parametrize(("end", "reason"), [
    ({"stop_type": "limit"}, "limit"), ({"stop_type": "word"}, "word"), ({"stop_type": "none"}, None), ({}, None),
    ({"stopped_limit": True, "stopped_eos": False}, "limit"), ({"stopped_word": True}, "word"),
])  # fmt: skip
def test_why_it_stopped(end: dict[str, Any], reason: str | None) -> None:
    assert call("/completion", ASK, {"content": "x", "stop": True, **end}).finish_reason == reason


def test_tokens_by_the_clock_only() -> None:
    found = call(
        "/completion", ASK, {"content": "x", "stop": True, "timings": {"prompt_n": 6, "cache_n": 3, "predicted_n": 2}}
    )
    assert (found.prompt_tokens, found.completion_tokens) == (9, 2)


def test_a_stream_without_its_end_and_one_that_breaks() -> None:
    quiet = streamed("/completion", ASK, sse(*EVENTS[:2]))
    assert (quiet.response, quiet.whole, quiet.failed) == ("Rain.", False, False)
    error = {"code": 500, "message": "out of slots", "type": "server_error"}
    lines = b'error: {"code":500,"message":"out of slots","type":"server_error"}\n\n'
    for tail in (sse({"error": error}), lines):
        for head in (b"", sse(EVENTS[0])):
            found = streamed("/completion", ASK, head + tail)
            assert found.failed
            assert found.error == "out of slots"
            assert not found.unread
