"""text-generation-inference: tokens one by one, special ones apart, and the whole text at the end."""

from typing import Any

import pytest

from proxy.wire.extract import Extraction
from tests.harness.shapes import call, facts, sse, streamed, upto

ASK = {"inputs": "hi", "parameters": {"details": True}}
DETAILS = {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 5, "seed": None}
PLAIN = {"generated_text": "Rain.", "details": DETAILS}


def token(text: str, *, special: bool = False, **more: Any) -> dict[str, Any]:
    return {"index": 1, "token": {"id": 1, "text": text, "logprob": -0.1, "special": special}, "generated_text": None,
            "details": None, **more}  # fmt: skip


EVENTS = [token("Ra"), token("in."), token("</s>", special=True, generated_text="Rain.", details=DETAILS)]


def stream(*events: Any, path: str = "/generate_stream") -> Extraction:
    return streamed(path, ASK, sse(*events, space=False))


@pytest.mark.parametrize("path", ["/generate", "/", "", "/tgi/generate"])
def test_plain_and_streamed_say_the_same(path: str) -> None:
    plain = call(path, ASK, PLAIN)
    assert (plain.kind, plain.query, plain.response, plain.finish_reason) == ("tgi", "hi", "Rain.", "eos_token")
    assert (plain.prompt_tokens, plain.completion_tokens) == (5, 3)
    assert facts(call(path, ASK, [PLAIN])) == facts(plain), "a list of one"
    for found in (stream(*EVENTS), stream(*EVENTS, path="/"), stream(*EVENTS, path="/generate")):
        assert facts(found) == facts(plain)
        assert found.reassembled == PLAIN
        assert (found.whole, found.unread) == (True, False)


def test_prompt_tokens_of_a_prefill_and_unknown_ones() -> None:
    prefill = {"generated_tokens": 2, "prefill": [{"id": 1}, {"id": 2}]}
    assert call("/generate", ASK, {"generated_text": "x", "details": prefill}).prompt_tokens == 2
    assert call("/generate", ASK, {"generated_text": "x", "details": prefill | {"prefill": []}}).prompt_tokens is None
    assert call("/generate", ASK, {"generated_text": "x"}).completion_tokens is None


def test_json_by_grammar() -> None:
    assert call(
        "/generate", {"inputs": "hi", "parameters": {"grammar": {"type": "json", "value": {}}}}, PLAIN
    ).json_requested


def test_a_stream_without_its_end_has_no_special_tokens_either() -> None:
    found = stream(*EVENTS[:2], token("<eot>", special=True))
    assert (found.response, found.whole, found.failed) == ("Rain.", False, False)
    assert found.first_content == upto(sse(EVENTS[0], space=False))
    assert stream(token("<bos>", special=True)).first_content is None


def test_errors() -> None:
    error = {"error": "Request failed during generation", "error_type": "generation"}
    for found in (stream(EVENTS[0], error), stream(error), call("/generate", ASK, error)):
        assert found.failed
        assert found.error == "Request failed during generation"
    refused = call("/generate", ASK, {"error": "Input validation error", "error_type": "validation"}, status=422)
    assert (refused.error, refused.response) == ("Input validation error", None)


def test_kserve_on_the_same_path_is_told_apart() -> None:
    assert call("/v2/models/m/generate", {"text_input": "hi"}, {"text_output": "Rain."}).kind == "kserve"
    tensors = call(
        "/generate", {"inputs": [{"name": "x", "data": ["hi"]}]}, {"outputs": [{"name": "y", "data": ["Rain."]}]}
    )
    assert (tensors.kind, tensors.response) == ("kserve", "Rain.")
    text = streamed(
        "/v2/models/m/generate_stream", {"text_input": "hi"}, sse({"text_output": "Ra"}, {"text_output": "in."})
    )
    assert (text.kind, text.response) == ("kserve", "Rain.")
    assert call("/", {"text": "hi"}, {"label": "x"}).kind == "json", "the root proves nothing"
