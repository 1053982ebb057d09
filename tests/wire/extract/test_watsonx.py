"""IBM watsonx.ai: results, what stopped them, and counts that grow while they are streamed."""

from typing import Any

import pytest

from tests.harness.shapes import call, sse, streamed

ASK = {"model_id": "ibm/granite", "input": "hi"}
PATH = "/ml/v1/text/generation?version=2025-02-11"


def result(text: str, stop: Any, wrote: int = 2, read: int = 5) -> dict[str, Any]:
    return {"model_id": "ibm/granite-3", "results": [
        {"generated_text": text, "generated_token_count": wrote, "input_token_count": read, "stop_reason": stop}
    ]}  # fmt: skip


@pytest.mark.parametrize(("stop", "finish", "error"), [
    ("eos_token", "eos_token", None), ("MAX_TOKENS", "max_tokens", None), ("time_limit", "length", None),
    ("not_finished", None, None), ("error", "error", "finish reason error"), (None, None, None),
])  # fmt: skip
def test_why_a_result_stopped(stop: Any, finish: str | None, error: str | None) -> None:
    found = call(PATH, ASK, result("Rain.", stop))
    assert (found.kind, found.query, found.response, found.model) == ("watsonx", "hi", "Rain.", "ibm/granite-3")
    assert (found.finish_reason, found.error, found.prompt_tokens, found.completion_tokens) == (finish, error, 5, 2)


def test_a_stream_adds_its_texts_and_keeps_the_highest_counts() -> None:
    events = sse(result("Ra", "not_finished", 1), result("in.", "eos_token", 2, 0), result("", "eos_token", 0, 0))
    found = streamed("/ml/v1/text/generation_stream", ASK, events)
    assert (found.kind, found.response, found.whole, found.finish_reason) == ("watsonx", "Rain.", True, "eos_token")
    assert (found.prompt_tokens, found.completion_tokens) == (5, 2)
    cut = streamed("/ml/v1/text/generation_stream", ASK, sse(result("Ra", "not_finished", 1)))
    assert (cut.response, cut.whole, cut.finish_reason) == ("Ra", False, None)


def test_a_deployment_is_asked_with_the_variables_of_its_template() -> None:
    path = "/ml/v1/deployments/d/text/generation"
    found = call(path, {"parameters": {"prompt_variables": {"a": "b"}}}, {"results": []})
    assert (found.kind, found.query, found.response, found.model) == ("watsonx", None, None, None)
    assert call(path, {"hello": 1}, {"answer": "x"}).kind == "json"


def test_its_chat_is_a_chat() -> None:
    asked = {"model_id": "ibm/granite", "messages": [{"role": "user", "content": "hi"}]}
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Rain."}, "finish_reason": "stop"}]}
    found = call("/ml/v1/text/chat?version=2025-02-11", asked, said)
    assert (found.kind, found.query, found.response) == ("chat", "hi", "Rain.")
